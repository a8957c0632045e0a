"""Thresholds that keep a budget, and the exits to which they send examples.

All of it is numpy on the host.
"""

# N examples, K exits

import bisect

import numpy as np
from numpy.typing import ArrayLike

from groundwork.errors import ArgumentError
from msdnet.exits import checks

LEAST_EXAMPLES = 10  # for each exit, to choose thresholds


def thresholds(confidences: ArrayLike, costs: ArrayLike, budget: float) -> np.ndarray:
    """Returns the thresholds that spend as much of a budget as they can on a validation split.

    An example leaves at the first exit whose confidence is above its threshold. The shares of
    examples that leave are those of `shares` for one ratio; bisection finds the largest ratio that
    keeps the budget. Equal confidences leave together, so that this may spend much less than the
    budget; then thresholds are raised one by one, from the first exit on, as far as it allows.

    Args:
      confidences: [N, K], of examples that were never trained on; N ≥ 10 K.
      costs: [K], of a prediction at each exit, all earlier ones included: multiply-adds,
        milliseconds, …
      budget: the most that an example may cost in the mean.

    Returns:
      [K − 1] float64, each midway between two confidences of the split, or ±inf where all examples
      leave or none.

    Raises:
      ArgumentError: the first exit alone costs more; too few examples; shapes or values that are
        wrong.

    Example:
        >>> from msdnet import exits
        >>> confidences = np.stack([np.arange(20) / 20, np.ones(20)], axis=1)  # of two exits
        >>> limits = exits.thresholds(confidences, costs=[10, 30], budget=20)
        >>> limits.round(3).tolist(), np.bincount(exits.route(confidences, limits)).tolist()
        ([0.475], [10, 10])
    """
    confidences, costs = _checked(confidences, costs)
    budget = _checked_budget(budget, costs)
    if budget >= costs[-1]:
        return np.full(len(costs) - 1, np.inf)
    best = _of_one_ratio(confidences, costs, budget)
    unused = budget - np.mean(costs[route(confidences, best)])
    if unused * len(confidences) > costs[-1] - costs[0]:  # one more example could go all the way
        return _raised(best, confidences, costs, budget)
    return best


def shares(exits: int, ratio: float) -> np.ndarray:
    """Returns the share of examples that should leave at each exit, [K].

    It is proportional to ratio ** k; if q is the paper's probability of leaving at an exit that was
    reached, ratio = 1 − q. Ratios above 1 send most examples to late exits.

    Raises:
      ArgumentError: the number of exits or the ratio is not above 0.

    Example:
        >>> from msdnet import exits
        >>> exits.shares(exits=3, ratio=0.5).round(3).tolist()  # 4, 2 and 1 of 7
        [0.571, 0.286, 0.143]
    """
    exits, factor = checks.count("exits", exits), checks.numbers("a ratio", ratio)
    if factor.ndim or not 0 < factor < np.inf:
        raise ArgumentError(f"a ratio of {ratio!r} must be one number above 0")
    logs = np.arange(exits) * np.log(factor)
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def for_shares(confidences: ArrayLike, shares: ArrayLike) -> np.ndarray:
    """Returns the thresholds at which these shares of a split leave: [N, K], [K] → [K − 1].

    At each exit the most confident of the remaining examples leave. If fewer remain than should
    leave, all do; equally confident ones leave together.

    Raises:
      ArgumentError: shapes differ, confidences are NaN, or shares do not add up to 1.

    Example:
        >>> from msdnet import exits
        >>> confidences = [[0.9, 1.0], [0.7, 1.0], [0.3, 1.0], [0.1, 1.0]]
        >>> exits.for_shares(confidences, shares=[0.5, 0.5]).tolist()  # midway from 0.7 to 0.3
        [0.5]
    """
    confidences, parts = checks.rows("confidences", confidences), checks.numbers("shares", shares)
    examples, exits = confidences.shape
    if np.isnan(confidences).any():
        raise ArgumentError("confidences hold NaN: the network's logits are not finite")
    if parts.shape != (exits,) or not (parts >= 0).all() or not abs(parts.sum() - 1) < 1e-6:
        raise ArgumentError(f"shares={parts.tolist()} must be {exits} numbers that add up to 1")
    quotas = np.diff(np.round(np.cumsum(parts) * examples).astype(int), prepend=0)
    left, limits = np.arange(examples), np.full(exits - 1, -np.inf)
    for k in range(exits - 1):
        values = np.sort(confidences[left, k])[::-1]
        limits[k] = _cut(values, quotas[k])
        left = left[confidences[left, k] <= limits[k]]
    return limits


