"""Figures in the style that all reports share, and one way to save them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from groundwork import atomic
from groundwork.errors import printable
from groundwork.report.charts import curves, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TEXT = 400_000  # characters of a description: a page has several, and stays below 3 MB
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


def plain(text: str) -> str:
    """Returns what matplotlib shows as this text: no mathematics, and no label that it hides."""
    shown = printable(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def short(names: Sequence[str], most: int = 36) -> list[str]:
    """Returns names for figures, as `plain` as they must be, without the middles of long ones.

    `encoder/block_3/attention/query` becomes `enc…/attention/query`. Where that would make names
    equal, another part of the middle is left out, or less of it.
    """
    longest = max(map(len, names), default=0)
    cuts = ((size, head) for size in range(most, longest) for head in (3, *range(6, size - 4, 3)))
    candidates = ([_cut(name, *cut) for name in names] for cut in cuts)
    distinct = next((cut for cut in candidates if len(set(cut)) == len(set(names))), names)
    return [plain(name) for name in distinct]


def _cut(name: str, most: int, head: int) -> str:
    """Returns the first letters and the end of a name, from the beginning of a part of its path."""
    if len(name) <= most:
        return name
    end = name[head + 1 - most :]
    place = end.find("/")
    return f"{name[:head]}…{end[place:] if 0 <= place < len(end) / 2 else end}"


def pyplot() -> Any:
    """Returns matplotlib.pyplot, which is imported when something is drawn: it takes a second."""
    import matplotlib

    matplotlib.use("Agg")  # files, never windows
    import matplotlib.pyplot

    return matplotlib.pyplot


def colours(name: str) -> Any:
    """Returns one of matplotlib's colour maps: a function of [0, 1], or of integers."""
    return pyplot().get_cmap(name)


def subplots(
    columns: int = 1, width: float = 4.6, height: float = 3.4
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with a row of axes, in the style that all figures share."""
    plt = pyplot()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(width * columns, height), squeeze=False)
    return figure, list(axes[0])


def grid(
    panels: int, columns: int, *, width: float, height: float, labels: tuple[str, str]
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with so many panels, in rows of at most `columns`.

    `labels` are those of the x axes in the lowest row, and of the y axes in the first column.
    """
    columns = min(columns, panels)
    rows = -(-panels // columns)
    plt = pyplot()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(width * columns, height * rows), squeeze=False
        )
    for ax in axes.ravel()[panels:]:
        ax.set_axis_off()
    for ax in axes.ravel()[:panels][-columns:]:  # the lowest of each column
        ax.set_xlabel(labels[0])
    for ax in axes[:, 0]:
        ax.set_ylabel(labels[1])
    return figure, list(axes.ravel()[:panels])


def save(figure: Figure, path: Path) -> Path:
    """Writes a PNG, and a PDF for papers, and frees the figure; returns the PNG's path.

    Beside them is a JSON file with what pages show, if `charts` can tell it in `MOST_TEXT`.
    """
    plt = pyplot()
    description = path.with_suffix(".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for ax in figure.axes:
            _whole_numbers(ax)
        with plt.rc_context(STYLE):
            figure.savefig(path)
            described = panels.panels(figure)
            figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
        text = json.dumps(described, ensure_ascii=False, default=float) if described else ""
        if 0 < len(text) < MOST_TEXT:
            atomic.write(description, text)
        else:
            description.unlink(missing_ok=True)
    finally:
        plt.close(figure)
    return path


def _whole_numbers(axes: Axes) -> None:
    """Lets an axis along which all lines have integers have ticks at integers alone."""
    from matplotlib import ticker

    for number, axis in enumerate((axes.xaxis, axes.yaxis)):
        if axis.get_scale() != "linear" or not isinstance(
            axis.get_major_locator(), ticker.AutoLocator
        ):
            continue
        values = [np.ravel(line.get_data()[number]) for line in axes.lines]
        points = np.concatenate([*values, []]).astype(float)
        points = points[np.isfinite(points)]
        if len(points) and np.ptp(points) > 1 and np.all(points == np.round(points)):
            axis.set_major_locator(
                ticker.MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 5, 10])
            )


def band(axes: Axes, x: Sequence[float], values: Sequence[Sequence[float]], **style: Any) -> None:
    """Draws means over replicates, one list of values per point, within ± one deviation.

    The deviation is a band; at a single point, which has none, it is a bar.
    """
    means = np.asarray([np.mean(v) for v in values])
    deviations = np.asarray([np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in values])
    (line,) = axes.plot(x, means, **style)
    setattr(line, curves.SPREAD, deviations)
    told: list[Any] = []
    if len(means) == 1:
        bar = axes.errorbar(x, means, deviations, color=line.get_color(), alpha=0.5, capsize=3)
        told += [bar.lines[0], *bar.lines[2]]
    low, high = means - deviations, means + deviations
    told.append(axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, lw=0))
    for artist in told:
        setattr(artist, curves.TOLD, True)


def cost_axis(axes: Axes) -> None:
    """Makes x a logarithmic axis with few and short numbers, such as 200k and 5M."""
    from matplotlib import ticker

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
    long = ticker.EngFormatter(sep="")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1 else long(value))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def density_axis(axes: Axes, label: str = "density (kept / prunable)") -> None:
    """Makes x a logarithmic axis of densities, dense at the left, with plain numbers."""
    axes.set_xscale("log")
    axes.set_xlabel(label)
    low, high = sorted(axes.get_xlim())
    ticks = [
        t for t in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001) if low <= t <= high
    ]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(high, low)
