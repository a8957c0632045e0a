"""python -m lowrank.report RUN [RUN…]: tables, figures and the page of each run, drawn again."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundwork import terminal
from groundwork.entry import run_main
from groundwork.report import comparison, tables
from groundwork.report import page as page_lib
from groundwork.report.comparison import Comparison, Curve
from groundwork.report.tables import Rows, averages, plus_minus, time_cells, time_header
from groundwork.runs.metrics import mean_and_spread
from lowrank import plots, prediction_figure, results
from lowrank.choose.candidates import DENSE
from lowrank.factorization.layers import STALLED
from lowrank.results import Factorised, Results

NOTE = (
    "{Values} and errors are the {averages}, "
    "{values} those on the test split, of the last step. Multiply-adds are those of convolutions "
    "and linear layers, for one example, from the traced computation; parameters are counted in "
    "the trees. Milliseconds are medians (quartiles) of calls in turns with the original's on the "
    "run's machine. A plan is the same for all replicates. A layer's relative error is that of its "
    "kernel (Frobenius norm), for svd_outputs that of its outputs on training examples."
)


def show(folders: Sequence[Path]) -> None:
    """Draws the figures of each run, writes its page, and prints its tables."""
    runs = [results.read(folder) for folder in folders]
    pages = [page_lib.said(functools.partial(_write_page, run)) for run in runs]
    for run, page in zip(runs, pages, strict=True):
        tables.show(f"{run.name}: networks", _network_table(run))
        tables.show(f"{run.name}: measured times", _time_table(run))
        for line in _remarks(run):
            terminal.say(line)
        terminal.say(page)


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares runs, with their best networks, in `comparison/` beside the first.

    Raises:
      UserError: a folder has no run with a finished original.
    """
    runs = dict(zip(comparison.names(folders), map(results.read, folders), strict=True))
    metric = comparison.metric_of(list(runs.values()))
    curves = [
        Curve(
            label=f"{name}: {method}",
            costs=[float(network.macs) for network in (run.original, *points)],
            accuracies=[network.test for network in (run.original, *points)],
        )
        for name, run in runs.items()
        for method, points in run.by_method().items()
    ]
    figure = comparison.folder(folders) / f"{metric.name}.png"
    return comparison.make(
        "Low rank: a comparison",
        folders,
        figure=comparison.draw(curves, "multiply-adds", figure, metric),
        summary="The most accurate" if metric.is_share else "The best",
        header=["original", "best", "MACs", "×", "fine-tuned"],
        rows={name: _best(run) for name, run in runs.items()},
        tables={name: _network_table(run) for name, run in runs.items()},
        records=[record for name, run in runs.items() for record in _records(name, run)],
        metric=metric,
    )


def _best(run: Results) -> list[str]:
    """Returns a row: the original's test accuracy, and the most accurate factorised network."""
    original = plus_minus(run.original.test)
    if not run.points:
        return [original, "none yet", "", "", ""]
    sign = run.metric.sign
    best = max(run.points, key=lambda point: sign * mean_and_spread(point.test)[0])
    share = f"{best.macs / run.original.macs:.2f}"
    return [original, best.point.name, f"{best.macs:,}", share, plus_minus(best.test)]


