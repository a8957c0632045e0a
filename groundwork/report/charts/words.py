"""What is to be seen in a panel of a figure, in words: for those who do not see it."""

from collections.abc import Mapping
from typing import Any

from groundwork.report.charts import looks

MOST = 6  # series of which each has words of its own


def said(panel: Mapping[str, Any]) -> str:
    """Returns a sentence about each series of a panel of `panels.panels`."""
    axes = panel["usermeta"]
    title = f"{panel['title']}: " if panel["title"] else ""
    about = f"{title}{axes['y'] or 'values'} against {axes['x'] or 'names'}".replace("\n", " ")
    labels = {look["name"]: look["label"] for look in axes["series"]}
    curves: dict[str, list[tuple[float, float]]] = {}
    bars: dict[str, list[float]] = {}
    for layer in panel["layer"]:
        for row in layer["data"]["values"]:
            if layer["mark"]["type"] == "point":
                curves.setdefault(row["series"], []).append((row["x"], row["y"]))
            elif layer["mark"]["type"] == "rect" and "series" in row:
                bars.setdefault(row["series"], []).append(float(row["value"].replace(",", "")))
    each = [_curve(labels[name] or "a line", points) for name, points in curves.items()]
    each += [_bar(labels[name] or "bars", values) for name, values in bars.items()]
    if len(each) > MOST:
        each = [*each[:MOST], f"and {len(each) - MOST} more series"]
    return f"{about}. " + "; ".join(each) + "." if each else f"{about}."


def _curve(name: str, points: list[tuple[float, float]]) -> str:
    x, y = max(points, key=lambda point: point[1])
    if len(points) == 1:
        return f"{name}: {looks.number(y)} at {looks.number(x)}"
    low = min(point[1] for point in points)
    count = f"{name}: {len(points)} points from {looks.number(low)} to {looks.number(y)}"
    return f"{count}, highest at {looks.number(x)}"


def _bar(name: str, values: list[float]) -> str:
    low, high = looks.number(min(values)), looks.number(max(values))
    return f"{name}: {low}" if len(values) == 1 else f"{name}: {len(values)} bars, {low} to {high}"
