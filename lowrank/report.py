"""python -m lowrank.report RUN [RUN…]: tables, figures and the page of each run, drawn again."""

import functools
import html
from collections.abc import Sequence
from pathlib import Path

from groundwork import atomic
from groundwork import config as config_lib
from groundwork.entry import run_main
from groundwork.report import figures
from groundwork.report.tables import Rows, averages, console, draw_again, plus_minus, text_table
from lowrank import plots, prediction_figure, results
from lowrank.choose.candidates import DENSE
from lowrank.factorization.layers import STALLED
from lowrank.results import Factorised, Results

NOTE = (
    "Accuracies and errors are the {averages}, "
    "accuracies those on the test split, of the last step. Multiply-adds are those of convolutions "
    "and linear layers, for one image, from the traced computation; parameters are counted in the "
    "trees. Milliseconds are medians of calls that took turns with the original's, on this run's "
    "machine. A plan is the same for all replicates. A layer's relative error is that of its "
    "kernel (Frobenius norm), for svd_outputs that of its outputs on training images."
)


def show(folders: Sequence[Path]) -> None:
    """Print the tables of each run, draw its figures, write its page."""
    terminal = console()
    for run in [results.read(folder) for folder in folders]:
        terminal.print(text_table(f"{run.name}: networks", _network_table(run)))
        terminal.print(text_table(f"{run.name}: measured times", _time_table(run)))
        for line in _remarks(run):
            terminal.print(line, soft_wrap=True)
        terminal.print(f"report: {_write_page(run)}", soft_wrap=True)


def _write_page(run: Results) -> Path:
    folder = run.folder / "figures"
    note = NOTE.format(averages=averages(run.config["replicates"]))
    sections = [("What is counted", f"<p>{note}</p>")]
    if run.points:
        drawn = figures.picture(*plots.accuracy(run, folder / "accuracy.png"))
        sections.append(("Accuracy against cost", drawn))
    sections.append(("Networks", figures.table(*_network_table(run))))
    sections.append(("Measured times", figures.table(*_time_table(run))))
    if remarks := _remarks(run):
        sections.append(
            (
                "Layers that were left, or are to be looked at",
                f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in remarks)}</ul>",
            )
        )
    if run.points:
        drawn = figures.picture(*plots.spectra(run, folder / "spectra.png"))
        sections.append(("Singular values", drawn))
    for path, curves in run.predicted.items():
        name = path.replace("/", "_")
        drawn = figures.picture(*prediction_figure.draw(curves, folder / f"predict_{name}.png"))
        sections.append((f"Predicting {path} from a few of its weights", drawn))
    for point in run.points:
        sections.append((f"Layers of {point.point.name}", figures.table(*_layer_table(point))))
    sections.append(("Config", figures.listing(config_lib.flatten(run.config))))
    sections.append(("Made with", figures.listing(config_lib.flatten(run.about))))
    page = run.folder / "report.html"
    atomic.write(page, figures.page(run.name, sections))
    return page


def _network_table(run: Results) -> Rows:
    """A row a network; × is the share of the original's multiply-adds."""
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
    """A row a network: milliseconds, the original's in the same measurement, and their ratio."""
    header = ["network"]
    for batch in run.original.milliseconds:
        images = "1 image" if batch == "1" else f"{batch} images"
        header += [f"{images}: original, ms", "own, ms", "×"]
    rows = []
    for point in run.points:
        row = [point.point.name]
        for before, after in point.milliseconds.values():
            row += [f"{before:.3f}", f"{after:.3f}", f"{after / before:.2f}"]
        rows.append(row)
    return header, rows


def _layer_table(point: Factorised) -> Rows:
    """A row a layer: what was done, and what it costs before and after."""
    header = ["layer", "kernel", "method", "rank", "relative error"]
    header += ["parameters", "MACs", "ms of 128"]
    rows = []
    for own in point.layers:
        dense = own["method"] == DENSE
        rank = "" if dense else str(own["rank"]).strip("[]")
        error = "" if dense else plus_minus(point.errors[own["path"]], 4)
        row = [own["path"], "×".join(map(str, own["shape"])), own["method"], rank, error]
        for key, form in (("parameters", ","), ("macs", ","), ("milliseconds", ".3f")):
            before, after = (format(value, form) for value in own[key])
            row.append(before if dense else f"{before} → {after}")
        rows.append(row)
    return header, rows


def _remarks(run: Results) -> list[str]:
    """Layers that were not factorised, or against what was measured, or badly; and why."""
    found = []
    for point in run.points:
        for paths, why in (
            (point.slow, "factors of the chosen rank were not faster: dense, or at a lower rank"),
            (point.needed, "factorised though not faster, as the budget needs it"),
            (point.stalled, STALLED),
        ):
            if paths:
                found.append(f"{point.point.name}: {', '.join(paths)}: {why}")
    if run.points:
        found += [f"{path}: {why}" for path, why in run.points[0].not_reached.items()]
    return found


main = functools.partial(draw_again, show, __doc__)

if __name__ == "__main__":
    run_main(main)
