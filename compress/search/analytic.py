"""The choice that an additive model makes, before anything is trained. Read `choose`.

Losses add up over layers, and costs do once it is known how many units each group keeps: those are
tried, and for each of them the knapsack chooses the rest.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from compress.search.additive import PER_UNIT, Costs
from compress.search.options import Space
from compress.search.sensitivity import Sensitivities
from compress.search.settings import AS_IT_IS, Choice, Setting
from groundwork.numerics import knapsack
from groundwork.numerics.knapsack import Option

TRIED = 256  # combinations of units that are all tried; of more, one group is changed at a time


class Knowledge(NamedTuple):
    """What a choice is made of."""

    space: Space
    sensitivities: Sensitivities
    costs: Costs

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON keeps it."""
        return {
            "space": self.space.to_json(),
            "sensitivities": self.sensitivities.to_json(),
            "costs": self.costs.to_json(),
        }

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> "Knowledge":
        """Returns that of what `to_json` gave."""
        space = Space.from_json(saved["space"])
        return Knowledge(
            space,
            Sensitivities.from_json(saved["sensitivities"]),
            Costs.from_json(saved["costs"], space),
        )

    def error(self, choice: Choice) -> float:
        """Returns by how much the model says that the loss grows."""
        return sum(self.sensitivities.of(*item).loss for item in choice.items())

    def accuracy_loss(self, choice: Choice) -> float:
        """Returns by how much the model says that the metric gets worse."""
        return sum(self.sensitivities.of(*item).accuracy for item in choice.items())


class _Scored(NamedTuple):
    """A choice and what it is compared by; less is better."""

    value: float
    choice: dict[str, Setting]


Kept = Mapping[str, float]  # group → the share of its units that stays
# rows, units and a value → the best choice with these units; None if its value is no less
_Solve = Callable[[Mapping[str, list[Setting]], Kept, float], _Scored | None]


def choose(knowledge: Knowledge, budgets: Mapping[str, float]) -> dict[str, Setting]:
    """Returns the choice within the budgets whose loss grows least, by the model.

    It is exact for the additive model where `knapsack.choose` is, and where the groups have at most
    `TRIED` combinations of units; beyond, the units of one group after the other are changed as
    long as that helps.

    Args:
      knowledge: of the network.
      budgets: of costs by their names, the largest totals, at least one.

    Raises:
      ValueError: a budget is of another cost, or below the least that any choice costs, or no
        choice keeps all of them.
    """
    _check(knowledge, budgets)
    least = {name: least_of(knowledge, name) for name in budgets}
    for name, budget in budgets.items():
        if not budget >= least[name]:
            raise ValueError(f"{name}={budget:,.6g} cannot be met: the least is {least[name]:,.6g}")
    room = {
        name: budget * PER_UNIT.get(name, 1) - knowledge.costs.rest[name]
        for name, budget in budgets.items()
    }

    def solve(rows: Mapping[str, list[Setting]], kept: Kept, most: float) -> _Scored | None:
        options = _options(knowledge, rows, kept, tuple(budgets), "loss")
        try:
            if most < math.inf and knapsack.lower_bound(options, room) >= most:
                return None
            chosen = knapsack.choose(options, room)
        except ValueError:  # these units leave too much
            return None
        value = sum(options[layer][index].error for layer, index in chosen.items())
        return _Scored(value, {layer: rows[layer][index] for layer, index in chosen.items()})

    best = _best(knowledge, solve)
    if best is None:
        words = " and ".join(f"{name}={budget:,.6g}" for name, budget in budgets.items())
        raise ValueError(f"{words} cannot be met together, though each of them alone can")
    return _changes(best.choice)


def cheapest(knowledge: Knowledge, accuracy_loss: float, cost: str) -> dict[str, Setting]:
    """Returns the cheapest choice whose metric gets worse by at most a bound, by the model.

    Args:
      knowledge: of the network.
      accuracy_loss: the bound, such as 0.005.
      cost: the name of the cost.

    Raises:
      ValueError: the cost is not among those of the knowledge, or no choice keeps the bound.
    """
    _check(knowledge, {cost: 0.0})

    def solve(rows: Mapping[str, list[Setting]], kept: Kept, most: float) -> _Scored | None:
        options = _options(knowledge, rows, kept, (cost,), "accuracy")
        if knapsack.least_cost(options, cost) >= most:
            return None
        try:
            chosen = knapsack.cheapest(options, accuracy_loss, cost)
        except ValueError:  # these units alone lose more
            return None
        costs = [options[layer][index].cost for layer, index in chosen.items()]
        value = sum(one[cost] for one in costs if isinstance(one, Mapping))
        return _Scored(value, {layer: rows[layer][index] for layer, index in chosen.items()})

    best = _best(knowledge, solve)
    if best is None:
        raise ValueError(f"an accuracy loss of {accuracy_loss:g} cannot be met by any choice")
    return _changes(best.choice)


