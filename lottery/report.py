"""python -m lottery.report RUN [RUN…]: tables, figures and the page of one run, or of several.

For one run, its `figures/` and `report.html` are made again. Several runs are compared in
`comparison/`, beside the first.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundwork import terminal
from groundwork.entry import run_main
from groundwork.report import comparison, tables
from groundwork.report import page as page_lib
from groundwork.report.comparison import Comparison
from groundwork.report.tables import Rows, averages, plus_minus
from groundwork.runs.metrics import mean_and_spread
from groundwork.runs.results import readable
from lottery import plots, results, transfer_plot
from lottery.results import Point, Results

NOTE = (
    "Every number is the {averages}; test "
    "{metric} at the end of training. A mask stores zeros: by itself it makes neither the file "
    "smaller nor the network faster."
)


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares runs, with their last levels, in `comparison/` beside the first.

    Raises:
      UserError: a folder has no run with a finished level.
    """
    return _compare(_read(folders))


def records(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one record per network of the run in a folder; see `groundwork.compare`."""
    run = dataclasses.replace(results.read(folder), name=name)
    return results.records(run)


def show(folders: Sequence[Path]) -> None:
    """Draws the figures, writes the page, and prints the table of each run."""
    runs = _read(folders)
    page = page_lib.said(lambda: _write_page(runs[0]) if len(runs) == 1 else _compare(runs).page)
    for run in runs:
        title = f"{run.name}: test {run.metric.words} at the end of training"
        tables.show(title, _table(run))
        if "published" in run.config:
            tables.show("beside the published figures", _published(run))
    terminal.say(page)


def _read(folders: Sequence[Path]) -> list[Results]:
    """Returns the runs, with names that tell them apart."""
    runs = [results.read(folder) for folder in folders]
    named = zip(runs, comparison.names(folders), strict=True)
    return [dataclasses.replace(run, name=name) for run, name in named]


def _write_page(run: Results) -> Path:
    folder = run.folder / "figures"
    drawn = [
        (run.metric.title, plots.accuracy([run], folder / f"{run.metric.name}.png")),
        ("Learning curves", plots.learning_curves(run, folder / "learning_curves.png")),
        ("Layers", plots.layer_density(run, folder / "layer_density.png")),
    ]
    first = plots.first_layer_mask(run, folder / "first_layer_mask.png")
    drawn += [("First layer", first)] if first else []
    if run.points["ticket", 0].stopped_step:
        stopping = plots.early_stopping(run, folder / "early_stopping.png")
        drawn.insert(1, ("Early stopping", stopping))
    note = NOTE.format(averages=averages(run.config["replicates"]), metric=run.metric.words)
    sections = [("Results", page_lib.paragraph(note) + page_lib.table(*_table(run)))]
    if "published" in run.config:
        with readable(run.folder):
            source = page_lib.paragraph(f"Published: {run.config['published']['source']}.")
        sections.append(("Beside the published figures", source + page_lib.table(*_published(run))))
    sections += [(title, page_lib.picture(*figure)) for title, figure in drawn]
    sections.append(("Asked and kept, by layer, at the last level", _layer_table(run)))
    return page_lib.write_run(run, f"Lottery tickets: {run.name}", sections)


def _compare(runs: Sequence[Results]) -> Comparison:
    folders = [run.folder for run in runs]
    metric = comparison.metric_of(runs)
    header, rows = _last_levels(runs)
    bars = transfer_plot.accuracy(runs, comparison.folder(folders) / "transfer.png")
    return comparison.make(
        "Lottery tickets: a comparison",
        folders,
        figure=plots.accuracy(runs, comparison.folder(folders) / f"{metric.name}.png"),
        more=[("Transferred tickets", bars)] if bars else [],
        summary="Last levels",
        header=header,
        rows={run.name: row for run, row in zip(runs, rows, strict=True)},
        tables={run.name: _table(run) for run in runs},
        records=[record for run in runs for record in results.records(run)],
        metric=metric,
    )


def _table(run: Results) -> Rows:
    """Returns one row per level, with one column per branch."""
    branches = run.branches()
    stopped = bool(run.points["ticket", 0].stopped_step) if ("ticket", 0) in run.points else False
    header = ["level", "density", "parameters", *branches]
    header += ["early stop", "ticket then"] if stopped else []
    perplexed = bool(run.metric.perplexities([0.0]))
    header += ["ticket's perplexity"] if perplexed else []
    rows = []
    for point in run.of("ticket"):
        cells = [run.points.get((branch, point.level)) for branch in branches]
        row = [str(point.level), f"{point.density:.4f}", f"{point.parameters:,}"]
        row += [plus_minus(cell.accuracy) if cell else "" for cell in cells]
        if stopped:
            row += [f"{mean_and_spread(point.stopped_step)[0]:.0f}"]
            row += [plus_minus(point.stopped_accuracy)]
        row += [plus_minus(run.metric.perplexities(point.accuracy))] if perplexed else []
        rows.append(row)
    return header, rows


def _last_levels(runs: Sequence[Results]) -> Rows:
    """Returns one row per run: its last level and its dense network."""
    branches = [b for b in plots.COLOURS if any(b in run.branches() for run in runs)]
    rows = []
    for run in runs:
        last = run.of("ticket")[-1]
        cells = [run.points.get((branch, last.level)) for branch in branches]
        row = [str(last.level), f"{last.density:.4f}"]
        row += [plus_minus(cell.accuracy) if cell else "" for cell in cells]
        rows.append([*row, plus_minus(run.points["ticket", 0].accuracy)])
    return ["level", "density", *branches, "dense"], rows


def _published(run: Results) -> Rows:
    """Returns our accuracies beside the paper's, at the level that the config names."""
    published = run.config["published"]
    rows = []
    for name, level in (("ticket", None), ("random_mask", None), ("dense", 0)):
        with readable(run.folder):  # of config.json, which people write in
            level = published["level"] if level is None else level
            theirs = f"{min(published[name]):.3f} to {max(published[name]):.3f}"
        point = run.points.get(("ticket" if name == "dense" else name, level))
        ours = [f"{point.density:.4f}", plus_minus(point.accuracy)] if point else ["", "not yet"]
        rows.append([name, str(level), *ours, theirs])
    return ["branch", "level", "density", "ours", "published (lowest to highest)"], rows


def _layer_table(run: Results) -> str:
    last = run.of("ticket")[-1]
    header = ["layer", "weights", "kept (of each replicate)", "density asked", "density kept"]
    rows = [_layer_row(last, layer) for layer in last.sizes]
    return page_lib.table(header, rows)


def _layer_row(point: Point, layer: str) -> list[str]:
    kept, size = point.kept[layer], point.sizes[layer]
    together = [name for name in point.requested if name not in point.sizes]
    asked = point.requested.get(layer)
    density = f"{asked:.5f}" if asked is not None else f"ranked in {', '.join(together)}"
    return [
        layer,
        f"{size:,}",
        ", ".join(map(str, kept)),
        density,
        f"{sum(kept) / len(kept) / size:.5f}",
    ]


main = functools.partial(page_lib.draw_again, show, __doc__)

if __name__ == "__main__":
    run_main(main)
