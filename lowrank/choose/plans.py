"""From the candidates of all layers to a plan: a method and a rank for each of them."""

# R replicates

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from groundwork.traced.reach import Reached
from lowrank.choose import approximation, candidates, ranks, timing
from lowrank.choose.candidates import DENSE, CostFn
from lowrank.choose.ranks import Candidate
from lowrank.factorization.methods import METHODS

MEASURES: dict[str, CostFn] = {
    "macs": candidates.macs,
    "parameters": candidates.parameters,
    "milliseconds": timing.cost,
}
JOINT = "any"  # a sweep that may choose another method for each layer
Table = Mapping[str, list[Candidate]]  # path → candidates, `dense` first
Faster = Callable[[str, Candidate], bool]  # path, candidate → is it faster than the dense layer?


class BudgetError(ValueError):
    """A share of the dense layers' cost that no plan reaches."""


class Planned(NamedTuple):
    """A plan, and what became of layers whose factors are not faster on this machine."""

    plan: dict[str, dict[str, Any]]
    slow: list[str]  # layers that are left dense, or have a lower rank, for that reason
    needed: list[str]  # layers that are factorised nevertheless: the budget needs it


def names(reached: Reached, method: str) -> tuple[str, ...]:
    """Returns the methods that a sweep may use for a layer: for `any`, all that need no inputs.

    A layer for which the method is none (dense layers, 1×1 convolutions) is decomposed by `svd`,
    and by no other: a curve of `tucker` shall be one of Tucker decompositions, and errors of
    outputs shall not be weighed against those of kernels.
    """
    if method == JOINT:
        by_weights = (name for name, one in METHODS["Conv"].items() if not one.needs_inputs)
        return tuple(name for name in by_weights if candidates.applies(reached, name))
    return (method,) if candidates.applies(reached, method) else ("svd",)


def check_share(reached: Mapping[str, Reached], method: str, share: float, measure: str) -> None:
    """Refuses a share of the dense layers' cost that rank 1 everywhere exceeds.

    So this is known before anything is trained. It takes no times: a share of `milliseconds` is
    not checked.

    Args:
      reached: the layers.
      method: of the sweep.
      share: in (0, 1].
      measure: one of `MEASURES`.

    Raises:
      BudgetError: the cost at rank 1 everywhere is above the share.
    """
    if measure == "milliseconds":
        return
    cost = MEASURES[measure]
    dense = {path: cost(layer, DENSE, None) for path, layer in reached.items()}
    least = 0
    for path, layer in reached.items():
        rank_one = [candidates.of_rank_one(layer, name) for name in names(layer, method)]
        least += min(dense[path], *(cost(layer, *entry) for entry in rank_one))
    _budget(share, sum(dense.values()), least, method, measure)


def budget_of(table: Table, share: float, method: str, measure: str) -> int:
    """Returns a share of the dense layers' cost, in the table's units.

    Raises:
      BudgetError: it is below the cost of the cheapest choice.
    """
    whole = sum(options[0].cost for options in table.values())
    return _budget(share, whole, _least_cost(table), method, measure)


def _budget(share: float, whole: int, least: int, method: str, measure: str) -> int:
    """Returns the budget, unless it is below the least cost."""
    budget = int(share * whole)
    if budget < least:
        timed = measure == "milliseconds"
        shown, shown_least = (f"{n / 1e6:.4g}" if timed else f"{n:,}" for n in (budget, least))
        how = "at its fastest on this machine" if timed else "at rank 1 everywhere"
        raise BudgetError(
            f"{share:g} of the dense layers' {measure} is {shown}, below {shown_least}, what "
            f"{method} costs {how}"
        )
    return budget


def by_budget(table: Table, budget: int, faster: Faster) -> Planned:
    """Chooses the least sum of squared errors within a budget, of what is faster than dense layers.

    Candidates are timed as they are chosen. One that is not faster is dropped, together with all of
    its layer that cost more, and the choice is made again. Where the budget cannot be met without
    it, it stays.

    Raises:
      ValueError: the budget is below the cost of the cheapest choice.
    """
    everything = table
    slow: dict[str, None] = {}  # in the order in which they were met
    needed: dict[str, None] = {}
    while True:
        chosen = ranks.choose(table, budget)
        late = [
            path
            for path, candidate in chosen.items()
            if candidate.method != DENSE and not faster(path, candidate) and path not in needed
        ]
        if not late:
            return Planned(_as_plan(chosen), list(slow), list(needed))
        for path in late:
            dense, *options = table[path]
            rest = [dense, *(c for c in options if c.cost < chosen[path].cost)]
            if _least_cost({**table, path: rest}) <= budget:
                table = {**table, path: rest}
                slow[path] = None
            else:
                table = {**table, path: everything[path]}
                slow.pop(path, None)
                needed[path] = None


def by_rule(
    reached: Mapping[str, Reached],
    kernels: Mapping[str, np.ndarray],
    method: str,
    rule: Callable[[np.ndarray], int],
    cost: CostFn,
    faster: Faster,
) -> Planned:
    """Chooses the ranks of each layer by a rule on its matrices: the mean over replicates.

    Layers that would not cost less than they do dense, or are not faster, are left.

    Args:
      reached: the layers.
      kernels: path → [R, …].
      method: one of `approximation.MATRICES`; layers for which it is none are decomposed by `svd`.
      rule: matrix → rank; a rank of 0 counts as 1.
      cost: what shall become less.
      faster: tells whether a candidate is faster than its dense layer.
    """
    plan, slow = {}, []
    for path, layer in reached.items():
        (name,) = names(layer, method)
        rank = approximation.rank_by_rule(kernels[path], name, rule)
        if layer.layer.groups != 1 or cost(layer, name, rank) >= cost(layer, DENSE, None):
            continue
        if faster(path, Candidate(name, rank, 0, 0.0)):
            plan[path] = _entry(name, rank)
        else:
            slow.append(path)
    return Planned(plan, slow, [])


def _least_cost(table: Table) -> int:
    return sum(min(option.cost for option in options) for options in table.values())


def _as_plan(chosen: Mapping[str, Candidate]) -> dict[str, dict[str, Any]]:
    return {
        path: _entry(candidate.method, candidate.rank)
        for path, candidate in chosen.items()
        if candidate.method != DENSE
    }


def _entry(method: str, rank: Any) -> dict[str, Any]:
    return {"method": method, "rank": list(rank) if isinstance(rank, tuple) else rank}
