"""The figures of a run over stability: each function draws a PNG and returns its caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from groundwork.report import figures
from groundwork.runs.metrics import mean_and_spread
from lottery.stability.results import Between, Results, matched

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STABLE = 0.02  # instability below which the paper calls a network stable
WORST = "the worst error on the straight path minus the mean of its ends"
SPREAD = "Means over replicates; bars are one standard deviation."
LINES = 8  # steps that a panel of paths has


def instability(runs: Sequence[Results], path: Path) -> tuple[Path, str]:
    """Draws instability against the step at which copies part, a line per network."""
    splits = [s for s in ("test", "train") if all(s in p.errors for r in runs for p in r.copies)]
    figure, axes = figures.subplots(len(splits))
    several = len(runs) > 1
    for split, ax in zip(splits, axes, strict=True):
        for run in runs:
            for label in run.labels:
                colour = figures.colours("tab10")(len(ax.containers) % 10)
                named = f"{run.name}: {label}" if several else label
                _line(ax, run.of(label), split, label=named, color=colour)
                if any(matched(p) for p in run.of(label)):
                    looks = {"label": f"{named}, matched", "color": colour, "ls": "--"}
                    _line(ax, run.of(label), f"matched_{split}", **looks)
        if all(run.metric.is_share for run in runs):
            ax.axhline(STABLE, color="black", lw=0.8, ls=":", label=f"stable below {STABLE}")
        steps = sorted({p.step or 0 for run in runs for p in run.copies})
        if len(steps) > 1 and steps[-1] > 10 * max(steps[1] - steps[0], 1):
            ax.set_xscale("symlog", linthresh=max(steps[1], 1))
            ax.set_xlim(left=-0.2 * steps[1])  # no steps below 0 on its axis
        ax.set_xlabel("step from which two copies are trained")
        ax.set_ylabel(f"instability ({split} {runs[0].error})")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=7)
    caption = (
        "Instability of networks that were trained twice from one step, with other data orders: "
        f"{WORST}. {SPREAD} The paper (arXiv:1912.05671) calls a network stable below {STABLE}."
    )
    return figures.save(figure, path), caption


def _line(ax: Axes, paths: Sequence[Between], split: str, **looks: Any) -> None:
    pairs = [mean_and_spread(path.instability(split)) for path in paths]
    means, deviations = zip(*pairs, strict=True)
    steps = [path.step or 0 for path in paths]
    ax.errorbar(steps, means, deviations, marker="o", ms=3, capsize=2, **looks)


def paths(run: Results, path: Path, split: str = "test") -> tuple[Path, str]:
    """Draws the error along each path, a panel per network and a line per step."""
    panels = [(label, run.of(label)) for label in run.labels]
    panels += [("tickets of two levels", run.levels)] if run.levels else []
    labels = ("place on the path", f"{split} {run.error}")
    figure, axes = figures.grid(len(panels), 3, width=3.4, height=2.8, labels=labels)
    for ax, (label, drawn) in zip(axes, panels, strict=True):
        chosen = np.unique(np.linspace(0, len(drawn) - 1, LINES).round().astype(int))
        for number in chosen:
            between = drawn[number]
            errors = between.errors[split]
            named = between.label if between.step is None else f"step {between.step}"
            colour = figures.colours("viridis")(number / max(len(drawn), 2))
            places = np.linspace(0, 1, len(errors)).tolist()
            figures.band(ax, places, errors.tolist(), color=colour, lw=1.1, label=named)
        title = f"{label}, density {drawn[0].density:.3f}" if drawn[0].step is not None else label
        ax.set_title(title, fontsize=8)
        ax.legend(fontsize=6)
    caption = (
        f"The {split} {run.error} on the straight path between the two networks, which are its "
        "ends. Lines are means over replicates, bands one standard deviation."
    )
    return figures.save(figure, path), caption