def records(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one record per network of the run in a folder; see `groundwork.compare`."""
    return _records(name, results.read(folder))


def _records(name: str, run: Results) -> list[dict[str, Any]]:
    """Returns one record for the original and for each point."""
    networks = [("original", run.original), *((p.point.name, p) for p in run.points)]
    return [
        {
            "run": name,
            "network": network_name,
            "replicates": len(network.test),
            "macs": network.macs,
            "parameters": network.parameters,
            **{f"ms_of_{batch}": both[1] for batch, both in network.milliseconds.items()},
            **comparison.accuracy_fields(network.test, run.metric),
        }
        for network_name, network in networks
    ]


def _write_page(run: Results) -> Path:
    folder = run.folder / "figures"
    values, metric = run.metric.plural, run.metric
    note = NOTE.format(
        averages=averages(run.config["replicates"]), values=values, Values=values.capitalize()
    )
    sections = [("What is counted", page_lib.paragraph(note))]
    if run.points:
        drawn = page_lib.picture(*plots.accuracy(run, folder / f"{metric.name}.png"))
        sections.append((f"{metric.title} against cost", drawn))
    sections.append(("Networks", page_lib.table(*_network_table(run))))
    doubts = page_lib.warning(tables.doubts(p.milliseconds for p in run.points))
    sections.append(("Measured times", page_lib.table(*_time_table(run)) + doubts))
    if remarks := _remarks(run):
        listed = page_lib.bullets(remarks)
        sections.append(("Layers that were left, or are to be looked at", listed))
    if run.points:
        drawn = page_lib.picture(*plots.spectra(run, folder / "spectra.png"))
        sections.append(("Singular values", drawn))
    for path, curves in run.predicted.items():
        name = path.replace("/", "_")
        figure = prediction_figure.draw(curves, folder / f"predict_{name}.png", metric)
        drawn = page_lib.picture(*figure)
        sections.append((f"Predicting {path} from a few of its weights", drawn))
    for point in run.points:
        sections.append((f"Layers of {point.point.name}", page_lib.table(*_layer_table(point))))
    return page_lib.write_run(run, f"Low rank: {run.name}", sections)


def _network_table(run: Results) -> Rows:
    """Returns one row per network; × is the share of the original's multiply-adds."""
    scratch = any(point.scratch for point in run.points)
    header = ["network", "parameters", "MACs", "×", "before", "fine-tuned"]
    header += ["scratch"] * scratch
    first = run.original
    rows = [["original", f"{first.parameters:,}", f"{first.macs:,}", "1.00"]]
    rows[0] += [plus_minus(first.test, 4), "", *[""] * scratch]
    if run.fine_tuned:
        rows[0][5] = plus_minus(run.fine_tuned.test, 4)
    for point in run.points:
        row = [point.point.name, f"{point.parameters:,}", f"{point.macs:,}"]
        row += [f"{point.macs / first.macs:.2f}"]
        row += [plus_minus(point.before, 4), plus_minus(point.test, 4)]
        row += [plus_minus(point.scratch.test, 4) if point.scratch else ""] * scratch
        rows.append(row)
    return header, rows


def _time_table(run: Results) -> Rows:
    """Returns one row per network: the times of its predictions and of the original's."""
    batches = list(run.original.milliseconds)
    rows = [[p.point.name, *time_cells(p.milliseconds, batches)] for p in run.points]
    return ["network", *time_header(batches)], rows


def _layer_table(point: Factorised) -> Rows:
    """Returns one row per layer: its method and rank, and its costs before and after."""
    header = ["layer", "kernel", "method", "rank", "relative error"]
    header += ["parameters", "MACs", "ms of 128"]
    rows = []
    for layer in point.layers:
        dense = layer["method"] == DENSE
        rank = "" if dense else str(layer["rank"]).strip("[]")
        error = "" if dense else plus_minus(point.errors[layer["path"]], 4)
        row = [layer["path"], "×".join(map(str, layer["shape"])), layer["method"], rank, error]
        for key, form in (("parameters", ","), ("macs", ","), ("milliseconds", ".3f")):
            before, after = (format(value, form) for value in layer[key])
            row.append(before if dense else f"{before} → {after}")
        rows.append(row)
    return header, rows


def _remarks(run: Results) -> list[str]:
    """Returns remarks about layers that were not factorised, or are slow or badly factorised."""
    remarks = []
    for point in run.points:
        for paths, reason in (
            (point.slow, "factors of the chosen rank were not faster: dense, or at a lower rank"),
            (point.needed, "factorised though not faster, as the budget needs it"),
            (point.stalled, STALLED),
        ):
            if paths:
                remarks.append(f"{point.point.name}: {', '.join(paths)}: {reason}")
    if run.points:
        remarks += [f"{path}: {reason}" for path, reason in run.points[0].not_reached.items()]
    return remarks


main = functools.partial(page_lib.draw_again, show, __doc__)

if __name__ == "__main__":
    run_main(main)
