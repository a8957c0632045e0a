"""A figure as pages show it: a Vega-Lite specification for each panel. Read `panels` first.

Everything is read from matplotlib's figure, so that a PNG and its page show the same numbers. What
this cannot tell, such as photographs, pages show as the PNG.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from groundwork.report.charts import curves, looks, shapes
from groundwork.report.charts.layers import Row, Untold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name; nothing is read from there


def panels(figure: Figure) -> list[Row] | None:
    """Returns a Vega-Lite specification for each panel of a drawn figure; None where it cannot.

    A parameter `hidden` lists the series that are switched off. Points say their numbers when they
    are pointed at. The key `usermeta` lists the series with their looks, for a legend.
    """
    from matplotlib.colorbar import Colorbar

    shown = [ax for ax in figure.axes if not isinstance(getattr(ax, "_colorbar", None), Colorbar)]
    shown = [ax for ax in shown if ax.axison]
    places = [tuple(np.round(ax.get_position().bounds, 3)) for ax in shown]
    if len(set(places)) < len(places):
        return None  # two scales on one panel
    try:
        return [_panel(ax) for ax in shown] or None
    except Untold:
        return None


def _panel(ax: Axes) -> Row:
    series: dict[str, Row] = {}
    layers = [*shapes.cells(ax), *shapes.bars(ax, series), *shapes.segments(ax, series)]
    layers += [*curves.curves(ax, series), *shapes.texts(ax)]
    for patch in ax.collections:
        if not hasattr(patch, curves.TOLD) and type(patch).__name__ != "LineCollection":
            raise Untold
    x, y = (_scale(ax, name) for name in "xy")
    for layer in layers:
        _shared(layer, x, y)
        looks.complete(layer, series)
    return {
        "$schema": SCHEMA,
        "title": ax.get_title() or ax.get_title(loc="left") or ax.get_title(loc="right"),
        "width": "container",
        "height": 260,
        "params": [{"name": "hidden", "value": []}],
        "layer": layers,
        "usermeta": {"series": list(series.values()), "x": ax.get_xlabel(), "y": ax.get_ylabel()},
    }


def _shared(layer: Row, x: Row, y: Row) -> None:
    """Gives a layer the scales and axes of its panel."""
    encoding = layer["encoding"]
    for name, scale in (("x", x), ("y", y)):
        if name in encoding:
            encoding[name] = {"type": "quantitative", **encoding[name], **scale}
            if scale["scale"]["type"] == "log":
                lowest = scale["scale"]["domain"][0]
                rows = [_above_zero(row, name, lowest) for row in layer["data"]["values"]]
                layer["data"]["values"] = [row for row in rows if row.get(name, lowest) > 0]


def _above_zero(row: Row, axis: str, lowest: float) -> Row:
    """Returns a row for a logarithmic axis: what begins at 0 or below begins at the axis' end."""
    ends = [axis, f"{axis}2"] if f"{axis}2" in row else []  # of a bar or a segment
    ends += ["low"] if axis == "y" and "low" in row else []  # of a band
    return {**row, **{end: max(row[end], lowest) for end in ends}}


def _scale(ax: Axes, name: str) -> Row:
    """Returns scale and axis of x or y: the limits, the ticks and the words of the figure."""
    from matplotlib import ticker

    axis: Any = ax.xaxis if name == "x" else ax.yaxis
    limits = ax.get_xlim() if name == "x" else ax.get_ylim()
    low, high = sorted(map(float, limits))
    scale: Row = {"domain": [low, high], "nice": False, "zero": False}
    if limits[0] > limits[1]:
        scale["reverse"] = True
    kind = axis.get_scale()
    if kind == "symlog":
        scale |= {"type": "symlog", "constant": float(axis.get_transform().linthresh)}
    elif kind in ("log", "linear"):
        scale["type"] = kind
    else:
        raise Untold
    form: Row = {"title": axis.get_label_text()}
    texts = [text.get_text() for text in axis.get_ticklabels()]
    ticks = [float(tick) for tick in axis.get_majorticklocs()]
    inside = [(t, text) for t, text in zip(ticks, texts, strict=True) if low <= t <= high]
    if isinstance(axis.get_major_formatter(), ticker.LogFormatterSciNotation):
        form |= {"format": "~g", "tickCount": 6}
    else:
        form["values"] = [tick for tick, _ in inside]
        names = json.dumps([looks.words(text) for _, text in inside])
        form["labelExpr"] = f"{names}[indexof({json.dumps(form['values'])}, datum.value)]"
        form["labelOverlap"] = "greedy"
    return {"scale": scale, "axis": form}
