"""The multiple-choice knapsack: one option for each name, within a budget. Read `choose`."""

# S partial choices that are held

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

STATES = 50_000  # partial choices that are held at once; with no more than these it is exact


class Option(NamedTuple):
    """One of the options of a name."""

    cost: int  # at least 0, in the units of the budget
    error: float  # finite, of either sign; the errors of the names add up


def choose(options: Mapping[str, Sequence[Option]], budget: int) -> dict[str, int]:
    """Chooses one option for each name, with the least total error within the budget.

    This is dynamic programming over the names. Of all partial choices it holds those that no other
    one beats in both cost and error, which is exact as long as there are at most `STATES` of them.
    Beyond that, the budget is cut into `STATES` equal bins, and the best partial choice of each bin
    is held. Costs stay exact, so the budget is never exceeded, and the result is at least as good
    as the best one for a budget that is smaller by (names / STATES) of itself. Ties fall to the
    lower cost, then to the earlier option.

    Args:
      options: name → its options.
      budget: the largest total cost.

    Returns:
      Name → the index of its option, in the order of `options`.

    Raises:
      ValueError: the budget is below the cost of the cheapest choice, a name has no options, a cost
        is not an integer or below 0, or an error is not finite.

    Source: Nemhauser & Ullmann 1969.
    """
    _check(options, budget)
    ahead = least_cost(options)  # the least that the names to come can cost
    costs, errors = np.zeros(1, np.int64), np.zeros(1)  # [S], of the choices so far
    steps: list[tuple[np.ndarray, np.ndarray]] = []  # for each name: previous state, option
    for row in options.values():
        ahead -= min(option.cost for option in row)
        cost = (costs[:, None] + np.array([option.cost for option in row], np.int64)).ravel()
        error = (errors[:, None] + np.array([option.error for option in row], np.float64)).ravel()
        held = _undominated(cost, error, budget - ahead)
        steps.append((held // len(row), held % len(row)))
        costs, errors = cost[held], error[held]
    return _traced_back(list(options), steps)


def least_cost(options: Mapping[str, Sequence[Option]]) -> int:
    """Returns the total cost of the cheapest choice, which is the smallest budget."""
    return sum(min(option.cost for option in row) for row in options.values())


def _check(options: Mapping[str, Sequence[Option]], budget: int) -> None:
    for name, row in options.items():
        if not row:
            raise ValueError(f"{name!r} has no options")
        for option in row:
            if not isinstance(option.cost, int | np.integer) or option.cost < 0:
                raise ValueError(f"{name!r}: {option}: the cost must be an integer, at least 0")
            if not math.isfinite(option.error):
                raise ValueError(f"{name!r}: {option}: the error must be finite")
    if budget < (cheapest := least_cost(options)):
        raise ValueError(
            f"budget {budget:,} is below {cheapest:,}, the cost of the cheapest choice for "
            f"{len(options)} names"
        )


def _undominated(cost: np.ndarray, error: np.ndarray, most: int) -> np.ndarray:
    """Returns the indices of states that cost at most `most` and that no other state beats.

    They are ordered by rising cost, which is also by falling error.
    """
    order = np.lexsort((error, cost))  # stable: among equals, the earlier state comes first
    order = order[cost[order] <= most]
    before = np.minimum.accumulate(np.concatenate([[np.inf], error[order][:-1]]))
    order = order[error[order] < before]
    if order.size <= STATES:
        return order
    bins = cost[order].astype(np.float64) // (max(most, 1) / STATES)
    last = np.append(bins[1:] != bins[:-1], True)  # the best of its bin, since errors fall
    return order[last]


def _traced_back(names: list[str], steps: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, int]:
    """Returns the options that led to the last state, the one with the least error."""
    chosen: dict[str, int] = {}
    state = -1
    for name, (previous, option) in zip(reversed(names), reversed(steps), strict=True):
        chosen[name] = int(option[state])
        state = int(previous[state])
    return {name: chosen[name] for name in names}
