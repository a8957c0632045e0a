"""When to stop: confidences, thresholds for a budget, and what they cost. Numpy on the host.

Read `thresholds` first. Source: Huang et al., arXiv:1703.09844, Section 3 (the two settings) and
Section 5.2 (exit probabilities and thresholds).
"""

# N examples, K exits, C classes

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from groundwork.errors import UserError, unknown

CONFIDENCES = ("softmax", "entropy", "margin")
LEAST_EXAMPLES = 10  # an exit, to choose thresholds on
RATIOS = np.concatenate([np.linspace(0.05, 1, 20), 1 / np.linspace(0.95, 0.05, 19)])


class Outcome(NamedTuple):
    """Of a labelled split under thresholds, or at one exit."""

    accuracy: float
    cost: float  # mean an example, in the unit of the costs


def confidence(logits: jax.Array, kind: str = "softmax") -> jax.Array:
    """How sure a classifier is, in [0, 1]: [..., C] → [...].

    `softmax` is the largest probability (the paper's), `margin` the largest less the second,
    `entropy` 1 − entropy / log C; of one class alone, each is 1.

    Raises:
      UserError: an unknown kind.
    """
    if kind not in CONFIDENCES:
        raise unknown("exits.confidence", kind, CONFIDENCES)
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    if logits.shape[-1] == 1:
        return jnp.exp(log_p[..., 0])
    if kind == "entropy":
        entropy = -jnp.sum(jnp.exp(log_p) * log_p, -1)
        return jnp.maximum(1 - entropy / jnp.log(logits.shape[-1]), 0)  # rounding
    if kind == "margin":
        first, second = jnp.moveaxis(jax.lax.top_k(jnp.exp(log_p), 2)[0], -1, 0)
        return first - second
    return jnp.exp(jnp.max(log_p, -1))


def thresholds(confidences: ArrayLike, costs: ArrayLike, budget: float) -> np.ndarray:
    """Thresholds that spend as much of a budget as they can, on average over a validation split.

    An example leaves at the first exit whose confidence is above its threshold. The shares that
    leave are those of `shares` for one ratio; the largest that keeps the budget is found by
    bisection. As equal confidences leave together, that may spend much less; then thresholds are
    raised one by one, the first exit's first, as far as the budget allows.

    Args:
      confidences: [N, K], of examples that were never trained on; N ≥ 10 K.
      costs: [K], of a prediction at each exit with all before it: multiply-adds, milliseconds, …
      budget: the mean of that an example may cost.

    Returns:
      [K − 1] float64, each midway between two confidences of the split, or ±inf where all leave
      or none.

    Raises:
      UserError: the first exit alone costs more; too few examples; shapes or values that are wrong.
    """
    confidences, costs = _checked(confidences, costs)
    amount = numbers("a budget", budget)
    if amount.ndim:
        raise UserError(f"a budget must be one number, not an array of {amount.shape}")
    budget = float(amount)
    if not budget >= costs[0]:
        raise UserError(
            f"a budget of {budget:g} an example cannot be kept: the first exit costs {costs[0]:g}"
        )
    if budget >= costs[-1]:
        return np.full(len(costs) - 1, np.inf)
    best = np.full(len(costs) - 1, -np.inf)  # all leave at the first exit
    low, high = -30.0, 30.0  # logarithm of the ratio
    for _ in range(50):
        middle = (low + high) / 2
        found = for_shares(confidences, shares(len(costs), np.exp(middle)))
        if np.mean(costs[route(confidences, found)]) <= budget:
            low, best = middle, found
        else:
            high = middle
    unused = budget - np.mean(costs[route(confidences, best)])
    if unused * len(confidences) > costs[-1] - costs[0]:  # another could go all the way
        return _raised(best, confidences, costs, budget)
    return best


