"""Sensitivities as curves: rows of a table, a figure, and what each layer bears."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from compress.search.options import Space
from compress.search.sensitivity import Sensitivities
from compress.search.settings import AS_IT_IS, Setting
from groundwork.metric import Metric
from groundwork.report import figures
from groundwork.report.tables import Rows
from groundwork.traced.reach import Reached
from lowrank.choose import candidates

LINEAR = 0.01  # increase of the loss, below which the axis of the loss is linear
COLOURS = ("#1f5fb4", "#d1622b", "#3a8f4d", "#8a4fa3", "#5bb0d8", "#b5891b", "#c2418c", "#555555")
DASHES = ("-", "--", ":", "-.")
LEGEND = 24  # layers that a legend can name
AXES = {
    "density": "share of the weights",
    "units": "share of the units",
    "bits": "bits of a weight",
    "inputs": "bits of an input",
}


class Row(NamedTuple):
    """A point of a curve."""

    layer: str
    kind: str  # density, units, bits, inputs, or a method of low rank
    setting: str  # in words
    value: float  # share that stays (of a low rank: of the layer's weights), or bits
    loss_increase: float
    accuracy_drop: float


HEADER = Row._fields


def rows(space: Space, found: Sensitivities, layers: Mapping[str, Reached]) -> list[Row]:
    """Returns the points of all curves of settings that change one thing, the mildest first."""
    points = []
    for layer, options in space.options.items():
        for option in options:
            if option != AS_IT_IS and option in found.rows[layer]:
                kind, value = _of(option, layers[layer])
                measured = found.rows[layer][option]
                points.append(Row(layer, kind, str(option), value, *measured))
    return points


def caption(metric: Metric) -> str:
    """Returns what the figure shows, for a run that is judged by a metric."""
    return (
        "By how much the loss on training examples grows when one layer alone is changed "
        f"and nothing is trained; below {LINEAR:g} the axis is linear. Means over replicates. "
        f"The table beside it has by how much the {metric.words} gets worse, too."
    )


def draw(points: Sequence[Row], path: Path) -> None:
    """Draws the increase of the loss against what stays: a panel for each kind, a line a layer."""
    kinds = list(dict.fromkeys(point.kind for point in points))
    layers = list(dict.fromkeys(point.layer for point in points))
    height = max(2.6, 0.16 * min(len(layers), LEGEND) / -(-len(kinds) // 2) + 0.6)
    figure, axes = figures.grid(
        len(kinds), 2, width=3.4, height=height, labels=("", "increase of the loss")
    )
    top = max(LINEAR, *(point.loss_increase for point in points))
    low = min(0.0, *(point.loss_increase for point in points))
    labels = dict(zip(layers, figures.short(layers, 24), strict=True))
    for ax, kind in zip(axes, kinds, strict=True):
        ax.axhline(0, color="black", lw=0.8)
        for place, layer in enumerate(layers):
            curve = [point for point in points if (point.layer, point.kind) == (layer, kind)]
            if curve:
                ax.plot(
                    [point.value for point in curve],
                    [point.loss_increase for point in curve],
                    color=COLOURS[place % len(COLOURS)],
                    linestyle=DASHES[place // len(COLOURS) % len(DASHES)],
                    marker="o",
                    ms=3,
                    lw=1.2,
                    label=labels[layer],
                )
        ax.set_yscale("symlog", linthresh=LINEAR, linscale=0.5)
        ax.set_ylim(min(1.3 * low, -0.2 * LINEAR), 1.5 * top)
        _x_axis(ax, kind)
    handles: dict[str, Any] = {}
    for ax in axes:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if len(handles) <= LEGEND:
        ordered = [label for label in labels.values() if label in handles]
        figure.legend(
            [handles[label] for label in ordered],
            ordered,
            loc="outside right upper",
            fontsize=8,
            frameon=False,
        )
    figures.save(figure, path)


def table(
    points: Sequence[Row], layers: Mapping[str, Reached], kinds: Sequence[str], loss: float
) -> Rows:
    """Returns for each layer the least of each kind that loses at most so much of the metric.

    The curves need not fall: it is the least value at which, and at all larger ones, no more is
    lost. Where even the largest that was measured loses more, there is a dash.

    Args:
      points: of `rows`.
      layers: of the network.
      kinds: as the command names them, in the order of the columns.
      loss: of the metric, above 0.
    """
    found = list(dict.fromkeys(point.kind for point in points))
    order = {kind: place for place, kind in enumerate(kinds)}
    columns = sorted(found, key=lambda kind: order.get(kind, order.get("rank", 0)))
    body = []
    for layer in dict.fromkeys(point.layer for point in points):
        cells = []
        for kind in columns:
            curve = [point for point in points if (point.layer, point.kind) == (layer, kind)]
            best = "-"
            for point in sorted(curve, key=lambda point: -point.value):
                if point.accuracy_drop > loss:
                    break
                best = f"{point.value:.3g}"
            cells.append(best if curve else "")
        body.append([layer, f"{math.prod(layers[layer].shape):,}", *cells])
    return ["layer", "weights", *columns], body


def _of(option: Setting, layer: Reached) -> tuple[str, float]:
    """Returns the kind of a setting, and its place on the curve."""
    if option.method:
        weights = candidates.parameters(layer, option.method, option.rank)
        return option.method, weights / math.prod(layer.kernel)
    for kind, name in (("units", "units"), ("density", "density"), ("bits", "bits")):
        if getattr(option, name) != getattr(AS_IT_IS, name):
            return kind, float(getattr(option, name))
    return "inputs", float(option.activation_bits)


def _x_axis(ax: Any, kind: str) -> None:
    label = AXES.get(kind, f"share of the weights, {kind}")
    if kind == "density":
        figures.density_axis(ax, label)
        return
    ax.set_xlabel(label)
    low, high = ax.get_xlim()
    if kind in ("bits", "inputs"):
        ax.set_xticks(range(math.ceil(low), math.floor(high) + 1))
        ax.set_xlim(high, low)
    else:
        ax.set_xlim(1.02, 0)
