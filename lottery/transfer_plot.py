"""The figure of transferred tickets: bars of accuracy at the levels that all runs have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from groundwork.report import comparison, figures
from groundwork.runs.metrics import mean_and_spread
from lottery.plots import COLOURS
from lottery.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONTROLS = ("random_mask", "random_reinit")
PLACES = ("dir", "workers", "cache")  # keys of data that do not say what is learned


def source_of(run: Results) -> str:
    """Returns the run whose tickets a run trained; empty if it found its own."""
    return str(run.config.get("ticket", {}).get("source", ""))


def targets(runs: Sequence[Results]) -> list[list[Results]]:
    """Returns the runs that learn the same in the same way, those with tickets of their own first.

    They agree in data, model, loss, optimiser and steps.
    """
    together: dict[str, list[Results]] = {}
    for run in sorted(runs, key=lambda run: bool(source_of(run))):  # stable
        config = run.config
        data = {key: value for key, value in config["data"].items() if key not in PLACES}
        same = [config.get(key) for key in ("model", "loss", "optimizer", "train", "rewind")]
        together.setdefault(json.dumps([data, *same], sort_keys=True), []).append(run)
    return list(together.values())


def accuracy(runs: Sequence[Results], path: Path) -> tuple[Path, str] | None:
    """Draws the test accuracy of tickets from several sources, a panel for each target.

    Controls are those of a panel's first run. Nothing is drawn if no run has another one's
    tickets, or if the runs have no level above 0 in common.
    """
    levels = sorted(set.intersection(*({point.level for point in r.of("ticket")} for r in runs)))
    levels = [level for level in levels if level]
    if not levels or not any(map(source_of, runs)):
        return None
    metric, panels = comparison.metric_of(runs), targets(runs)
    labels = ("density of the target's own tickets", f"test {metric.words}")
    figure, axes = figures.grid(len(panels), 2, width=4.6, height=3.2, labels=labels)
    for ax, together in zip(axes, panels, strict=True):
        _panel(ax, together, levels)
    caption = (
        f"Test {metric.words} of tickets by where they come from. Bars are means over replicates, "
        "whiskers one standard deviation; lines are dense networks. The axis does not begin at 0."
    )
    return figures.save(figure, path), caption


def _panel(ax: Axes, runs: Sequence[Results], levels: Sequence[int]) -> None:
    """Draws one group of bars per level: a bar for each source, then the controls."""
    first = runs[0]
    series: list[tuple[str, Any, list[list[float]]]] = []
    for number, run in enumerate(runs):
        values = [run.points["ticket", level].accuracy for level in levels]
        series.append((_label(run, runs), figures.colours("tab10")(number), values))
    for branch in CONTROLS:
        if all((branch, level) in first.points for level in levels):
            values = [first.points[branch, level].accuracy for level in levels]
            series.append((branch, COLOURS[branch], values))
    width = 0.8 / len(series)
    for place, (label, colour, values) in enumerate(series):
        x = np.arange(len(levels)) + (place - (len(series) - 1) / 2) * width
        means, spreads = zip(*map(mean_and_spread, values), strict=True)
        ax.bar(x, means, width, yerr=spreads, color=colour, label=label, error_kw={"lw": 0.8})
    dense = float(np.mean(first.points["ticket", 0].accuracy))
    ax.axhline(dense, color="black", lw=0.8, label="dense")
    every = [value for _, _, values in series for some in values for value in some] + [dense]
    low, high = min(every), max(every)
    margin = 0.1 * (high - low) or 0.1
    ax.set_ylim(low - margin, high + (2 + len(series)) * margin)  # room for the legend
    densities = [first.points["ticket", level].density for level in levels]
    ax.set_xticks(np.arange(len(levels)), [f"{density:.3f}" for density in densities])
    ax.set_title(figures.plain(f"trained as {first.name}"))
    ax.legend(loc="upper right", fontsize=6)


def _label(run: Results, runs: Sequence[Results]) -> str:
    """Returns whose tickets a run of a panel trained; runs with tickets of their own have names."""
    if source := source_of(run):
        branch = run.config["ticket"].get("branch", "ticket")
        whose = "tickets" if branch == "ticket" else branch
        return figures.plain(f"{whose} of {Path(source).name}")
    several = sum(not source_of(one) for one in runs) > 1
    return figures.plain(f"tickets of its own: {run.name}") if several else "its own tickets"
