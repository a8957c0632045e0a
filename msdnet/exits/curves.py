"""What thresholds cost and reach: outcomes on a labelled split, and curves of them.

All of it is numpy on the host.
"""

# N examples, M test examples, K exits

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from groundwork.errors import ArgumentError
from msdnet.exits import checks
from msdnet.exits.budget import for_shares, route, shares

RATIOS = np.concatenate([np.linspace(0.05, 1, 20), 1 / np.linspace(0.95, 0.05, 19)])


class Outcome(NamedTuple):
    """The result on a labelled split, under thresholds or at one exit."""

    accuracy: float
    cost: float  # mean per example, in the unit of the costs


def outcome(correct: ArrayLike, exits: ArrayLike, costs: ArrayLike) -> Outcome:
    """Returns accuracy and mean cost: correct [N, K] bool, exits [N], costs [K].

    Raises:
      ArgumentError: shapes differ, exits are out of range, or there is no example.
    """
    each = checks.costs(costs)
    hits = checks.right(correct, len(each))
    places = checks.places(exits, *hits.shape)
    hits = np.take_along_axis(hits, places[:, None], 1)
    return Outcome(float(hits.mean()), float(np.mean(each[places])))


def budgeted(
    validation: ArrayLike, test: ArrayLike, correct: ArrayLike, costs: ArrayLike
) -> list[Outcome]:
    """Returns the curve of budgeted batches on the test split, one point for each of `RATIOS`.

    Args:
      validation: confidences [N, K] on which thresholds are chosen.
      test: confidences [M, K].
      correct: which test answers are right, [M, K] bool.
      costs: [K].

    Raises:
      ArgumentError: shapes differ, or numbers are none.
    """
    each = checks.costs(costs)
    validation, test = (
        checks.rows(what, rows, len(each))
        for what, rows in (("validation confidences", validation), ("test confidences", test))
    )
    chosen = (for_shares(validation, shares(len(each), ratio)) for ratio in RATIOS)
    return [outcome(correct, route(test, thresholds), each) for thresholds in chosen]


def anytime(correct: ArrayLike, costs: ArrayLike) -> list[Outcome]:
    """Returns the outcome of each exit if all examples leave there: correct [N, K], costs [K].

    Raises:
      ArgumentError: shapes differ, or there is no example.
    """
    each = checks.costs(costs)
    accuracies = checks.right(correct, len(each)).mean(0)
    return [Outcome(float(a), float(c)) for a, c in zip(accuracies, each, strict=True)]


def area(curve: Sequence[Outcome]) -> float:
    """Returns the mean accuracy over costs, from a curve's cheapest to its most expensive point.

    The curve is linear between points.

    Raises:
      ArgumentError: the curve has no point, or one that is no pair of finite numbers.
    """
    listed = curve if hasattr(curve, "shape") else [tuple(point) for point in curve]
    points = checks.numbers("a curve", listed)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ArgumentError("a curve must be points of an accuracy and a cost, at least one")
    y, x = points[np.argsort(points[:, 1], kind="stable")].T
    width = x[-1] - x[0]
    return float(np.trapezoid(y, x) / width) if width else float(y.mean())
