"""python -m lottery.overlap RUN [RUN…]: what the masks of runs have in common.

The page is `overlap/report.html`, in the folder of one run, or beside the first of several.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from groundwork import terminal
from groundwork.entry import run_main
from groundwork.report import comparison, tables
from groundwork.report import page as page_lib
from groundwork.report.tables import Rows, plus_minus
from lottery import plots as lottery_plots
from lottery.overlap import measured, plots
from lottery.overlap.measured import Masks

FOLDER = "overlap"
NOTE = (
    "Jaccard: weights that both masks keep / weights that one of them keeps. Hamming: the share of "
    "prunable weights that one keeps and the other does not. Chance: what random masks that keep "
    "as many weights of each layer give. Numbers are means ± deviations over pairs; those of "
    "replicates share no network's weights, and pairs are not independent of each other."
)
HEADER = ["jaccard", "chance", "hamming", "chance of it"]
Figure = tuple[str, tuple[Path, str]]  # heading, file and caption


def show(folders: Sequence[Path]) -> None:
    """Draws the figures, writes the page, and prints the tables.

    Raises:
      UserError: a folder has no run with a pruned level, or runs are of different networks.
    """
    names = comparison.names(folders)
    runs = [measured.read(folder) for folder in folders]
    runs = [
        dataclasses.replace(masks, run=dataclasses.replace(masks.run, name=name))
        for masks, name in zip(runs, names, strict=True)
    ]
    several = len(runs) > 1
    folder = (comparison.folder(folders).parent if several else runs[0].run.folder) / FOLDER
    shown = _between_runs(runs) if several else {}
    for masks in runs:
        shown |= {f"{masks.run.name}: {title}": t for title, t in _tables(masks).items()}
    page = page_lib.said(lambda: _write(folder, runs, shown))
    for title, table in shown.items():
        tables.show(title, table)
    terminal.say(page)


def _write(folder: Path, runs: Sequence[Masks], shown: dict[str, Rows]) -> Path:
    drawn = _figures_of_runs(runs, folder) if len(runs) > 1 else []
    for number, masks in enumerate(runs):
        drawn += _figures(masks, folder, f"{number}_" if len(runs) > 1 else "")
    sections = [("What is measured", page_lib.paragraph(NOTE))]
    sections += [(heading, page_lib.picture(*figure)) for heading, figure in drawn]
    sections += [(title, page_lib.table(*table)) for title, table in shown.items()]
    names = ", ".join(masks.run.name for masks in runs)
    return page_lib.write(folder, f"Masks compared: {names}", sections)


def _figures(masks: Masks, folder: Path, prefix: str) -> list[Figure]:
    """Returns the figures of a run, with their headings."""
    name = masks.run.name
    levels = [f"level {level}" for level in masks.levels]
    between = measured.between_levels(masks)
    drawn = [
        (f"{name}: levels", plots.heat(between, levels, "levels", folder / f"{prefix}levels.png"))
    ]
    if (count := len(masks.levels[masks.last])) > 1:
        replicates = [f"replicate {number}" for number in range(count)]
        found = measured.between_replicates(masks, masks.last)
        what = f"replicates at level {masks.last}"
        path = folder / f"{prefix}replicates.png"
        drawn.append((f"{name}: replicates", plots.heat(found, replicates, what, path)))
    path = folder / f"{prefix}layers.png"
    drawn.append((f"{name}: layers", lottery_plots.layer_density(masks.run, path)))
    if pixels := plots.pixels(masks, folder / f"{prefix}pixels.png"):
        drawn.append((f"{name}: pixels", pixels))
    return drawn


def _figures_of_runs(runs: Sequence[Masks], folder: Path) -> list[Figure]:
    level = measured.common_levels(runs)[-1]
    found = measured.between_runs(runs, level)
    names = [masks.run.name for masks in runs]
    drawn = plots.heat(found, names, f"runs at level {level}", folder / "runs.png")
    return [(f"Runs at level {level}", drawn)]


def _tables(masks: Masks) -> dict[str, Rows]:
    """Returns heading → table of a run."""
    found: dict[str, Rows] = {}
    if len(masks.levels[masks.last]) > 1:
        rows = []
        for level in masks.levels:
            pairs = measured.pairs_of(measured.between_replicates(masks, level))
            density = masks.run.points["ticket", level].density
            rows.append([str(level), f"{density:.4f}", *_cells(pairs)])
        found["between replicates"] = (["level", "density", *HEADER], rows)
        rows = [[layer, *_cells(fields, 0)] for layer, fields in measured.layers(masks).items()]
        found[f"layers of replicates at level {masks.last}"] = (["layer", *HEADER], rows)
    rows = [
        [branch, *_cells({k: list(v) for k, v in overlap._asdict().items()})]
        for branch in masks.branches
        for overlap in [measured.with_branch(masks, branch)]
    ]
    if rows:
        found[f"with the ticket at level {masks.last}"] = (["branch", *HEADER], rows)
    return found


def _between_runs(runs: Sequence[Masks]) -> dict[str, Rows]:
    """Returns a table with one row per level that all runs have."""
    rows = [
        [str(level), *_cells(measured.pairs_of(measured.between_runs(runs, level)))]
        for level in measured.common_levels(runs)
    ]
    return {"between runs": (["level", *HEADER], rows)}


def _cells(fields: dict[str, list[float]], spread: int = 1) -> list[str]:
    """Returns means over pairs, with their deviations if asked for."""
    names = ("jaccard", "chance", "hamming", "chance_hamming")
    if spread:
        return [plus_minus(fields[name]) for name in names]
    return [f"{np.mean(fields[name]):.3f}" for name in names]


main = functools.partial(page_lib.draw_again, show, __doc__, into=FOLDER)

if __name__ == "__main__":
    run_main(main)