def route(confidences: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """Returns the exit at which each example leaves: [N, K], [K − 1] → [N] int.

    Raises:
      ArgumentError: confidences are of another shape, there is not one threshold fewer than exits,
        or one of them is NaN.

    Example:
        >>> from msdnet import exits
        >>> confidences = [[0.9, 1.0], [0.7, 1.0], [0.3, 1.0], [0.1, 1.0]]
        >>> exits.route(confidences, thresholds=[0.5]).tolist()
        [0, 0, 1, 1]
    """
    confidences = checks.rows("confidences", confidences)
    limits = checks.thresholds(thresholds, confidences.shape[1])
    leaves = confidences > np.append(limits, -np.inf)
    leaves[:, -1] = True
    return leaves.argmax(1)


def _of_one_ratio(confidences: np.ndarray, costs: np.ndarray, budget: float) -> np.ndarray:
    """Returns the thresholds of the largest ratio that keeps the budget."""
    best = np.full(len(costs) - 1, -np.inf)  # all leave at the first exit
    low, high = -30.0, 30.0  # logarithm of the ratio
    for _ in range(50):
        middle = (low + high) / 2
        limits = for_shares(confidences, shares(len(costs), np.exp(middle)))
        if np.mean(costs[route(confidences, limits)]) <= budget:
            low, best = middle, limits
        else:
            high = middle
    return best


def _raised(
    limits: np.ndarray, confidences: np.ndarray, costs: np.ndarray, budget: float
) -> np.ndarray:
    """Returns thresholds none of which could be any higher within the budget."""
    for k in range(len(limits)):
        reached = route(confidences, limits) >= k
        if not reached.any():
            continue
        values = np.unique(confidences[reached, k])
        higher = np.append((values[:-1] + values[1:]) / 2, np.inf)
        higher = higher[higher > limits[k]]

        def spent(limit: float, k: int = k, limits: np.ndarray = limits) -> float:
            changed = np.where(np.arange(len(limits)) == k, limit, limits)
            return float(np.mean(costs[route(confidences, changed)]))

        kept = bisect.bisect_right(higher.tolist(), budget, key=spent)
        if kept:
            limits = np.where(np.arange(len(limits)) == k, higher[kept - 1], limits)
    return limits


def _cut(values: np.ndarray, quota: int) -> float:
    """Returns a threshold below the first `quota` of falling values and all equal to the last."""
    if quota <= 0:
        return np.inf
    if quota >= len(values):
        return -np.inf
    below = values[values < values[quota - 1]]
    return float((values[quota - 1] + below[0]) / 2) if len(below) else -np.inf


def _checked(confidences: ArrayLike, costs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    confidences, costs = checks.numbers("confidences", confidences), checks.numbers("costs", costs)
    if costs.ndim != 1 or confidences.shape[1:] != costs.shape or not len(costs):
        raise ArgumentError(
            f"confidences {confidences.shape} and costs {costs.shape} must be [N, exits], [exits]"
        )
    if not np.isfinite(confidences).all():
        raise ArgumentError("confidences hold NaN or infinity: the network's logits are not finite")
    if not np.isfinite(costs).all() or (np.diff(costs) < 0).any():
        raise ArgumentError(f"costs={costs.tolist()} must be finite and grow from exit to exit")
    if len(confidences) < LEAST_EXAMPLES * len(costs):
        raise ArgumentError(
            f"{len(confidences)} validation examples are too few for {len(costs)} exits: at least "
            f"{LEAST_EXAMPLES} are needed for each exit (data.validation_examples)"
        )
    return confidences, costs


def _checked_budget(budget: ArrayLike, costs: np.ndarray) -> float:
    amount = checks.numbers("a budget", budget)
    if amount.ndim:
        raise ArgumentError(f"a budget must be one number, not an array of {amount.shape}")
    if not amount >= costs[0]:
        raise ArgumentError(
            f"a budget of {float(amount):g} per example cannot be kept: "
            f"the first exit costs {costs[0]:g}"
        )
    return float(amount)
