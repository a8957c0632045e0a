"""The multiple-choice knapsack with several budgets: bounds, and a search that they guide."""

# S partial choices that are held, N options of a name, D budgets, K names

from typing import NamedTuple

import numpy as np

ITERATIONS = 300  # of the ascent of the bound
REPAIRED_EVERY = 20  # of them
BLOCK = 512  # partial choices that are compared with all that are held at once
GIVEN_UP = 16  # times the states that are held: no more are compared with each other
TOLERANCE = 1e-9  # of the largest error, for sums in another order


class Row(NamedTuple):
    """The options of a name."""

    costs: np.ndarray  # [N, D] int64
    errors: np.ndarray  # [N] float64


class Relaxed(NamedTuple):
    """What the Lagrangian relaxation tells.

    Attributes:
      bound: below which no choice has its error.
      prices: [D], of a unit of each cost, in units of the error, at which it is that.
      chosen: [K] options within the budgets, the best that was met; None if none was.
      error: of them; infinite if there are none.
    """

    bound: float
    prices: np.ndarray
    chosen: np.ndarray | None
    error: float


class Found(NamedTuple):
    """The result of a search."""

    chosen: list[int] | None  # an option for each name; None: no choice keeps all budgets
    exact: bool  # whether no other choice can be better


def relaxed(rows: list[Row], budgets: np.ndarray) -> Relaxed:
    """Returns the best bound that an ascent along subgradients finds, and choices met on the way.

    For prices λ ≥ 0 the bound is Σ min (error + λ · cost) − λ · budget, a minimum for each name.

    Args:
      rows: of each name.
      budgets: [D].
    """
    table = _Table(rows, budgets)
    prices = np.zeros(len(budgets))
    best, best_prices = -np.inf, prices
    incumbent, error = None, np.inf
    step = table.spread / max(len(budgets), 1)
    for number in range(ITERATIONS):
        bound, chosen, excess = table.minimum(prices)
        if bound > best:
            best, best_prices = bound, prices
        if number % REPAIRED_EVERY == 0 or np.all(excess <= 0):
            repaired = table.improved(table.repaired(chosen))
            if repaired is not None and (found := table.error(repaired)) < error:
                incumbent, error = repaired, found
        length = np.linalg.norm(excess)
        if not length:
            break
        prices = np.maximum(0, prices + step / np.sqrt(1 + number) * excess / length)
    return Relaxed(best, best_prices / table.scale, incumbent, error)


def search(rows: list[Row], budgets: np.ndarray, states: int) -> Found:
    """Returns the choice with the least error within several budgets.

    It goes through the names and holds the partial choices that no other one beats. Where they are
    more than `states`, it begins again, and drops those whose bound is above the error of a choice
    that is known, which loses nothing. Where they are still more, it holds those with the least
    bounds, and the result need not be the best.

    Args:
      rows: of each name; each budget can be kept by itself.
      budgets: [D].
      states: the most that are held.
    """
    nothing = Relaxed(-np.inf, np.zeros(len(budgets)), None, np.inf)
    steps, state = _through(rows, budgets, nothing, states, False)
    if steps is not None:
        return Found(None if state is None else traced_back(steps, state), True)
    known = relaxed(rows, budgets)
    steps, state = _through(rows, budgets, known, states, True)
    assert steps is not None
    if state is not None:
        chosen = traced_back(steps, state)
        names = range(len(rows))
        if sum(float(rows[name].errors[chosen[name]]) for name in names) <= known.error:
            return Found(chosen, False)
    return Found(None if known.chosen is None else known.chosen.tolist(), False)


