"""From trained kernels to a plan: methods and ranks of all layers together."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from groundwork.errors import UserError
from groundwork.traced.override import Reached
from lowrank.choose import candidates, ranks, timing
from lowrank.choose.candidates import DENSE
from lowrank.choose.ranks import Candidate
from lowrank.factorization.layers import METHODS

MEASURES: dict[str, candidates.CostFn] = {
    "macs": candidates.macs,
    "parameters": candidates.parameters,
    "milliseconds": timing.cost,
}
JOINT = "any"  # a sweep that may choose another method for each layer
Table = Mapping[str, list[Candidate]]  # path → candidates, `dense` first
Faster = Callable[[str, Candidate], bool]


class Planned(NamedTuple):
    """A plan, and what became of layers whose factors are not faster on this machine."""

    plan: dict[str, dict[str, Any]]
    slow: list[str]  # left dense, or at a lower rank, for that reason
    needed: list[str]  # factorised though slower: without, the budget cannot be met


def names(reached: Reached, method: str) -> tuple[str, ...]:
    """What a sweep by a method may do to a layer: `any` is all that look at weights alone.

    A layer that has no such method (dense layers, 1×1 convolutions) is decomposed by `svd`. No
    other is: a curve of `tucker` is to be one of Tucker decompositions, and errors of outputs
    are not to be weighed against those of kernels.
    """
    if method == JOINT:
        own = (name for name, kind in METHODS["Conv"].items() if not kind.needs_inputs)
        return tuple(name for name in own if candidates.applies(reached, name))
    return (method,) if candidates.applies(reached, method) else ("svd",)


def check_budget(reached: Mapping[str, Reached], method: str, share: float, measure: str) -> None:
    """Refuse a share of the dense layers' cost that is not reached at rank 1 everywhere.

    So that it is said before anything is trained. Times are not taken for that.

    Raises:
      UserError: it is not reached.
    """
    if measure == "milliseconds":
        return
    cost = MEASURES[measure]
    dense = {path: cost(layer, DENSE, None) for path, layer in reached.items()}
    least = 0
    for path, layer in reached.items():
        ones = [candidates.of_rank_one(layer, name) for name in names(layer, method)]
        least += min(dense[path], *(cost(layer, *one) for one in ones))
    _reachable(share, sum(dense.values()), least, method, measure)


def budget_of(table: Table, share: float, method: str, measure: str) -> int:
    """A share of the dense layers' cost, in the table's units.

    Raises:
      UserError: it is below the cheapest choice.
    """
    least = sum(min(option.cost for option in options) for options in table.values())
    whole = sum(options[0].cost for options in table.values())
    return _reachable(share, whole, least, method, measure)


def _reachable(share: float, whole: int, least: int, method: str, measure: str) -> int:
    """The budget, if it is not below the least cost."""
    budget = int(share * whole)
    if budget < least:
        timed = measure == "milliseconds"
        said, least_said = (f"{n / 1e6:.4g}" if timed else f"{n:,}" for n in (budget, least))
        how = "at its fastest on this machine" if timed else "at rank 1 everywhere"
        raise UserError(
            f"decompose.shares: {share:g} of the dense layers' {measure} is {said}, below "
            f"{least_said}, what {method} costs {how}"
        )
    return budget


def by_budget(table: Table, budget: int, faster: Faster) -> Planned:
    """The least sum of squared errors within a budget, of what is faster than the dense layer.

    Candidates are timed as they are chosen; one that is not faster goes, with all of its layer
    that cost more, and the choice is made again. Where the budget could not be met without, it
    stays.

    Raises:
      UserError: the budget is below the cheapest choice.
    """
    everything = table
    slow: dict[str, None] = {}
    needed: dict[str, None] = {}
    while True:
        chosen = ranks.choose(table, budget)
        late = [p for p, c in chosen.items() if c.method != DENSE and not faster(p, c)]
        late = [path for path in late if path not in needed]
        if not late:
            return Planned(_as_plan(chosen), list(slow), list(needed))
        for path in late:
            dense, *options = table[path]
            rest = [dense, *(c for c in options if c.cost < chosen[path].cost)]
            others = sum(min(c.cost for c in o) for p, o in table.items() if p != path)
            if others + min(c.cost for c in rest) <= budget:
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
    cost: candidates.CostFn,
    faster: Faster,
) -> Planned:
    """Each layer's ranks by a rule on its matrices, the mean over replicates, 1 at least.

    Layers that would cost more than they do dense, or are not faster, are left.

    Args:
      reached: the layers.
      kernels: path → [R, …].
      method: one that has matrices; `svd` where a layer lacks it.
      rule: matrix → rank.
      cost: what is to become less.
      faster: is a candidate faster than its dense layer?
    """
    plan, slow = {}, []
    for path, layer in reached.items():
        (own,) = names(layer, method)
        rank = candidates.rank_by_rule(kernels[path], own, rule)
        if layer.layer.groups != 1 or cost(layer, own, rank) >= cost(layer, DENSE, None):
            continue
        if faster(path, Candidate(own, rank, 0, 0.0)):
            plan[path] = _entry(own, rank)
        else:
            slow.append(path)
    return Planned(plan, slow, [])


def has_rules(method: str) -> None:
    """Refuse a method whose ranks no rule on matrices can choose.

    Raises:
      UserError: it is one.
    """
    if method not in candidates.MATRICES:
        known = ", ".join(candidates.MATRICES)
        raise UserError(f"the ranks of {method!r} are chosen by budget alone (by rule: {known})")


def _as_plan(chosen: Mapping[str, Candidate]) -> dict[str, dict[str, Any]]:
    return {p: _entry(c.method, c.rank) for p, c in chosen.items() if c.method != DENSE}


def _entry(method: str, rank: Any) -> dict[str, Any]:
    return {"method": method, "rank": list(rank) if isinstance(rank, tuple) else rank}
