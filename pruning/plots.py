"""The figures of a run: each function draws a PNG from results and returns its caption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundwork.report import figures
from groundwork.runs.metrics import mean_and_spread
from pruning.results import Network, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS: dict[str, Callable[[Network], float]] = {
    "multiply-adds (millions)": lambda network: network.macs / 1e6,
    "parameters (thousands)": lambda network: network.parameters / 1e3,
    "file (kilobytes)": lambda network: network.bytes / 1e3,
    "time for 128 examples (ms)": lambda network: network.milliseconds["128"][1],
}
STYLES: dict[str, dict[str, Any]] = {
    "fine-tuned": {"color": "#1f5fb4", "marker": "o"},
    "random_units": {"color": "#888888", "marker": "s", "label": "random units, fine-tuned"},
    "scratch_e": {"color": "#3a8f4d", "marker": "x", "label": "scratch-E"},
    "scratch_b": {"color": "#d1622b", "marker": "+", "label": "scratch-B"},
}


def accuracy(run: Results, path: Path) -> tuple[Path, str]:
    """Draws test accuracy against multiply-adds, parameters, a file's bytes and measured times."""
    labels = "", f"test {run.metric.words}"
    figure, axes = figures.grid(len(COSTS), 2, width=2.7, height=2.4, labels=labels)
    for ax, (label, cost) in zip(axes, COSTS.items(), strict=True):
        _point(
            ax, cost(run.original), run.original.test, marker="D", color="black", label="original"
        )
        ax.axhline(mean_and_spread(run.original.test)[0], color="black", lw=0.8, linestyle=":")
        lines = {"fine-tuned": [(p.network, p.network.test) for p in run.pruned]}
        for branch in list(STYLES)[1:]:
            made = [p.branches[branch] for p in run.pruned if branch in p.branches]
            lines[branch] = [(network, network.test) for network in made]
        for name, points in lines.items():
            _line(ax, cost, points, **{"label": name, "ms": 4, **STYLES[name]})
        before = [(p.network, p.network.before) for p in run.pruned]
        style = {**STYLES["fine-tuned"], "mfc": "white", "ms": 4, "label": "before fine-tuning"}
        _line(ax, cost, before, linestyle="--", **style)
        ax.set_xlabel(label)
        ax.set_ylim(*_range(run))
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    caption = (
        f"Test {run.metric.words} after units were removed (hollow) and after fine-tuning (filled),"
        " and that of controls of the same shape, against the multiply-adds of one example, the "
        "parameters, the bytes of an .npz file of them, and the measured time of a prediction. "
        "Means over replicates; bands are one standard deviation."
    )
    if hidden := _beyond(run):
        caption += f" Beyond the axis, see the table: before fine-tuning, {', '.join(hidden)}."
    return figures.save(figure, path), caption


def units(run: Results, path: Path) -> tuple[Path, str]:
    """Draws the share of units that each pruned network keeps, group by group."""
    names = list(run.units)
    figure, axes = figures.subplots(1, width=4.8, height=1.2 + 0.28 * len(names))
    (ax,) = axes
    height = 0.8 / max(len(run.pruned), 1)
    for number, pruned in enumerate(run.pruned):
        places = [place + number * height for place in range(len(names))]
        shares = [pruned.kept[name] / run.units[name] for name in names]
        ax.barh(
            places, shares, height, label=f"{pruned.label}: {sum(pruned.kept.values()):,} units"
        )
    ax.set_yticks(
        [n + 0.4 - height / 2 for n in range(len(names))], figures.short(names, 20), fontsize=8
    )
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of the units that are kept")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    counts = ", ".join(f"{name} {count:,}" for name, count in run.units.items())
    return figures.save(figure, path), f"Units that are kept. The original has: {counts}."


def coupling(run: Results, path: Path) -> tuple[Path, str]:
    """Draws layers as boxes, whose halves have the colours of the groups they take and make."""
    layers, names = list(run.coupling), list(run.units)
    columns = min(len(layers), 3)
    rows = -(-len(layers) // columns)
    figure, (ax,) = figures.subplots(1, width=4.8, height=0.6 + 0.5 * rows)
    colors = figures.pyplot().get_cmap("hsv")
    of = {name: colors(number / max(len(names), 1)) for number, name in enumerate(names)}
    for number, (layer, label) in enumerate(zip(layers, figures.short(layers, 14), strict=True)):
        left, top = number % columns, number // columns
        for half, side in enumerate(("takes", "makes")):
            groups = run.coupling[layer][side]
            for place, name in enumerate(groups or [""]):
                width = 0.46 / max(len(groups), 1)
                at = left + half * 0.46 + place * width
                color = (*of[name][:3], 0.45) if name else "#eeeeee"
                ax.add_patch(_box((at, top), width, color))
        ax.text(left + 0.46, top + 0.35, label, ha="center", va="center", fontsize=8)
    ax.set_xlim(-0.04, columns)
    ax.set_ylim(rows, -0.15)
    ax.set_axis_off()
    caption = (
        "Layers as boxes, row by row. The left half has the colours of the groups of units that a "
        "layer takes, the right half of those that it makes: units of one colour go together, in "
        "all of its layers. Grey stays."
    )
    return figures.save(figure, path), caption


def _box(corner: tuple[float, float], width: float, color: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, 0.7, facecolor=color, edgecolor="#444444", linewidth=0.5)


def _point(ax: Axes, x: float, values: list[float], **style: Any) -> None:
    mean, spread = mean_and_spread(values)
    ax.errorbar(x, mean, spread, capsize=2, linestyle="none", ms=4, **style)


def _line(
    ax: Axes,
    cost: Callable[[Network], float],
    points: list[tuple[Network, list[float]]],
    **style: Any,
) -> None:
    """Draws means as a line with a band, from the cheapest network on."""
    if points:
        points = sorted(points, key=lambda point: cost(point[0]))
        figures.band(ax, [cost(n) for n, _ in points], [values for _, values in points], **style)


def _beyond(run: Results) -> list[str]:
    """Returns the labels of pruned networks that lie beyond the axis before they are fine-tuned."""
    low, high = _range(run)
    means = {pruned.label: mean_and_spread(pruned.network.before)[0] for pruned in run.pruned}
    return [
        label
        for label, mean in means.items()
        if (low is not None and mean < low) or (high is not None and mean > high)
    ]


def _range(run: Results) -> tuple[float | None, float | None]:
    """Returns the ends of the axis: a little beyond all networks that were trained."""
    trained = [*run.original.test]
    for pruned in run.pruned:
        trained += [v for n in (pruned.network, *pruned.branches.values()) for v in n.test]
    span = max(trained) - min(trained)
    if run.metric.higher_is_better:
        return min(trained) - max(0.3 * span, 0.01), None
    return None, max(trained) + max(0.3 * span, 0.01 * abs(max(trained)))