def shares(exits: int, ratio: float) -> np.ndarray:
    """The share of examples that is to leave at each exit, [K], proportional to ratio ** k.

    With the paper's probability q of leaving at an exit that was reached: ratio = 1 − q. Ratios
    above 1 send most to late exits.
    """
    logs = np.arange(exits) * np.log(ratio)
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def for_shares(confidences: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Thresholds at which these shares of a split leave: [N, K], [K] → [K − 1].

    At each exit the most confident of those that are left. Where fewer are left than are to leave,
    all do; equally confident ones leave together.
    """
    examples, exits = confidences.shape
    quotas = np.diff(np.round(np.cumsum(shares) * examples).astype(int), prepend=0)
    left, found = np.arange(examples), np.full(exits - 1, -np.inf)
    for k in range(exits - 1):
        values = np.sort(confidences[left, k])[::-1]
        found[k] = _cut(values, quotas[k])
        left = left[confidences[left, k] <= found[k]]
    return found


def route(confidences: np.ndarray, thresholds: ArrayLike) -> np.ndarray:
    """The exit at which each example leaves: [N, K], [K − 1] → [N] int.

    Raises:
      UserError: not one threshold fewer than exits, or NaN among them.
    """
    limits = check_thresholds(thresholds, confidences.shape[1])
    leaves = confidences > np.append(limits, -np.inf)
    leaves[:, -1] = True
    return leaves.argmax(1)


def outcome(correct: np.ndarray, exits: np.ndarray, costs: ArrayLike) -> Outcome:
    """Accuracy and mean cost: correct [N, K] bool, exits [N], costs [K]."""
    hits = np.take_along_axis(correct, exits[:, None], 1)
    return Outcome(float(hits.mean()), float(np.mean(np.asarray(costs)[exits])))


def budgeted(
    validation: np.ndarray, test: np.ndarray, correct: np.ndarray, costs: Sequence[float]
) -> list[Outcome]:
    """The budgeted-batch curve: what test costs and reaches, a point for each of `RATIOS`.

    Args:
      validation: confidences [N, K] that thresholds are chosen on.
      test: confidences [M, K].
      correct: of the test split, [M, K] bool.
      costs: [K].
    """
    chosen = (for_shares(validation, shares(len(costs), ratio)) for ratio in RATIOS)
    return [outcome(correct, route(test, found), costs) for found in chosen]


def anytime(correct: np.ndarray, costs: Sequence[float]) -> list[Outcome]:
    """What each exit reaches when all examples leave there: correct [N, K], costs [K]."""
    return [Outcome(float(a), float(c)) for a, c in zip(correct.mean(0), costs, strict=True)]


def area(curve: Sequence[Outcome]) -> float:
    """Mean accuracy over costs between a curve's cheapest and dearest point (trapezoids)."""
    points = sorted(curve, key=lambda point: point.cost)
    x, y = np.array([point.cost for point in points]), np.array([p.accuracy for p in points])
    width = x[-1] - x[0]
    return float(np.trapezoid(y, x) / width) if width else float(y.mean())


def check_thresholds(thresholds: ArrayLike, exits: int) -> np.ndarray:
    """Thresholds as [K − 1] float64: float32 might round one to a confidence.

    Raises:
      UserError: not one threshold fewer than exits, or NaN among them.
    """
    limits = numbers("thresholds", thresholds)
    if limits.shape != (exits - 1,):
        raise UserError(
            f"{exits} exits need {exits - 1} thresholds, not an array of {limits.shape}"
        )
    if np.isnan(limits).any():
        raise UserError(f"thresholds={limits.tolist()} must not be NaN: no confidence is above")
    return limits


def numbers(what: str, given: ArrayLike) -> np.ndarray:
    """An array of float64.

    Raises:
      UserError: `given` does not hold numbers, or has rows of different lengths.
    """
    try:
        return np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} must be numbers: {' '.join(str(error).split())}") from error


def _raised(
    limits: np.ndarray, confidences: np.ndarray, costs: np.ndarray, budget: float
) -> np.ndarray:
    """Thresholds of which none could be any higher within the budget."""
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
    """A threshold that the first `quota` of falling values exceed, and all equal to the last."""
    if quota <= 0:
        return np.inf
    if quota >= len(values):
        return -np.inf
    values = values.astype(np.float64)  # float32 neighbours have nothing of their own in between
    below = values[values < values[quota - 1]]
    return float((values[quota - 1] + below[0]) / 2) if len(below) else -np.inf


def _checked(confidences: ArrayLike, costs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    confidences, costs = numbers("confidences", confidences), numbers("costs", costs)
    if costs.ndim != 1 or confidences.shape[1:] != costs.shape or not len(costs):
        raise UserError(
            f"confidences {confidences.shape} and costs {costs.shape} must be [N, exits], [exits]"
        )
    if not np.isfinite(confidences).all():
        raise UserError("confidences hold NaN or infinity: the network's logits are not finite")
    if not np.isfinite(costs).all() or (np.diff(costs) < 0).any():
        raise UserError(f"costs={costs.tolist()} must be finite and grow from exit to exit")
    if len(confidences) < LEAST_EXAMPLES * len(costs):
        raise UserError(
            f"{len(confidences)} validation examples are too few for {len(costs)} exits: at least "
            f"{LEAST_EXAMPLES} an exit (data.validation_examples)"
        )
    return confidences, costs
