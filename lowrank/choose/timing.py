"""Wall-clock of layers on this machine."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.traced.override import Reached
from groundwork.train.latency import medians
from lowrank.choose import candidates
from lowrank.choose.candidates import DENSE
from lowrank.choose.ranks import Candidate

BATCH = 128  # examples that layers are timed on
TIMED = 12  # candidates of a layer and a method, at most, for budgets in time


def layer(reached: Reached, method: str, rank: Any) -> Callable[[], Any]:
    """All calls of a layer under a method, of `BATCH` random examples; to be timed."""
    shapes, compute = candidates.abstract(reached, method, rank)
    draw = np.random.default_rng(0)
    arrays = functools.partial(draw.standard_normal, dtype=np.float32)
    params = jax.tree.map(lambda leaf: jnp.asarray(arrays(leaf.shape)), shapes)
    inputs = [jnp.asarray(arrays((BATCH, *shape[1:]))) for shape in reached.inputs]
    compiled = jax.jit(lambda params, inputs: [compute(params, x) for x in inputs])
    return functools.partial(compiled, params, inputs)


def cost(reached: Reached, method: str, rank: Any) -> int:
    """Nanoseconds of a layer, for budgets in time."""
    return round(1e9 * medians([layer(reached, method, rank)])[0])


def priced(
    reached: Mapping[str, Reached], table: Mapping[str, list[Candidate]], cost: candidates.CostFn
) -> dict[str, list[Candidate]]:
    """A table whose costs are multiply-adds, in times: of each layer and method at most `TIMED`.

    A Tucker decomposition has up to 144 pairs of ranks, each compiled to be timed. Those are that
    have the least error for their multiply-adds, from the cheapest to the dearest in steps of
    about one ratio; and of these, candidates that take no less time than the dense layer go.
    """
    found = {}
    for path, (dense, *options) in table.items():
        whole = cost(reached[path], DENSE, None)
        found[path] = [dense._replace(cost=whole)]
        for method in dict.fromkeys(option.method for option in options):
            for own in _spread([option for option in options if option.method == method]):
                spent = cost(reached[path], method, own.rank)
                found[path] += [own._replace(cost=spent)] if spent < whole else []
    return found


def _spread(options: list[Candidate]) -> list[Candidate]:
    """At most `TIMED` of the candidates that none beats in cost and error, by cost."""
    best: list[Candidate] = []
    for option in sorted(options, key=lambda own: (own.cost, own.error)):
        if not best or option.error < best[-1].error:
            best.append(option)
    if len(best) <= TIMED:
        return best
    budgets = np.geomspace(best[0].cost, best[-1].cost, TIMED)
    places = np.searchsorted([own.cost for own in best], budgets, side="right") - 1
    return [best[place] for place in sorted({0, len(best) - 1, *places.clip(0).tolist()})]


def layers(reached: Reached, method: str, rank: Any) -> tuple[float, float]:
    """Seconds of a layer as it is, and under a method."""
    calls = [layer(reached, DENSE, None), layer(reached, method, rank)]
    dense, factorised = medians(calls, repeats=15)
    return dense, factorised
