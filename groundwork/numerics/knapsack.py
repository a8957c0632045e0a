"""The multiple-choice knapsack: one option for each name, within budgets. Read `choose`."""

# S partial choices that are held, N options of a name, D budgets

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from groundwork.numerics import lagrangian
from groundwork.numerics.lagrangian import Row

STATES = 50_000  # partial choices that are held at once; with no more than these it is exact
OF_SEVERAL = 4_000  # likewise, where there are several budgets: there each is compared with many
LARGEST = 2**53  # the most that all names together may cost: up to it, floats are exact

Options = Mapping[str, Sequence["Option"]]
Budgets = float | Mapping[str, float]


class Option(NamedTuple):
    """One of the options of a name."""

    cost: int | Mapping[str, int]  # at least 0, in the units of the budget, or of each by its name
    error: float  # finite, of either sign; the errors of the names add up


def choose(options: Options, budgets: Budgets) -> dict[str, int]:
    """Chooses one option for each name, with the least total error within the budgets.

    This is dynamic programming over the names. Of all partial choices it holds those that no other
    one beats in error and in every cost, which is exact as long as there are at most `STATES` of
    them (`OF_SEVERAL` with several budgets). Ties fall to the lower cost, of the first budget
    first, then to the earlier option. Beyond these numbers:

    - With one budget, it is cut into `STATES` equal bins, and the best partial choice of each bin
      is held. Costs stay exact, so the budget is never exceeded, and the result is at least as good
      as the best one for a budget that is smaller by (names / STATES) of itself.
    - With several, partial choices whose Lagrangian bound is above the error of a choice that is
      known are dropped, which loses nothing, and then those with the least bounds are held. The
      result keeps the budgets; `lower_bound` says how far it can be from the best.

    Args:
      options: name → its options.
      budgets: the largest total cost; or of each cost by its name. Of one that is no integer, the
        part behind the point does not count, and one may be infinite. A name may have costs that
        no budget counts.

    Returns:
      Name → the index of its option, in the order of `options`.

    Raises:
      ValueError: a budget is below the cost of the cheapest choice, or no choice keeps them all
        together; a budget is no number; a name has no options; a cost is missing, no integer or
        below 0, or all costs together are above `LARGEST`; or an error is not finite.

    Source: Nemhauser & Ullmann 1969; of the bounds Geoffrion 1974.
    """
    rows, most = _rows(options, budgets)
    if len(most) == 1:
        return dict(zip(options, _within(rows, most[0]), strict=True))
    found = lagrangian.search(rows, np.array(most, np.int64), OF_SEVERAL)
    if found.chosen is None:
        words = " and ".join(f"{name}={most:,}" for name, most in _named(budgets).items())
        how = "no choice keeps" if found.exact else "no choice was found that keeps"
        raise ValueError(f"{how} the budgets {words} together, though each can be kept alone")
    return dict(zip(options, found.chosen, strict=True))


def cheapest(options: Options, most_error: float, cost: str | None = None) -> dict[str, int]:
    """Chooses one option for each name, with the least total cost for an error of at most a bound.

    It is exact as long as there are at most `STATES` partial choices that no other one beats.
    Beyond, the cost of the result is above the least by at most (names / STATES) of the largest
    cost that a choice can have. Ties fall to the smaller error, then to the earlier option.

    Args:
      options: name → its options.
      most_error: the largest total error.
      cost: the name of the cost, where there are several.

    Returns:
      Name → the index of its option, in the order of `options`.

    Raises:
      ValueError: the bound is below the least total error; or see `choose`.
    """
    rows, (whole,) = _rows(options, None if cost is None else {cost: None})
    least = sum(float(row.errors.min()) for row in rows)
    if math.isnan(most_error) or most_error < least:
        raise ValueError(
            f"an error of {most_error:g} is below {least:g}, the least of any choice for "
            f"{len(options)} names"
        )
    held, steps = _held(rows, whole)
    # errors fall along the states, the last one has the least, whatever the order of the sums
    place = min(int(np.sum(held > most_error)), len(held) - 1)
    return dict(zip(options, lagrangian.traced_back(steps, place), strict=True))


