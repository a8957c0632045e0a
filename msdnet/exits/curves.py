"""What thresholds cost and reach: outcomes on a labelled split, and curves of them.

All of it is numpy on the host.
"""

# N examples, M test examples, K exits

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from msdnet.exits.budget import for_shares, route, shares

RATIOS = np.concatenate([np.linspace(0.05, 1, 20), 1 / np.linspace(0.95, 0.05, 19)])


class Outcome(NamedTuple):
    """The result on a labelled split, under thresholds or at one exit."""

    accuracy: float
    cost: float  # mean per example, in the unit of the costs


def outcome(correct: np.ndarray, exits: np.ndarray, costs: ArrayLike) -> Outcome:
    """Returns accuracy and mean cost: correct [N, K] bool, exits [N], costs [K]."""
    hits = np.take_along_axis(correct, exits[:, None], 1)
    return Outcome(float(hits.mean()), float(np.mean(np.asarray(costs)[exits])))


def budgeted(
    validation: np.ndarray, test: np.ndarray, correct: np.ndarray, costs: Sequence[float]
) -> list[Outcome]:
    """Returns the curve of budgeted batches on the test split, one point for each of `RATIOS`.

    Args:
      validation: confidences [N, K] on which thresholds are chosen.
      test: confidences [M, K].
      correct: which test answers are right, [M, K] bool.
      costs: [K].
    """
    chosen = (for_shares(validation, shares(len(costs), ratio)) for ratio in RATIOS)
    return [outcome(correct, route(test, thresholds), costs) for thresholds in chosen]


def anytime(correct: np.ndarray, costs: Sequence[float]) -> list[Outcome]:
    """Returns the outcome of each exit if all examples leave there: correct [N, K], costs [K]."""
    return [Outcome(float(a), float(c)) for a, c in zip(correct.mean(0), costs, strict=True)]


def area(curve: Sequence[Outcome]) -> float:
    """Returns the mean accuracy over costs, from a curve's cheapest to its most expensive point.

    The curve is linear between points.
    """
    points = sorted(curve, key=lambda point: point.cost)
    x, y = np.array([point.cost for point in points]), np.array([p.accuracy for p in points])
    width = x[-1] - x[0]
    return float(np.trapezoid(y, x) / width) if width else float(y.mean())
