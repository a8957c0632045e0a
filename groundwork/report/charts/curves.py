"""Lines with their bands and points, and straight rules. Read `curves` first."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from groundwork.report.charts import looks
from groundwork.report.charts.layers import Row, Untold, layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

SPREAD = "_spread"  # of a line: the deviations that its band shows
TOLD = "_told"  # of what shows a spread that is told with its line


def curves(ax: Axes, series: dict[str, Row]) -> list[Row]:
    """Returns layers of lines, their bands and points, and of straight rules."""
    rules: list[Row] = []
    kinds: dict[str, list[Row]] = {}
    barred, caps = looks.error_bars(ax)
    for number, line in enumerate(ax.lines):
        if id(line) in caps or hasattr(line, TOLD):
            continue
        if line.get_transform() != ax.transData:
            rules += _rule(ax, line, series)
            continue
        label, deviations = barred.get(id(line), (None, None))
        name = looks.remember(line, f"_{number}", series, label)
        rows = _points(line, name, deviations)
        kinds.setdefault(looks.STEPS[line.get_drawstyle()], []).extend(rows)
    layers = rules
    for steps, rows in kinds.items():
        layers += _drawn(rows, steps, series, ax)
    return layers


def _points(line: Line2D, name: str, deviations: Sequence[float] | None) -> list[Row]:
    """Returns the finite points of a line; those of a band say how far it reaches."""
    x, y = (np.asarray(values, float) for values in line.get_data())
    band = getattr(line, SPREAD, None)
    spread = np.asarray(band if deviations is None else deviations, float)
    rows = []
    for place in range(len(x)):
        if not math.isfinite(x[place]) or not math.isfinite(y[place]):
            continue
        row = {"series": name, "i": place, "x": float(x[place]), "y": float(y[place])}
        if spread.ndim and spread[place] > 0:
            row["spread"] = looks.number(spread[place])
            if band is not None:
                row |= {"low": row["y"] - spread[place], "high": row["y"] + spread[place]}
        rows.append(row)
    return rows


def _drawn(rows: list[Row], steps: str, series: dict[str, Row], ax: Axes) -> list[Row]:
    """Returns layers of curves whose lines go from point to point in one way."""
    names = list(dict.fromkeys(row["series"] for row in rows))
    lines = [name for name in names if series[name]["dash"] is not None]
    layers = []
    banded = [row for row in rows if "low" in row]
    counts = collections.Counter(row["series"] for row in rows)
    wide = [row for row in banded if row["series"] in lines]
    colour = looks.channel("colour")
    if wide:
        encoding: Row = {
            "x": {"field": "x"},
            "y": {"field": "low"},
            "y2": {"field": "high"},
            "color": colour,
        }
        mark = {"type": "area", "opacity": 0.18, "interpolate": steps, "clip": True}
        layers.append(layer(wide, mark, encoding))
    # points that are not joined, and single ones, whose band would have no width
    narrow = [r for r in banded if r["series"] not in lines or counts[r["series"]] == 1]
    if narrow:
        encoding = {"x": {"field": "x"}, "y": {"field": "low"}, "y2": {"field": "high"}}
        encoding["color"] = colour
        layers.append(layer(narrow, {"type": "rule", "opacity": 0.6, "clip": True}, encoding))
    if lines:
        mark = {"type": "line", "interpolate": steps, "clip": True}
        encoding = {
            "x": {"field": "x"},
            "y": {"field": "y"},
            "order": {"field": "i"},
            "detail": {"field": "series"},
            "color": colour,
            "opacity": looks.channel("opacity"),
            "strokeWidth": looks.channel("width"),
            "strokeDash": looks.channel("dash"),
        }
        drawn = [row for row in rows if row["series"] in lines]
        layers.append(layer(drawn, mark, encoding))
    encoding = {
        "x": {"field": "x"},
        "y": {"field": "y"},
        "fill": looks.channel("fill"),
        "stroke": colour,
        "shape": looks.channel("shape"),
        "fillOpacity": looks.channel("point"),
        "strokeOpacity": looks.channel("point"),
        "size": looks.channel("size"),
        "tooltip": _tooltip(ax, any("spread" in row for row in rows)),
    }
    layers.append(
        layer(rows, {"type": "point", "opacity": 1, "strokeWidth": 1.4, "clip": True}, encoding)
    )
    return layers


def _tooltip(ax: Axes, spread: bool = False) -> list[Row]:
    fields = [("name", "series"), ("x", ax.get_xlabel() or "x"), ("y", ax.get_ylabel() or "y")]
    fields += [("spread", "±")] if spread else []
    return [{"field": field, "title": looks.words(title)} for field, title in fields]


def _rule(ax: Axes, line: Line2D, series: dict[str, Row]) -> list[Row]:
    """Returns the layer of a line across a panel, as `axhline` draws it."""
    x, y = (np.ravel(values).tolist() for values in line.get_data())
    if line.get_transform() == ax.get_yaxis_transform(which="grid") and len(set(y)) == 1:
        axis, at = "y", float(y[0])
    elif line.get_transform() == ax.get_xaxis_transform(which="grid") and len(set(x)) == 1:
        axis, at = "x", float(x[0])
    else:
        raise Untold
    name = looks.remember(line, f"_rule{len(series)}", series)
    look = series[name]
    mark = {"type": "rule", "color": look["colour"], "opacity": max(0.6, look["opacity"])}
    mark |= {"strokeDash": look["dash"] or [1, 0], "clip": True}
    label = ax.get_ylabel() if axis == "y" else ax.get_xlabel()
    encoding: Row = {axis: {"field": axis}}
    encoding["tooltip"] = [
        {"field": "name", "title": "series"},
        {"field": axis, "title": looks.words(label)},
    ]
    return [layer([{"series": name, axis: at}], mark, encoding)]
