"""The figures of a lottery run: each function draws a PNG from results and returns its caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from groundwork.report import comparison, figures
from lottery import tickets
from lottery.branches import BRANCHES
from lottery.results import Point, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COLOURS = {"ticket": "#1f5fb4", **{name: branch.colour for name, branch in BRANCHES.items()}}
STYLES: dict[str, Any] = {
    "ticket": {"linestyle": "-", "marker": "o"},
    **{
        name: {"linestyle": branch.linestyle, "marker": branch.marker}
        for name, branch in BRANCHES.items()
    },
}
MOST_LINES = 40  # of a column of a legend
SPREAD = "Lines are means over replicates, bands one standard deviation."


def accuracy(runs: Sequence[Results], path: Path) -> tuple[Path, str]:
    """Draws test accuracy against density, of the ticket and of every branch.

    With one run, colours tell branches apart. With several runs, colours tell runs apart, and line
    styles and markers tell branches apart.
    """
    metric = comparison.metric_of(runs)
    stopped = all(point.stopped_accuracy for run in runs for point in run.points.values())
    whens = ("at the early-stopping step", "at the end of training")[0 if stopped else 1 :]
    figure, axes = figures.subplots(len(whens))
    colours = _run_colours(len(runs))
    for ax, when in zip(axes, whens, strict=True):
        for run, colour in zip(runs, colours, strict=True):
            _accuracy_lines(ax, run, colour, early="early" in when)
        ax.set_ylabel(f"test {metric.words}")
        ax.set_title(when)
        figures.density_axis(ax)
    branches, _ = axes[0].get_legend_handles_labels()  # without the caps of error bars
    handles = _legend_of_runs(runs, colours) if len(runs) > 1 else branches
    labels = [str(handle.get_label()) for handle in handles]
    columns = int(60 * len(axes) / (8 + max(map(len, labels))))  # in characters
    columns = max(1, min(len(labels), columns))
    figure.set_figheight(3.2 + 0.2 * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)
    share = "the share of prunable weights that is kept"
    caption = f"Test {metric.words} against {share}. {SPREAD}"
    return figures.save(figure, path), caption


def _run_colours(runs: int) -> list[Any]:
    """Returns one colour per run; None for a single run, whose branches have colours."""
    if runs == 1:
        return [None]
    if runs <= 10:
        return [figures.colours("tab10")(number) for number in range(runs)]
    return [figures.colours("turbo")(0.05 + 0.9 * number / (runs - 1)) for number in range(runs)]


def _legend_of_runs(runs: Sequence[Results], colours: Sequence[Any]) -> list[Line2D]:
    """Returns a line for each run, with its colour, and for each branch, with its style."""
    from matplotlib.lines import Line2D

    names = figures.short([run.name for run in runs])
    lines = [Line2D([], [], color=c, label=n) for n, c in zip(names, colours, strict=True)]
    branches = [b for b in STYLES if any(b in run.branches() for run in runs)]
    lines += [Line2D([], [], color="black", ms=3, label=b, **STYLES[b]) for b in branches]
    dense = any(("ticket", 0) in run.points for run in runs)
    return [*lines, *([Line2D([], [], color="black", lw=0.8, label="dense")] if dense else [])]


def _accuracy_lines(ax: Axes, run: Results, colour: Any, early: bool) -> None:
    def values(point: Point) -> list[float]:
        return point.stopped_accuracy if early else point.accuracy

    for branch in run.branches():
        points = run.of(branch)
        style: dict[str, Any] = {**STYLES[branch], "color": colour}
        if colour is None:
            style = {"marker": STYLES[branch]["marker"], "color": COLOURS[branch]}
        if len(points) >= 30:  # markers would hide the line
            style["marker"] = None
        figures.band(
            ax,
            [point.density for point in points],
            [values(point) for point in points],
            markersize=3,
            label=branch if colour is None else figures.plain(f"{run.name}: {branch}"),
            **style,
        )
    if ("ticket", 0) in run.points:
        dense = float(np.mean(values(run.points["ticket", 0])))
        label = "dense" if colour is None else figures.plain(f"{run.name}: dense")
        ax.axhline(dense, color=colour or "black", lw=0.8, alpha=0.6, label=label)


def learning_curves(run: Results, path: Path) -> tuple[Path, str]:
    """Draws loss and accuracy against step, one line per level, on validation if there is any."""
    validated = any(key[2] == "validation" for key in run.curves)
    split = "validation" if validated else "train"
    points = [p for p in run.of("ticket") if ("ticket", p.level, split, "loss") in run.curves]
    points = [points[i] for i in np.unique(np.linspace(0, len(points) - 1, 9).round().astype(int))]
    values = list(dict.fromkeys(("loss", run.metric.name)))
    figure, axes = figures.subplots(len(values))
    for ax, value in zip(axes, values, strict=True):
        for place, point in enumerate(points):
            curve = run.curves["ticket", point.level, split, value]
            colour = figures.colours("viridis")(place / max(len(points), 2))
            label = f"level {point.level}, density {point.density:.3f}"
            steps = sorted(curve)
            figures.band(ax, steps, [curve[s] for s in steps], color=colour, lw=1.1, label=label)
        ax.set_xlabel("step")
        nats = value == "loss" and "cross_entropy" in run.config.get("loss", "cross_entropy")
        ax.set_ylabel(f"{split} {value.replace('_', ' ')}" + (" (nats)" if nats else ""))
    lowest = min(float(np.min(np.asarray(line.get_ydata()))) for line in axes[0].lines)
    if split == "train" and lowest > 0:  # a loss of the user's own may be negative
        axes[0].set_yscale("log")
        axes[0].set_ylim(bottom=lowest / 2)  # a band may reach below zero
    axes[-1].legend(fontsize=7)
    caption = f"Learning curves of tickets on {split} examples. {SPREAD}"
    return figures.save(figure, path), caption


def early_stopping(run: Results, path: Path) -> tuple[Path, str]:
    """Draws the early-stopping step against density, one line per branch.

    Later lines are narrower, so that all are seen where they coincide.
    """
    figure, (ax,) = figures.subplots()
    branches = run.branches()
    for number, branch in enumerate(branches):
        points, behind = run.of(branch), 1 - number / len(branches)
        figures.band(
            ax,
            [point.density for point in points],
            [point.stopped_step for point in points],
            color=COLOURS[branch],
            marker=STYLES[branch]["marker"],
            markersize=2 + 6 * behind,
            linewidth=1 + 5 * behind,
            label=branch,
        )
    figures.density_axis(ax)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("early-stopping step")
    ax.legend()
    by = run.metric.stopping
    step = f"Step of the {by.best} validation {by.words}"
    caption = f"{step}: the lower, the faster it learned. {SPREAD}"
    return figures.save(figure, path), caption


def layer_density(run: Results, path: Path) -> tuple[Path, str]:
    """Draws the density of each layer of the ticket at each level."""
    points = run.of("ticket")
    sizes = points[0].sizes
    names = zip(figures.short(list(sizes)), sizes.values(), strict=True)
    labels = [f"{name} ({size:,} weights)" for name, size in names]
    columns = -(-len(labels) // MOST_LINES)
    wide = 0.6 + 0.055 * max(map(len, labels))  # of a column of the legend, in inches
    high = 0.15 * -(-len(labels) // columns)
    figure, (ax,) = figures.subplots(width=4.4 + wide * columns, height=max(3.4, high))
    for number, (label, (layer, size)) in enumerate(zip(labels, sizes.items(), strict=True)):
        shares = [[kept / size for kept in point.kept[layer]] for point in points]
        style = ("-", "--", ":", "-.")[number % 4]  # lines of equal rates coincide
        figures.band(ax, [p.level for p in points], shares, linestyle=style, label=label)
    ax.set_yscale("log")
    ax.set_xlabel("level")
    ax.set_ylabel("density of the layer")
    figure.legend(loc="outside right upper", ncols=columns, fontsize=7, frameon=False)
    return figures.save(figure, path), f"Which layers the pruning took from. {SPREAD}"


def first_layer_mask(run: Results, path: Path) -> tuple[Path, str] | None:
    """Draws the first layer's mask of the last ticket, replicate 0, if a kernel is prunable."""
    level = run.of("ticket")[-1].level
    mask = tickets.load(run.folder, level).mask
    kernels = [name for name, leaf in mask.items() if leaf.ndim > 2]  # [R, …]: not biases
    if not kernels:
        return None
    first = [name for name in kernels if name.startswith(("fc1", "conv1", "Conv_0"))]
    name = (first or kernels)[0]
    keep = np.asarray(mask[name][0])
    figure, (left, right) = figures.subplots(2)
    matrix = keep.reshape(-1, keep.shape[-1])  # [inputs, units]
    left.imshow(matrix, cmap="gray_r", aspect="auto", interpolation="nearest")
    left.set_xlabel("unit")
    left.set_ylabel("input")
    left.set_title(f"{figures.short([name])[0]}, level {level}")
    counts = matrix.sum(1)
    side = round(len(counts) ** 0.5)
    if keep.ndim == 2 and side > 7 and side * side == len(counts):
        image = right.imshow(counts.reshape(side, side), cmap="viridis")
        figure.colorbar(image, ax=right, label="weights kept")
        right.set_title("weights kept by pixel")
    else:
        right.bar(np.arange(len(counts)), counts, width=1.0, color=COLOURS["ticket"])
        right.set_xlabel("input")
        right.set_ylabel("weights kept")
    for ax in (left, right):
        ax.grid(False)
    caption = (
        "The first layer's mask of replicate 0 (black = kept), and what is left of each input."
    )
    return figures.save(figure, path), caption
