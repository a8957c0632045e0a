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

    Example:
        >>> from msdnet import exits
        >>> correct = [[1, 1], [0, 1]]  # the first exit is wrong about the second example
        >>> exits.outcome(correct, exits=[0, 1], costs=[10, 30])
        Outcome(accuracy=1.0, cost=20.0)
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

    Example:
        >>> from msdnet import exits
        >>> confidences = [[0.9, 1.0], [0.6, 1.0], [0.4, 1.0]]
        >>> correct = [[1, 1], [1, 1], [0, 1]]  # the first exit is wrong where it is least sure
        >>> curve = exits.budgeted(confidences, confidences, correct, costs=[10, 40])
        >>> sorted({(point.cost, round(point.accuracy, 2)) for point in curve})
        [(10.0, 0.67), (20.0, 1.0), (30.0, 1.0), (40.0, 1.0)]
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

    Example:
        >>> from msdnet import exits
        >>> correct = [[1, 1], [0, 1]]  # the first exit is wrong about the second example
        >>> exits.anytime(correct, costs=[10, 30])
        [Outcome(accuracy=0.5, cost=10.0), Outcome(accuracy=1.0, cost=30.0)]
    """
    each = checks.costs(costs)
    accuracies = checks.right(correct, len(each)).mean(0)
    return [Outcome(float(a), float(c)) for a, c in zip(accuracies, each, strict=True)]


def area(curve: Sequence[Outcome]) -> float:
    """Returns the mean accuracy over costs, from a curve's cheapest to its most expensive point.

    The curve is linear between points.

    Raises:
      ArgumentError: the curve has no point, or one that is no pair of finite numbers.

    Example:
        >>> from msdnet import exits
        >>> curve = [exits.Outcome(accuracy=0.5, cost=10), exits.Outcome(accuracy=1.0, cost=30)]
        >>> exits.area(curve)
        0.75
    """
    listed = curve if hasattr(curve, "shape") else [tuple(point) for point in curve]
    points = checks.numbers("a curve", listed)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ArgumentError("a curve must be points of an accuracy and a cost, at least one")
    y, x = points[np.argsort(points[:, 1], kind="stable")].T
    width = x[-1] - x[0]
    return float(np.trapezoid(y, x) / width) if width else float(y.mean())
