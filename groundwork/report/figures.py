"""Figures and the report page that every experiment shares: one style, one way to save."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files, never windows
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE: Any = {
    "figure.dpi": 120,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
CSS = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #eee;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
img{max-width:100%}figcaption{color:#555;font-size:.9rem}figure{margin:1rem 0}
pre{background:#f6f6f6;padding:.8rem;overflow-x:auto;font-size:.85rem}
"""


def subplots(
    columns: int = 1, width: float = 4.6, height: float = 3.4
) -> tuple[Figure, list[Axes]]:
    """A row of axes in the house's style."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(width * columns, height), squeeze=False)
    return figure, list(axes[0])


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG and free the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        figure.savefig(path)
    plt.close(figure)
    return path


def band(axes: Axes, x: Sequence[float], values: Sequence[Sequence[float]], **style: Any) -> None:
    """Means over replicates, one list of values a point, with a band of ± one deviation."""
    means = np.asarray([np.mean(v) for v in values])
    deviations = np.asarray([np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in values])
    (line,) = axes.plot(x, means, **style)
    axes.fill_between(
        x, means - deviations, means + deviations, color=line.get_color(), alpha=0.18, lw=0
    )


def density_axis(axes: Axes, label: str = "density (kept / prunable)") -> None:
    """A logarithmic axis of densities, dense at the left, with plain numbers on it."""
    axes.set_xscale("log")
    axes.set_xlabel(label)
    low, high = sorted(axes.get_xlim())
    ticks = [
        t for t in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001) if low <= t <= high
    ]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(high, low)


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A self-contained HTML page of (heading, HTML) sections."""
    body = "".join(f"<h2>{html.escape(heading)}</h2>{text}" for heading, text in sections)
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{CSS}</style>"
    return f"<!doctype html><html lang='en'>{head}<h1>{html.escape(title)}</h1>{body}</html>\n"


def picture(path: Path, caption: str) -> str:
    """A figure of a page, the image inside it."""
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    image = f"<img alt='{text}' src='data:image/png;base64,{data}'>"
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of texts."""
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"


def listing(values: Mapping[str, Any]) -> str:
    """Keys and values as they would be typed."""
    return "<pre>" + html.escape("\n".join(f"{k} = {v}" for k, v in values.items())) + "</pre>"
