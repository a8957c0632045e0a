"""python -m lottery.stability.report RUN [RUN…]: tables, figures and pages of runs over stability.

For one run, its `figures/` and `report.html` are made again. Several runs are compared in
`comparison/`, beside the first.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork import terminal
from groundwork.entry import run_main
from groundwork.report import comparison, tables
from groundwork.report import page as page_lib
from groundwork.report.comparison import Comparison
from groundwork.report.tables import Rows, averages, plus_minus
from lottery.stability import plots, results
from lottery.stability.results import Between, Results

NOTE = (
    "Two copies of a network go on from the same weights of one step with other data orders. "
    "Instability is the worst error on the straight path between their ends, minus the mean of the "
    "two ends' (arXiv:1912.05671). On the path, all variables are interpolated, statistics of "
    "BatchNorm as well. Every number is the {averages}."
)
COLUMNS = {"test": "test", "train": "train", "matched_test": "matched", "matched_train": ""}


def records(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one record per network of the run in a folder; see `groundwork.compare`."""
    return results.records(name, results.read(folder))


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares runs in `comparison/` beside the first.

    Raises:
      UserError: a folder has no run with a finished path between copies.
    """
    runs = _read(folders)
    return comparison.make(
        "Stability: a comparison",
        folders,
        figure=plots.instability(runs, comparison.folder(folders) / "instability.png"),
        summary="Dense networks at the last step",
        header=["step", "instability (test)"],
        rows={run.name: _dense(run) for run in runs},
        tables={run.name: _copies_table(run) for run in runs},
        records=[record for run in runs for record in results.records(run.name, run)],
        metric=comparison.metric_of(runs),
    )


def show(folders: Sequence[Path]) -> None:
    """Draws the figures, writes the page, and prints the tables of each run."""
    runs = _read(folders)
    page = page_lib.said(lambda: _write_page(runs[0]) if len(runs) == 1 else compare(folders).page)
    for run in runs:
        for title, table in _tables(run):
            tables.show(f"{run.name}: {title}", table, keys=2)
    terminal.say(page)


def _read(folders: Sequence[Path]) -> list[Results]:
    """Returns the runs, with names that tell them apart."""
    runs = [results.read(folder) for folder in folders]
    named = zip(runs, comparison.names(folders), strict=True)
    return [dataclasses.replace(run, name=name) for run, name in named]


def _write_page(run: Results) -> Path:
    folder = run.folder / "figures"
    note = NOTE.format(averages=averages(run.config["replicates"]))
    sections = [("What is measured", page_lib.paragraph(note))]
    if run.copies:
        drawn = plots.instability([run], folder / "instability.png")
        sections.append(("Instability", page_lib.picture(*drawn)))
    for split in ("test", "train"):
        if all(split in path.errors for path in (*run.copies, *run.levels)):
            drawn = plots.paths(run, folder / f"paths_{split}.png", split)
            sections.append((f"Along the paths: {split}", page_lib.picture(*drawn)))
    sections += [(title.capitalize(), page_lib.table(*table)) for title, table in _tables(run)]
    return page_lib.write_run(run, f"Stability: {run.name}", sections)


def _tables(run: Results) -> list[tuple[str, Rows]]:
    found = [("instability of copies", _copies_table(run))] if run.copies else []
    return found + ([("instability between levels", _levels_table(run))] if run.levels else [])


def _copies_table(run: Results) -> Rows:
    """Returns one row per network and step."""
    splits = _splits(run.copies)
    rows = [
        [label, str(path.step), f"{path.density:.3f}", *_cells(path, splits)]
        for label in run.labels
        for path in run.of(label)
    ]
    return ["network", "step", "density", run.error, *(COLUMNS[s] for s in splits)], rows


def _levels_table(run: Results) -> Rows:
    """Returns one row per pair of levels; the density is that of the second."""
    splits = _splits(run.levels)
    rows = [[p.label, f"{p.density:.3f}", *_cells(p, splits)] for p in run.levels]
    return ["levels", "density", run.error, *(COLUMNS[s] for s in splits)], rows


def _splits(paths: Sequence[Between]) -> list[str]:
    shown = [split for split, column in COLUMNS.items() if column]
    return [split for split in shown if all(split in path.errors for path in paths)]


def _cells(path: Between, splits: Sequence[str]) -> list[str]:
    """Returns the mean test error of the two ends, and the instabilities."""
    return [f"{np.mean(path.ends('test')):.3f}", *(plus_minus(path.instability(s)) for s in splits)]


def _dense(run: Results) -> list[str]:
    dense = run.of("dense")
    return [str(dense[-1].step), plus_minus(dense[-1].instability("test"))] if dense else ["", ""]


main = functools.partial(page_lib.draw_again, show, __doc__)

if __name__ == "__main__":
    run_main(main)
