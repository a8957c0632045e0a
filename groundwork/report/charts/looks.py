"""How matplotlib's lines and bars look, in words of Vega-Lite."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
PAPER = "var(--paper)"
INK = "var(--ink)"  # what is black on paper, is light on a dark page
STEPS = {
    "default": "linear",
    "steps": "step-before",
    "steps-pre": "step-before",
    "steps-mid": "step",
    "steps-post": "step-after",
}
DASHES: dict[str, list[float]] = {"-": [1, 0], "--": [6, 3], ":": [2, 2], "-.": [6, 2, 2, 2]}
SHAPES = {
    "o": "circle", "s": "square", "D": "diamond", "d": "diamond", "^": "triangle-up",
    "v": "triangle-down", "<": "triangle-left", ">": "triangle-right", "x": "cross", "X": "cross",
    "+": "cross", "*": "diamond", "P": "cross", ".": "circle",
}  # fmt: skip
PLAIN = {
    "dash": [1, 0],
    "width": 1.0,
    "size": 40.0,
    "opacity": 1.0,
    "shape": "circle",
    "point": 0.0,
}
BLANK = ("None", "none", "", " ", None)


def remember(artist: Any, alone: str, series: dict[str, Row], label: str | None = None) -> str:
    """Returns the name of the series that an artist shows, and keeps how that looks.

    Args:
      artist: a line or a bar.
      alone: the name of a series without a label.
      series: name → what is kept.
      label: instead of the artist's own.
    """
    own = str(artist.get_label()) if label is None else label
    name = alone if own.startswith("_") else words(own)
    if name not in series:
        look = _line(artist) if hasattr(artist, "get_marker") else _patch(artist)
        series[name] = {"name": name, "label": "" if own.startswith("_") else name, **look}
    return name


def _line(line: Any) -> Row:
    marker, style = line.get_marker(), line.get_linestyle()
    alpha = line.get_alpha()
    is_marked = marker not in BLANK
    own = line.get_color() if style not in BLANK or not is_marked else line.get_markeredgecolor()
    face = line.get_markerfacecolor()
    colour = hexadecimal(own)
    fill = colour if not is_marked or marker in "x+" else hexadecimal(face)
    return {
        "colour": colour,
        "fill": PAPER if is_marked and marker not in "x+" and _is_paper(face) else fill,
        "dash": _dash(style),
        "width": 1.2 * float(line.get_linewidth()),
        "size": max(20.0, 4.0 * float(line.get_markersize()) ** 2) if is_marked else 40.0,
        "opacity": 1.0 if alpha is None else float(alpha),
        "shape": SHAPES.get(marker, "circle"),
        "point": 1.0 if is_marked else 0.0,  # one that cannot be seen can be pointed at
    }


def _is_paper(colour: Any) -> bool:
    """Is it the white of paper, or none?"""
    from matplotlib import colors

    red, green, blue, alpha = colors.to_rgba(colour)
    return not alpha or red == green == blue == 1


def _dash(style: Any) -> list[float] | None:
    """Returns lengths of dashes and gaps; None where points are not joined."""
    if isinstance(style, tuple):
        return [2 * float(length) for length in style[1] or (1, 0)]
    return None if style in BLANK else DASHES.get(style, [1, 0])


def _patch(patch: Any) -> Row:
    colour = hexadecimal(patch.get_facecolor())
    return {
        **PLAIN,
        "colour": colour,
        "fill": colour,
        "dash": None,
        "shape": "square",
        "point": 1.0,
    }


def segments_of(ax: Axes, lines: Any, alone: str, series: dict[str, Row]) -> str:
    """Returns the series whose error bars a collection of lines is."""
    from matplotlib.container import BarContainer, ErrorbarContainer

    for container in ax.containers:
        if isinstance(container, ErrorbarContainer) and lines in container.lines[2]:
            data = container.lines[0]
            owners = [c for c in ax.containers if isinstance(c, BarContainer)]
            owner = next((c for c in owners if c.errorbar is container), None)
            if owner is not None:
                return remember(owner.patches[0], alone, series, str(owner.get_label()))
            if data is not None:
                return remember(data, alone, series, str(container.get_label()))
    colour = hexadecimal(lines.get_color()[0])
    series[alone] = {**PLAIN, "name": alone, "label": "", "colour": colour, "fill": colour}
    return alone


def error_bars(ax: Axes) -> tuple[dict[int, tuple[str, Sequence[float] | None]], set[int]]:
    """Returns what error bars say of lines, and which lines are their caps, by their ids.

    A line with error bars has the label of its container; its deviations are half of the bars'
    heights, where there is one for each point.
    """
    from matplotlib.container import ErrorbarContainer

    barred: dict[int, tuple[str, Sequence[float] | None]] = {}
    caps: set[int] = set()
    for container in ax.containers:
        if not isinstance(container, ErrorbarContainer):
            continue
        line, cap_lines, bars = container.lines
        caps |= {id(cap) for cap in cap_lines}
        if line is None:
            continue
        heights = None
        if container.has_yerr:
            heights = [(s[-1][1] - s[0][1]) / 2 if len(s) else 0.0 for s in bars[-1].get_segments()]
            heights = heights if len(heights) == len(np.ravel(line.get_xdata())) else None
        barred[id(line)] = (str(container.get_label()), heights)
    return barred, caps


def channel(what: str) -> Row:
    """Returns how a layer looks up one property of its series; `complete` adds the properties."""
    return {"field": "series", "type": "nominal", "scale": what, "legend": None}


def complete(layer: Row, series: Mapping[str, Row]) -> None:
    """Gives the channels of a layer the properties of all series, since layers share scales."""
    for encoded in layer["encoding"].values():
        if isinstance(encoded, dict) and isinstance(encoded.get("scale"), str):
            values = [look[encoded["scale"]] for look in series.values()]
            values = [[1, 0] if value is None else value for value in values]
            encoded["scale"] = {"type": "ordinal", "domain": list(series), "range": values}


def hexadecimal(colour: Any) -> str:
    """Returns a colour as #rrggbb; black is the page's ink."""
    from matplotlib import colors

    found = colors.to_hex(colour)
    return INK if found == "#000000" else found


def words(text: str) -> str:
    """Returns a text without matplotlib's escapes."""
    plain = re.sub(r"\\mathdefault\{([^}]*)\}", r"\1", text.strip().replace(r"\$", "\0"))
    plain = plain.replace("$", "").replace("\0", "$")
    return re.sub(r"10\^\{([^}]*)\}", r"1e\1", plain)


def number(value: float) -> str:
    """Returns a number as tables show it: large ones whole, others with four digits or more."""
    if float(value).is_integer() or 1e4 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"
