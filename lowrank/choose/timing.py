"""How long layers take on this machine."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.traced.reach import Reached
from groundwork.train.latency import medians
from groundwork.trees import Params
from lowrank.choose import candidates
from lowrank.choose.candidates import DENSE, CostFn
from lowrank.choose.ranks import Candidate

BATCH = 128  # examples that layers are timed on
TIMED = 12  # the most candidates of a layer and a method that a budget in time has timed


def layer(reached: Reached, method: str, rank: Any) -> Callable[[], list[jax.Array]]:
    """Returns a function that computes all calls of a layer on random inputs."""
    shapes, compute = candidates.abstract(reached, method, rank)
    normal = functools.partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    params = jax.tree.map(lambda leaf: jnp.asarray(normal(leaf.shape)), shapes)
    inputs = [jnp.asarray(normal(shape)) for shape in reached.inputs]

    @jax.jit
    def outputs(params: Params, inputs: list[jax.Array]) -> list[jax.Array]:
        return [compute(params, x) for x in inputs]

    return functools.partial(outputs, params, inputs)


def cost(reached: Reached, method: str, rank: Any) -> int:
    """Returns the nanoseconds of a layer, for budgets in time."""
    return round(1e9 * medians([layer(reached, method, rank)])[0]) * reached.repeats


def priced(
    reached: Mapping[str, Reached], table: Mapping[str, list[Candidate]], cost: CostFn
) -> dict[str, list[Candidate]]:
    """Returns a table whose costs are times, made from one whose costs are multiply-adds.

    A Tucker decomposition has up to 144 pairs of ranks, and each is compiled to be timed. So of
    each layer and method at most `TIMED` candidates are: those with the least error for their
    multiply-adds, from the cheapest to the dearest in steps of about one ratio. Candidates that
    take no less time than the dense layer are dropped.
    """
    timed = {}
    for path, (dense, *options) in table.items():
        dense_cost = cost(reached[path], DENSE, None)
        timed[path] = [dense._replace(cost=dense_cost)]
        for method in dict.fromkeys(option.method for option in options):
            for option in _spread([option for option in options if option.method == method]):
                time = cost(reached[path], method, option.rank)
                timed[path] += [option._replace(cost=time)] if time < dense_cost else []
    return timed


def layers(reached: Reached, method: str, rank: Any) -> tuple[float, float]:
    """Returns the seconds of a layer as it is, and under a method."""
    calls = [layer(reached, DENSE, None), layer(reached, method, rank)]
    dense, factorised = medians(calls, repeats=15)
    return dense * reached.repeats, factorised * reached.repeats


def _spread(options: list[Candidate]) -> list[Candidate]:
    """Returns at most `TIMED` of the candidates that none beats in cost and error, by cost."""
    best: list[Candidate] = []
    for option in sorted(options, key=lambda option: (option.cost, option.error)):
        if not best or option.error < best[-1].error:
            best.append(option)
    if len(best) <= TIMED:
        return best
    budgets = np.geomspace(best[0].cost, best[-1].cost, TIMED)
    places = np.searchsorted([option.cost for option in best], budgets, side="right") - 1
    return [best[place] for place in sorted({0, len(best) - 1, *places.clip(0).tolist()})]