def _through(
    rows: list[Row], budgets: np.ndarray, known: Relaxed, states: int, cut: bool
) -> tuple[list[tuple[np.ndarray, np.ndarray]] | None, int | None]:
    """Returns how whole choices came about, and the best of them; None if none keeps the budgets.

    Without `cut` it gives up where there are more than `states` partial choices.
    """
    ahead = np.sum([row.costs.min(0) for row in rows], axis=0, dtype=np.int64)
    rests = [float(np.min(row.errors + row.costs @ known.prices)) for row in rows]
    rest = sum(rests) - float(budgets @ known.prices)
    slack = TOLERANCE * (1 + sum(float(np.abs(row.errors).max()) for row in rows))
    costs, errors = np.zeros((1, len(budgets)), np.int64), np.zeros(1)
    steps = []
    for row, least in zip(rows, rests, strict=True):
        ahead = ahead - row.costs.min(0)
        rest -= least
        own = undominated(row.costs, row.errors)
        cost = (costs[:, None] + row.costs[own]).reshape(-1, len(budgets))
        error = (errors[:, None] + row.errors[own]).ravel()
        bounds = error + cost @ known.prices + rest
        fits = np.all(cost + ahead <= budgets, axis=1) & (bounds <= known.error + slack)
        held = np.flatnonzero(fits)
        if held.size > GIVEN_UP * states and not cut:
            return None, None
        held = held[np.argsort(bounds[held], kind="stable")[: GIVEN_UP * states]]
        held.sort()
        held = held[undominated(cost[held], error[held])]
        if held.size > states:
            if not cut:
                return None, None
            held = np.sort(held[np.argsort(bounds[held], kind="stable")[:states]])
        steps.append((held // len(own), own[held % len(own)]))
        costs, errors = cost[held], error[held]
    if not errors.size:
        return steps, None
    return steps, int(np.lexsort((*costs.T[::-1], errors))[0])


def traced_back(steps: list[tuple[np.ndarray, np.ndarray]], state: int) -> list[int]:
    """Returns the options that led to a state."""
    chosen = []
    for previous, option in reversed(steps):
        chosen.append(int(option[state]))
        state = int(previous[state])
    return chosen[::-1]


def undominated(costs: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Returns the indices of states [S] that no other beats in error and all costs, rising.

    Of equal ones the first is kept.
    """
    points = np.column_stack([costs.astype(np.float64), errors])  # exact up to 2⁵³
    order = np.lexsort(points.T[::-1])  # none is beaten by a later one
    kept = np.zeros((0, points.shape[1]))
    places: list[np.ndarray] = []
    for first in range(0, len(order), BLOCK):
        block = order[first : first + BLOCK]
        block = block[~_beaten(points[block], kept)]
        among = points[block]
        beats = np.all(among[None] <= among[:, None], axis=2)  # [i, j]: j is as good as i
        block = block[~np.any(np.tril(beats, -1), axis=1)]
        kept = np.concatenate([kept, points[block]])
        places.append(block)
    return np.sort(np.concatenate(places)) if places else order


def _beaten(points: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Returns whether one of those that are kept is as good in all, for each point."""
    if not len(kept):
        return np.zeros(len(points), bool)
    better = np.ones((len(points), len(kept)), bool)
    for axis in range(points.shape[1]):
        better &= kept[:, axis] <= points[:, axis, None]
    return np.asarray(better.any(axis=1))


class _Table:
    """The options of all names in arrays of one size, with costs as shares of the budgets."""

    def __init__(self, rows: list[Row], budgets: np.ndarray) -> None:
        most = max((len(row.errors) for row in rows), default=0)
        self.scale = np.maximum(budgets, 1).astype(np.float64)
        self.budgets, self.names = budgets, np.arange(len(rows))
        self.costs = np.zeros((len(rows), most, len(budgets)), np.int64)
        self.errors = np.full((len(rows), most), np.inf)
        for number, row in enumerate(rows):
            self.costs[number, : len(row.errors)] = row.costs
            self.errors[number, : len(row.errors)] = row.errors
        self.shares = self.costs / self.scale
        self.spread = float(sum(np.ptp(row.errors) for row in rows)) or 1.0

    def minimum(self, prices: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Returns the bound at prices of shares, the options, and by what they exceed budgets."""
        values = self.errors + self.shares @ prices
        chosen = values.argmin(1) if values.size else np.zeros(0, int)
        least = float(values[self.names, chosen].sum())
        excess = self.shares[self.names, chosen].sum(0) - self.budgets / self.scale
        return least - float(prices @ (self.budgets / self.scale)), chosen, excess

    def error(self, chosen: np.ndarray) -> float:
        """Returns the total error, added in the order of the names."""
        return float(np.cumsum(np.append(0.0, self.errors[self.names, chosen]))[-1])

    def repaired(self, chosen: np.ndarray) -> np.ndarray | None:
        """Returns options within the budgets, one changed after the other; None if none helps."""
        chosen = chosen.copy()
        for _ in range(4 * len(self.names) + 1):
            over = self._over(self._total(chosen))
            if not over:
                return chosen
            gain = over - self._over(self._swapped(chosen))
            with np.errstate(divide="ignore", invalid="ignore"):
                rate = np.where(gain > 0, self._more(chosen) / gain, np.inf)
            name, option = divmod(int(np.argmin(rate)), rate.shape[1])
            if not np.isfinite(rate[name, option]):
                return None
            chosen[name] = option
        return None

    def improved(self, chosen: np.ndarray | None) -> np.ndarray | None:
        """Returns options with less error within the budgets, one changed after the other."""
        for _ in range(0 if chosen is None else 4 * len(self.names)):
            assert chosen is not None
            fits = self._over(self._swapped(chosen)) == 0
            more = np.where(fits, self._more(chosen), np.inf)
            name, option = divmod(int(np.argmin(more)), more.shape[1])
            if not more[name, option] < 0:
                break
            chosen[name] = option
        return chosen

    def _total(self, chosen: np.ndarray) -> np.ndarray:
        return self.costs[self.names, chosen].sum(0)

    def _swapped(self, chosen: np.ndarray) -> np.ndarray:
        """Returns the total costs [K, N, D] with one option in place of its name's."""
        own = self.costs[self.names, chosen]
        return self._total(chosen) - own[:, None] + self.costs

    def _more(self, chosen: np.ndarray) -> np.ndarray:
        return self.errors - self.errors[self.names, chosen][:, None]

    def _over(self, totals: np.ndarray) -> np.ndarray:
        """Returns by what shares costs [..., D] exceed the budgets, all together."""
        return np.sum(np.maximum(0, totals - self.budgets) / self.scale, axis=-1)
