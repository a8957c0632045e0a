"""python -m launch.methods [--to=FOLDER] RUN [RUN…]: which method keeps how much accuracy.

One table and one figure of runs of lottery.main and pruning.main over single weights: a row per
method, a column per density, with the steps and the seconds that led to the sparsest network.
Networks count for a density from which theirs differs by at most 3 %.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from groundwork import copies, terminal
from groundwork.entry import run_main
from groundwork.errors import UserError
from groundwork.metric import Metric
from groundwork.report import comparison, figures, tables
from groundwork.report import page as page_lib
from groundwork.report.tables import Rows, plus_minus
from groundwork.runs.results import RunResults
from launch.methods_runs import Method, Sparse, gather
from pruning.weights.methods import METHODS

CLOSE = 0.03  # of a density: what counts as the same
KINDS = ("tickets and their controls", "before training", "while training", "after training")
LOWEST = 0.2  # of a share below the dense network's: what lies beyond the figure's axis


def table(methods: Sequence[Method], densities: Sequence[float]) -> Rows:
    """Returns a row per method; steps and seconds are those of the last density that it has."""
    header = ["method", *(f"{density:g}" for density in densities), "steps", "seconds"]
    rows = []
    for method in methods:
        at = [_nearest(method, density) for density in densities]
        if not any(at):
            continue
        cells = [plus_minus(one.accuracy) if one else "" for one in at]
        last = next(one for one in reversed(at) if one)
        cells += [f"{last.spent.steps:,}", f"{last.spent.seconds:,.0f}"]
        rows.append([method.name, *cells])
    return header, rows


def _left_out(methods: Sequence[Method], densities: Sequence[float]) -> list[str]:
    """Returns one line for each method that has no row."""
    return [
        f"{method.name} has no row: its densities are "
        f"{', '.join(f'{network.density:.3g}' for network in method.networks) or 'none'}"
        for method in methods
        if not any(_nearest(method, density) for density in densities)
    ]


def _others(runs: Sequence[RunResults]) -> list[str]:
    """Returns one line for each run whose data or network is not that of the first."""
    first, lines = runs[0], []
    for run in runs[1:]:
        pairs = {
            "data": (run.about.get("data"), first.about.get("data")),
            "model": (run.config.get("model"), first.config.get("model")),
        }
        if differing := [key for key, (own, other) in pairs.items() if own != other]:
            keys = " and ".join(differing)
            lines.append(f"warning: {run.name} and {first.name} differ in their {keys}")
    return lines


def _nearest(method: Method, density: float) -> Sparse | None:
    near = [n for n in method.networks if abs(n.density / density - 1) <= CLOSE]
    return min(near, key=lambda network: abs(network.density - density), default=None)


def main(argv: Sequence[str]) -> None:
    """Prints the table, and writes it as a page with a figure.

    Raises:
      UserError: a run cannot be read, or an argument is wrong.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(str(__doc__).strip())
        return
    flags = [word for word in argv if word.startswith("--")]
    if wrong := [flag for flag in flags if not flag.startswith("--to=")]:
        raise UserError(f"unknown flag {wrong[0]}: give --to=FOLDER and the folders of runs")
    folders = [copies.near(word) for word in argv if not word.startswith("--")]
    if not folders:
        raise UserError("no run: give the folders of runs")
    runs, methods = gather(folders)
    metric = comparison.metric_of(runs)
    densities = sorted(
        {d for run in runs for d in _asked(run)} or {0.2, 0.1, 0.05, 0.02}, reverse=True
    )
    columns = sorted({1.0, *densities}, reverse=True)
    rows = table(methods, columns)
    for line in _others(runs):
        terminal.say(line)
    tables.show(f"test {metric.words} by density", rows)
    for line in _left_out(methods, columns):
        terminal.say(line)
    folder = Path(flags[-1].removeprefix("--to=")) if flags else comparison.folder(folders)
    picture = draw(methods, folder / "methods.png", metric)
    sections = [
        (f"Test {metric.words} by density", page_lib.table(*rows)),
        ("Figure", page_lib.picture(*picture)),
    ]
    page = page_lib.said(
        functools.partial(page_lib.write, folder, "What to prune, and when", sections)
    )
    terminal.say(page)


def draw(methods: Sequence[Method], path: Path, metric: Metric) -> tuple[Path, str]:
    """Draws accuracy against density, a panel for each time of pruning; returns the caption."""
    kinds = [kind for kind in KINDS if any(method.kind == kind for method in methods)]
    labels = "", f"test {metric.words}"
    figure, axes = figures.grid(max(len(kinds), 1), 2, width=3.4, height=3.3, labels=labels)
    dense = next((m.networks[0].accuracy for m in methods if m.name == "dense"), None)
    low = float(np.mean(dense)) - LOWEST if dense and metric.is_share else None
    shown = [network for method in methods if method.kind for network in method.networks]
    for ax, kind in zip(axes, kinds, strict=False):
        if dense:
            ax.axhline(float(np.mean(dense)), color="black", lw=0.8, label="dense")
        for method in (method for method in methods if method.kind == kind):
            networks = sorted(method.networks, key=lambda network: -network.density)
            costs = [network.density for network in networks]
            accuracies = [network.accuracy for network in networks]
            figures.band(ax, costs, accuracies, marker="o", ms=3, lw=1, label=method.name)
        ax.set_title(kind, fontsize=9)
        ax.set_xlim(min(n.density for n in shown) / 1.05, max(n.density for n in shown) * 1.05)
        figures.density_axis(ax)
        ax.legend(fontsize=6, loc="lower left")
    bottom, top = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:  # one scale, so that panels can be compared
        ax.set_ylim(bottom if low is None else max(low, bottom), top)
    caption = (
        f"Test {metric.words} against density, by when weights are pruned. Lines are means over "
        "replicates, bands one standard deviation."
    )
    beyond = [
        f"{method.name} at {network.density:.3g}: {np.mean(network.accuracy):.3f}"
        for method in methods
        for network in method.networks
        if low is not None and np.mean(network.accuracy) < low
    ]
    if beyond:
        caption += f" Beyond the axis: {'; '.join(beyond)}."
    return figures.save(figure, path), caption


def _asked(run: RunResults) -> list[float]:
    """Returns the densities that a run of pruning was asked for; a search or N:M decides itself."""
    prune = run.config["prune"]
    method = METHODS.get(prune.get("method", ""))
    if method is None or "density" not in method.keys or ":" in prune["pattern"]:
        return []
    if prune["keep_accuracy"] or prune["least_accuracy"]:
        return []
    asked = prune["density"]
    return list(asked) if isinstance(asked, list | tuple) else [asked]


if __name__ == "__main__":
    run_main(main)
