"""The figures of a run, each a function from results to a PNG and its caption."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiment import figures
from experiment.metrics import mean_and_spread
from lowrank import candidates
from lowrank.results import Network, Results

STYLES: dict[str, dict[str, Any]] = {
    "svd": {"color": "#1f5fb4", "label": "SVD"},
    "svd_outputs": {"color": "#5bb0d8", "label": "SVD of outputs"},
    "spatial": {"color": "#3a8f4d", "label": "spatial"},
    "tucker": {"color": "#d1622b", "label": "Tucker"},
    "cp": {"color": "#8a4fa3", "label": "CP"},
    "any": {"color": "#222222", "label": "any method a layer"},
}
SPREAD = "Lines are means over replicates, bands one standard deviation."


def _time(network: Network, batch: str) -> float:
    """Of a call, in units of the original's."""
    original, own = network.milliseconds[batch]
    return own / original


COSTS: dict[str, Callable[[Network], float]] = {
    "multiply-adds of an image (millions)": lambda network: network.macs / 1e6,
    "parameters (thousands)": lambda network: network.parameters / 1e3,
    "time for 128 images / the original's": lambda network: _time(network, "128"),
    "time for 1 image / the original's": lambda network: _time(network, "1"),
}


def accuracy(run: Results, path: Path) -> tuple[Path, str]:
    """Test accuracy against multiply-adds, parameters and measured time."""
    figure, axes = figures.subplots(len(COSTS), width=3.4, height=3.6)
    for ax, (label, cost) in zip(axes, COSTS.items(), strict=True):
        mean, spread = mean_and_spread(run.original.test)
        ax.axhline(mean, color="black", lw=0.8, linestyle=":")
        ax.errorbar(
            cost(run.original),
            mean,
            spread,
            color="black",
            marker="D",
            ms=3.5,
            capsize=2,
            label="original",
        )
        if run.fine_tuned:
            mean, spread = mean_and_spread(run.fine_tuned.test)
            style: dict[str, Any] = {"marker": "D", "ms": 4, "mfc": "white", "capsize": 2}
            style["label"] = "original, fine-tuned too"
            ax.errorbar(cost(run.original), mean, spread, color="black", **style)
        for method, points in run.by_method().items():
            points = sorted(points, key=cost)
            x = [cost(point) for point in points]
            figures.band(ax, x, [p.test for p in points], marker="o", ms=3.5, **STYLES[method])
            before = {**STYLES[method], "label": None, "linestyle": "--", "lw": 0.9}
            figures.band(ax, x, [p.before for p in points], marker="o", ms=2.5, **before)
            _scratch(ax, points, cost, STYLES[method]["color"])
        ax.set_xlabel(label)
        ax.set_ylim(_floor(run), None)
    axes[0].set_ylabel("test accuracy")
    axes[0].legend(fontsize=7)
    caption = (
        "What is left after decomposing (dashed) and after fine-tuning (solid), against what a "
        f"prediction costs; crosses: the same layers trained from their initialisation. {SPREAD} "
        "Accuracies far below are cut off."
    )
    return figures.save(figure, path), caption


def spectra(run: Results, path: Path) -> tuple[Path, str]:
    """Singular values of every kernel as the window's matrix, with the ranks that svd was given."""
    kernels = run.kernels()
    columns = min(4, len(kernels))
    rows = -(-len(kernels) // columns)
    with plt.rc_context(figures.STYLE):
        figure, grid = plt.subplots(
            rows, columns, figsize=(2.9 * columns, 2.3 * rows), squeeze=False
        )
    chosen = [p for p in run.points if p.point.method in ("svd", "svd_outputs")] or run.points
    for ax, (name, kernel) in zip(grid.ravel(), kernels.items(), strict=False):
        (matrices,) = candidates.MATRICES["svd"](kernel)
        sigma = np.linalg.svd(matrices, compute_uv=False)
        sigma = sigma / np.where(sigma[:, :1] > 0, sigma[:, :1], 1)
        figures.band(ax, np.arange(1, sigma.shape[1] + 1).tolist(), list(sigma.T), color="#1f5fb4")
        for point in chosen:
            entry = point.plan.get(name)
            if entry and entry["method"] in ("svd", "svd_outputs"):
                ax.axvline(entry["rank"], color="#d1622b", lw=0.9, linestyle="--")
        ax.set_title(f"{name}  {'×'.join(map(str, kernel.shape[1:]))}", fontsize=8)
        ax.set_ylim(0, None)
    for ax in grid.ravel()[len(kernels) :]:
        ax.set_axis_off()
    for ax in grid.ravel()[: len(kernels)][-columns:]:  # the lowest of each column
        ax.set_xlabel("singular value, the largest first")
    for ax in grid[:, 0]:
        ax.set_ylabel("singular value / largest")
    caption = (
        "Singular values of the original's kernels, as matrices [inputs and window, outputs]; "
        f"dashed: ranks that the sweep chose there for an SVD. {SPREAD}"
    )
    return figures.save(figure, path), caption


def _scratch(ax: Any, points: list[Any], cost: Callable, color: str) -> None:
    own = [(cost(p), np.mean(p.scratch.test)) for p in points if p.scratch]
    if own:
        ax.plot(*zip(*own, strict=True), linestyle="none", marker="x", ms=5, color=color)


def _floor(run: Results) -> float:
    """Where the axis of accuracies begins: below everything after fine-tuning, not much lower."""
    after = [value for point in run.points for value in point.test] + run.original.test
    after += run.fine_tuned.test if run.fine_tuned else []
    span = max(after) - min(after)
    return min(after) - max(0.3 * span, 0.01)