def lower_bound(options: Options, budgets: Budgets) -> float:
    """Returns a number below which no choice within the budgets has its total error.

    It is the bound of the Lagrangian relaxation. The difference from the error of a choice is the
    most that the choice can be away from the best.

    Raises:
      ValueError: see `choose`; budgets that cannot be kept together are not noticed.
    """
    rows, most = _rows(options, budgets)
    return lagrangian.relaxed(rows, np.array(most, np.int64)).bound


def least_cost(options: Options, cost: str | None = None) -> int:
    """Returns the total cost of the cheapest choice, which is the smallest budget.

    Args:
      options: name → its options.
      cost: the name of the cost, where there are several.
    """
    rows, _ = _rows(options, None if cost is None else {cost: None})
    return sum(int(row.costs.min()) for row in rows)


def _named(budgets: Budgets) -> dict[str, float]:
    return dict(budgets) if isinstance(budgets, Mapping) else {"": budgets}


def _rows(
    options: Options, budgets: Budgets | Mapping[str, None] | None
) -> tuple[list[Row], list[int]]:
    """Returns the options of each name as arrays, and the budgets in order; all are checked."""
    by_name = budgets if isinstance(budgets, Mapping) else {None: budgets}
    if not by_name:
        raise ValueError("no budget is given")
    rows = [_row(name, row, list(by_name)) for name, row in options.items()]
    most = []
    for place, (name, budget) in enumerate(by_name.items()):
        least = sum(int(row.costs[:, place].min()) for row in rows)
        whole = sum(int(row.costs[:, place].max()) for row in rows)
        of = "" if name is None else f" of {name}"
        if whole > LARGEST:
            raise ValueError(f"the largest costs{of} add up to {whole:,}, above {LARGEST:,}")
        if budget is not None and budget != budget:
            raise ValueError(f"budget {budget}{of} must be a number")
        if budget is not None and budget < least:
            raise ValueError(
                f"budget {budget:,}{of} is below {least:,}, the cost of the cheapest choice for "
                f"{len(options)} names"
            )
        # no choice costs more than the whole, and bins of it are finer than those of more
        most.append(whole if budget is None else math.floor(min(budget, whole)))
    return rows, most


def _row(name: str, row: Sequence[Option], names: Sequence[str | None]) -> Row:
    if not row:
        raise ValueError(f"{name!r} has no options")
    costs = np.zeros((len(row), len(names)), np.int64)
    for number, option in enumerate(row):
        for place, of in enumerate(names):
            one = option.cost if of is None else None
            if of is not None and isinstance(option.cost, Mapping):
                one = option.cost.get(of)
            which = "" if of is None else f" of {of}"
            if not isinstance(one, int | np.integer) or isinstance(one, bool) or one < 0:
                raise ValueError(
                    f"{name!r}: {option}: the cost{which} must be an integer, at least 0"
                )
            if one > LARGEST:
                raise ValueError(f"{name!r}: {option}: the cost{which} is above {LARGEST:,}")
            costs[number, place] = one
        if not math.isfinite(option.error):
            raise ValueError(f"{name!r}: {option}: the error must be finite")
    return Row(costs, np.array([option.error for option in row], np.float64))


def _within(rows: list[Row], budget: int) -> list[int]:
    """Returns the options with the least error within one budget."""
    held, steps = _held(rows, budget)
    return lagrangian.traced_back(steps, len(held) - 1)


def _held(rows: list[Row], budget: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Returns the errors of the whole choices that are held, by rising cost, and how they came."""
    ahead = sum(int(row.costs.min()) for row in rows)  # the least that the names to come can cost
    costs, errors = np.zeros(1, np.int64), np.zeros(1)  # [S], of the choices so far
    steps: list[tuple[np.ndarray, np.ndarray]] = []  # for each name: previous state, option
    for row in rows:
        ahead -= int(row.costs.min())
        own = lagrangian.undominated(row.costs, row.errors)  # no other is part of the best
        cost = (costs[:, None] + row.costs[own, 0]).ravel()
        error = (errors[:, None] + row.errors[own]).ravel()
        held = _undominated(cost, error, budget - ahead)
        steps.append((held // len(own), own[held % len(own)]))
        costs, errors = cost[held], error[held]
    return errors, steps


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
