"""The figure of `prediction`: how well a share of the weights predicts the rest."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from groundwork.metric import ACCURACY, Metric
from groundwork.report import figures
from lowrank.prediction import Curve

COLOURS = ("#1f5fb4", "#d1622b", "#3a8f4d", "#8a4fa3")


def draw(curves: Mapping[str, Curve], path: Path, metric: Metric = ACCURACY) -> tuple[Path, str]:
    """Draws the relative error, and accuracy where there is any, against the share revealed.

    Args:
      curves: name of the covariance that was known → curve, of one layer. The low-rank
        approximations in the figure are those of the first curve.
      path: of the PNG.
      metric: what `Curve.accuracy` has the values of.

    Returns:
      The path, and a caption.

    Raises:
      ValueError: there are no curves.
    """
    if not curves:
        raise ValueError("there are no curves to draw")
    scored = any(curve.accuracy is not None for curve in curves.values())
    figure, (left, *right) = figures.subplots(columns=2 if scored else 1)
    for (name, curve), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        style = {"color": colour, "label": f"predicted: {name}", "marker": "o", "ms": 3}
        figures.band(left, curve.shares, list(curve.error), **style)
        if curve.accuracy is not None:
            figures.band(right[0], curve.shares, list(curve.accuracy), **style)
    first = next(iter(curves.values()))
    style = {"color": "#666666", "label": "low rank, as many numbers", "linestyle": ":"}
    figures.band(left, first.shares, list(first.lowrank_error), **style)
    grid = np.geomspace(min(first.shares), 1, 100)
    left.plot(grid, np.sqrt(1 - grid), color="black", lw=0.8, linestyle="--", label="zeros")
    left.set_ylabel("relative error of the weights")
    left.set_ylim(bottom=0)
    for ax in right:
        ax.set_ylabel(f"test {metric.words}, not trained on")
    pairs = zip((0, *first.shares), first.shares, strict=False)
    ticks = [share for before, share in pairs if share > 1.6 * before]  # labels would overlap
    for ax in (left, *right):
        ax.set_xscale("log")
        ax.set_xlabel("share of the weights revealed")
        ax.set_xticks(ticks, [f"{share:.2g}" for share in ticks])
        ax.set_xticks([], minor=True)
        ax.legend(fontsize=7)
    caption = (
        "How well a share of a layer's weights predicts the others, by kernel ridge regression "
        "from the revealed inputs' rows. Dashed: zeros in place of what is hidden. Dotted: the "
        "best low-rank matrix of as many numbers, which needs to see all of them. Lines are means "
        "over replicates, bands one standard deviation."
    )
    return figures.save(figure, path), caption