def least_of(knowledge: Knowledge, cost: str) -> float:
    """Returns the least that any choice costs, by the model, in the cost's own units."""
    rest = knowledge.costs.rest[cost]
    totals = []
    for part in knowledge.space.parts():
        kept = {name: shares[-1] for name, shares in _shares(part).items()}
        options = _options(knowledge, _rows(part, kept), kept, (cost,), "")
        totals.append(knapsack.least_cost(options, cost))
    return (rest + min(totals)) / PER_UNIT.get(cost, 1)


def uniform(space: Space) -> list[dict[str, Setting]]:
    """Returns the choices in which all layers that have a setting share it, the mildest first.

    They are the baselines of a search. A low-rank form is one of a method and a place in the order
    of its ranks; of the layers that lack the setting, each stays as it is.
    """
    found: dict[Any, dict[str, Setting]] = {}
    for layer, row in space.options.items():
        places: dict[str, list[Any]] = {}
        for option in row:
            if option.method and option.rank not in places.setdefault(option.method, []):
                places[option.method].append(option.rank)
        for option in row:
            if option != AS_IT_IS:
                rank = places[option.method].index(option.rank) if option.method else -1
                key = (
                    option.units,
                    option.method,
                    rank,
                    option.density,
                    option.bits,
                    option.activation_bits,
                )
                found.setdefault(key, {})[layer] = option
    return [*found.values()]


def _check(knowledge: Knowledge, budgets: Mapping[str, float]) -> None:
    if not budgets:
        raise ValueError("no budget is given")
    for name in budgets:
        if name not in knowledge.costs.names:
            known = ", ".join(knowledge.costs.names)
            raise ValueError(f"there is no cost {name!r}: it was measured what {known} are")


def _best(knowledge: Knowledge, solve: _Solve) -> _Scored | None:
    """Returns the best of all combinations of units, or of those met on the way to it.

    What a bound says of units often spares solving for them.
    """
    best: _Scored | None = None
    for part in knowledge.space.parts():
        shares = _shares(part)
        if math.prod(map(len, shares.values())) > TRIED:
            best = _better(best, _climbed(part, shares, solve))
            continue
        for kept in _combinations(shares):
            best = _better(best, solve(_rows(part, kept), kept, best.value if best else math.inf))
    return best


def _better(best: _Scored | None, other: _Scored | None) -> _Scored | None:
    if best is None or (other is not None and other.value < best.value):
        return other
    return best


def _climbed(part: Space, shares: Mapping[str, list[float]], solve: _Solve) -> _Scored | None:
    """Returns the best choice that is met when the units of one group after the other change.

    It begins with the fewest units, which keep any budget that can be kept by itself, and with all.
    """
    best: _Scored | None = None
    for place in (-1, 0):
        kept = {name: row[place] for name, row in shares.items()}
        here = solve(_rows(part, kept), kept, math.inf)
        better = True
        while better:
            better = False
            for name, row in shares.items():
                for share in row:
                    near = {**kept, name: share}
                    most = here.value if here else math.inf
                    found = solve(_rows(part, near), near, most) if near != kept else None
                    if found and found.value < most:
                        here, kept, better = found, near, True
        best = _better(best, here)
    return best


def _shares(part: Space) -> dict[str, list[float]]:
    """Returns group → the shares of its units that may stay, all of them first."""
    shares = {
        name: sorted({option.units for option in part.options.get(name, ())}, reverse=True)
        for name in part.units
    }
    return {name: row for name, row in shares.items() if row and row != [1.0]}


def _combinations(shares: Mapping[str, list[float]]) -> Iterator[dict[str, float]]:
    for row in itertools.product(*shares.values()):
        yield dict(zip(shares, row, strict=True))


def _rows(part: Space, kept: Kept) -> dict[str, list[Setting]]:
    """Returns the options that have these units."""
    return {
        layer: [option for option in row if option.units == kept.get(layer, 1.0)]
        for layer, row in part.options.items()
    }


def _options(
    knowledge: Knowledge,
    rows: Mapping[str, list[Setting]],
    kept: Kept,
    names: tuple[str, ...],
    error: str,
) -> dict[str, list[Option]]:
    """Returns the options of a knapsack; their error is a field of `Measured`, or 0."""
    costs, measured = knowledge.costs, knowledge.sensitivities
    return {
        layer: [
            Option(
                {
                    name: cost
                    for name, cost in costs.options(layer, one, kept).items()
                    if name in names
                },
                getattr(measured.of(layer, one), error) if error else 0.0,
            )
            for one in row
        ]
        for layer, row in rows.items()
    }


def _changes(choice: Mapping[str, Setting]) -> dict[str, Setting]:
    return {layer: one for layer, one in choice.items() if one != AS_IT_IS}
