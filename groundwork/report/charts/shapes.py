"""What is no curve: bars, segments, cells of images, words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from groundwork.report.charts import looks
from groundwork.report.charts.curves import TOLD
from groundwork.report.charts.layers import Row, Untold, layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CELLS = 1600  # of an image whose cells say their numbers


def bars(ax: Axes, series: dict[str, Row]) -> list[Row]:
    """Returns the layers of bars."""
    from matplotlib.container import BarContainer

    rows: list[Row] = []
    known = [c for c in ax.containers if isinstance(c, BarContainer)]
    patches = {id(patch) for container in known for patch in container.patches}
    if any(id(patch) not in patches for patch in ax.patches):
        raise Untold
    for number, container in enumerate(known):
        for place, patch in enumerate(container.patches):
            name = looks.remember(patch, f"_bar{number}", series, str(container.get_label()))
            x, y, width, height = (
                patch.get_x(),
                patch.get_y(),
                patch.get_width(),
                patch.get_height(),
            )
            upright = container.orientation == "vertical"
            value = height if upright else width
            row = {"series": name, "i": place, "x": x, "x2": x + width, "y": y, "y2": y + height}
            rows.append({**row, "value": looks.number(value)})
    if not rows:
        return []
    label = ax.get_ylabel() if known[0].orientation == "vertical" else ax.get_xlabel()
    encoding = {
        "x": {"field": "x"},
        "x2": {"field": "x2"},
        "y": {"field": "y"},
        "y2": {"field": "y2"},
        "color": looks.channel("colour"),
        "tooltip": [
            {"field": "name", "title": "series"},
            {"field": "value", "title": looks.words(label or "value")},
        ],
    }
    return [layer(rows, {"type": "rect", "clip": True}, encoding)]


def segments(ax: Axes, series: dict[str, Row]) -> list[Row]:
    """Returns the layers of error bars, and of other lines with two ends."""
    rows: list[Row] = []
    found: list[Any] = list(ax.collections)
    for number, lines in enumerate(found):
        if type(lines).__name__ != "LineCollection" or hasattr(lines, TOLD):
            continue
        if lines.get_transform() != ax.transData:
            raise Untold
        name = looks.segments_of(ax, lines, f"_segments{number}", series)
        for (x, y), (x2, y2) in (
            np.asarray(s, float)[[0, -1]] for s in lines.get_segments() if len(s)
        ):
            row = {"series": name, "x": float(x), "y": float(y), "x2": float(x2), "y2": float(y2)}
            rows.append(row)
    if not rows:
        return []
    encoding = {axis: {"field": axis} for axis in ("x", "y", "x2", "y2")}
    encoding["color"] = looks.channel("colour")
    return [layer(rows, {"type": "rule", "opacity": 0.7, "clip": True}, encoding)]


def cells(ax: Axes) -> list[Row]:
    """Returns the layer of an image of few numbers, as cells."""
    if not ax.images:
        return []
    if len(ax.images) > 1:
        raise Untold
    image: Any = ax.images[0]
    values = image.get_array()
    if values.ndim != 2 or values.size > MOST_CELLS:
        raise Untold
    colours = image.to_rgba(values, bytes=True)
    left, right, bottom, top = image.get_extent()
    wide, high = (right - left) / values.shape[1], (top - bottom) / values.shape[0]
    if image.origin == "upper":
        bottom, high = top, -high
    rows = [
        {
            "x": left + column * wide,
            "x2": left + (column + 1) * wide,
            "y": bottom + row * high,
            "y2": bottom + (row + 1) * high,
            "value": looks.number(values[row, column]),
            "colour": "#" + bytes(colours[row, column, :3]).hex(),
        }
        for row in range(values.shape[0])
        for column in range(values.shape[1])
    ]
    encoding: Row = {axis: {"field": axis} for axis in ("x", "x2", "y", "y2")}
    encoding["color"] = {"field": "colour", "type": "nominal", "scale": None}
    encoding["tooltip"] = [{"field": "value", "title": "value"}]
    return [layer(rows, {"type": "rect"}, encoding)]


def texts(ax: Axes) -> list[Row]:
    """Returns the layer of words inside of a panel."""
    rows = []
    for text in ax.texts:
        place = text.get_transform().transform(text.get_position())
        x, y = ax.transData.inverted().transform(place)
        rows.append({"x": float(x), "y": float(y), "text": looks.words(text.get_text())})
    if not rows:
        return []
    words: Any = ax.texts[0]
    align = {"left": "left", "right": "right"}.get(words.get_ha(), "center")
    mark = {"type": "text", "align": align, "baseline": "middle", "dx": 3 if align == "left" else 0}
    encoding = {"x": {"field": "x"}, "y": {"field": "y"}, "text": {"field": "text"}}
    return [layer(rows, mark, encoding)]
