"""The figures of a run: each function draws a PNG from results and returns its caption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from groundwork.report import figures
from groundwork.runs.metrics import mean_and_spread
from lowrank.choose import approximation
from lowrank.results import Factorised, Network, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES: dict[str, dict[str, Any]] = {
    "svd": {"color": "#1f5fb4", "label": "SVD"},
    "svd_outputs": {"color": "#5bb0d8", "label": "SVD of outputs"},
    "spatial": {"color": "#3a8f4d", "label": "spatial"},
    "tucker": {"color": "#d1622b", "label": "Tucker"},
    "cp": {"color": "#8a4fa3", "label": "CP"},
    "any": {"color": "#222222", "label": "the best method for each layer", "ms": 6},
}
CROSSES = "; crosses: the same layers trained from their initialisation"
SPREAD = "Lines are means over replicates, bands one standard deviation."


def _time(network: Network, batch: str) -> float:
    """Returns the time of a call, relative to the original's."""
    original, factorised = network.milliseconds[batch][:2]
    return factorised / original


COSTS: dict[str, Callable[[Network], float]] = {
    "multiply-adds of an example (millions)": lambda network: network.macs / 1e6,
    "parameters (thousands)": lambda network: network.parameters / 1e3,
    "time for 128 examples / the original's": lambda network: _time(network, "128"),
    "time for 1 example / the original's": lambda network: _time(network, "1"),
}
TIMES = tuple(COSTS)[2:]  # no lines: times do not grow from rank to rank


def accuracy(run: Results, path: Path) -> tuple[Path, str]:
    """Draws test accuracy against multiply-adds, parameters and measured times."""
    figure, axes = figures.subplots(len(COSTS), width=3.4, height=3.6)
    for ax, (label, cost) in zip(axes, COSTS.items(), strict=True):
        original = cost(run.original)
        _one(ax, original, run.original, marker="D", ms=3.5, label="original")
        ax.axhline(mean_and_spread(run.original.test)[0], color="black", lw=0.8, linestyle=":")
        if run.fine_tuned:
            style: dict[str, Any] = {"marker": "D", "ms": 4, "mfc": "white"}
            _one(ax, original, run.fine_tuned, label="original, fine-tuned too", **style)
        for method, points in run.by_method().items():
            points = sorted(points, key=cost)
            x = [cost(point) for point in points]
            joined = len(x) > 1 and label not in TIMES
            style = {"marker": "o", "ms": 3.5, **STYLES[method]}
            _points(ax, x, [p.test for p in points], joined, **style)
            style.update(label=None, linestyle="--", lw=0.9, ms=style["ms"] - 1, mfc="white")
            _points(ax, x, [p.before for p in points], joined, bars=False, **style)
            _scratch(ax, points, cost, STYLES[method]["color"])
        ax.set_xlabel(label)
        ax.set_ylim(*_range(run))
    axes[0].set_ylabel(f"test {run.metric.words}")
    axes[0].legend(fontsize=7)
    crosses = any(point.scratch for point in run.points)
    far = "below" if run.metric.higher_is_better else "above"
    caption = (
        f"Test {run.metric.words} after decomposing (hollow) and after fine-tuning (filled), "
        f"against the costs of a prediction{CROSSES if crosses else ''}. Means over replicates; "
        f"bands and bars are one standard deviation. {run.metric.plural.capitalize()} far {far} "
        "are cut off."
    )
    return figures.save(figure, path), caption


def spectra(run: Results, path: Path) -> tuple[Path, str]:
    """Draws the singular values of every kernel, as a matrix, and the ranks that svd was given."""
    kernels = run.kernels()
    labels = ("singular value, the largest first", "singular value / largest")
    figure, axes = figures.grid(len(kernels), 4, width=2.9, height=2.3, labels=labels)
    chosen = [p for p in run.points if p.point.method in ("svd", "svd_outputs")] or run.points
    titles = figures.short(list(kernels), 28)
    for ax, title, (name, kernel) in zip(axes, titles, kernels.items(), strict=True):
        (matrices,) = approximation.MATRICES["svd"](kernel)
        sigma = np.linalg.svd(matrices, compute_uv=False)
        sigma = sigma / np.where(sigma[:, :1] > 0, sigma[:, :1], 1)
        figures.band(ax, np.arange(1, sigma.shape[1] + 1).tolist(), list(sigma.T), color="#1f5fb4")
        for point in chosen:
            entry = point.plan.get(name)
            if entry and entry["method"] in ("svd", "svd_outputs"):
                ax.axvline(entry["rank"], color="#d1622b", lw=0.9, linestyle="--")
        ax.set_title(f"{title}\n{'×'.join(map(str, kernel.shape[1:]))}", fontsize=7)
        ax.set_ylim(0, None)
    caption = (
        "Singular values of the original's kernels, as matrices [inputs and window, outputs]; "
        f"dashed: ranks that the sweep chose there for an SVD. {SPREAD}"
    )
    return figures.save(figure, path), caption


def _one(ax: Axes, x: float, network: Network, **style: Any) -> None:
    """Draws a network that is not decomposed, in black."""
    mean, spread = mean_and_spread(network.test)
    ax.errorbar(x, mean, spread, color="black", capsize=2, linestyle="none", **style)


def _points(
    ax: Axes,
    x: list[float],
    values: list[list[float]],
    joined: bool,
    bars: bool = True,
    **style: Any,
) -> None:
    """Draws means as a line with a band or, if not joined, as points that may have bars."""
    if joined:
        figures.band(ax, x, values, **style)
        return
    means, spreads = zip(*map(mean_and_spread, values), strict=True)
    style.update(capsize=2, elinewidth=0.9, linestyle="none")
    ax.errorbar(x, means, spreads if bars else None, **style)


def _scratch(
    ax: Axes, points: list[Factorised], cost: Callable[[Network], float], color: str
) -> None:
    crosses = [(cost(p), np.mean(p.scratch.test)) for p in points if p.scratch]
    if crosses:
        ax.plot(*zip(*crosses, strict=True), linestyle="none", marker="x", ms=5, color=color)


def _range(run: Results) -> tuple[float | None, float | None]:
    """Returns the ends of the axis of accuracies: it begins a little below all fine-tuned ones.

    Of a metric that is better the lower it is, the axis ends a little above them.
    """
    after = [value for point in run.points for value in point.test] + run.original.test
    after += run.fine_tuned.test if run.fine_tuned else []
    span = max(after) - min(after)
    if run.metric.higher_is_better:
        return min(after) - max(0.3 * span, 0.01), None
    return None, max(after) + max(0.3 * span, 0.01 * abs(max(after)))
