"""Trains new weights in the ticket's mask, from step 0, for the dense network's multiply-adds.

Source: Liu et al., arXiv:1810.05270, Scratch-B, for weights in the place of units: a step of the
ticket costs the multiply-adds with kept weights, and the others are taken to cost nothing. The
schedule of the learning rate is spread over the longer training. Departs: the steps of the levels
before are not added. `branches.scratch_b_at_most` bounds the steps.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from groundwork import trees
from groundwork.devices import mesh as mesh_lib
from groundwork.traced import network, override, reach
from groundwork.traced.macs import multiply_adds
from groundwork.train.step import TrainState
from groundwork.trees import Shapes
from lottery.branches.branch import Branch, fresh
from lottery.tickets import Levels, Start, Ticket


class Costs(NamedTuple):
    """The multiply-adds of one example."""

    total: int
    by_path: dict[str, int]  # path of a kernel → those with its weights


def start(levels: Levels, level: int, ticket: Ticket, point: TrainState) -> Start:
    """See `Branch`."""
    example = levels.context.dataset.example
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), point.variables)
    whole = costs(levels.network.model, shapes, example)
    times = times_as_long(whole, mesh_lib.fetch(ticket.mask), levels.scratch_b_at_most)
    longer, stop = levels.longer(times), round(levels.steps * times)
    state = longer.start(fresh(levels, longer, "scratch_b", level), ticket.mask)
    return Start(network=longer, mask=ticket.mask, state=state, stop=stop)


def costs(model: Any, shapes: Shapes, example: Any) -> Costs:
    """Returns what a network costs, in all and by its kernels, from its traced program.

    Raises:
      ValueError: see `multiply_adds`.
    """
    reached, _ = reach.layers(model, shapes, trees.example(example))
    by_path = {}
    for one in reached.values():
        kernel = jax.ShapeDtypeStruct(one.kernel, np.float32)
        calls = [jax.ShapeDtypeStruct(shape, np.float32) for shape in one.inputs]
        layer = one.layer
        each = [
            multiply_adds(lambda k, x, layer=layer: override.compute(layer, k, x), kernel, inputs)
            for inputs in calls
        ]
        by_path[one.parameter] = one.repeats * sum(each)
    total = multiply_adds(network.apply_of(model), shapes, trees.example(example))
    return Costs(total, by_path)


def times_as_long(costs: Costs, mask: Mapping[str, np.ndarray], at_most: float = 0.0) -> float:
    """Returns the dense network's multiply-adds over those with a ticket's kept weights.

    What is not pruned, or cannot be reached in the traced program, counts whole.

    Args:
      costs: of the network.
      mask: path → [R, …] bool, on the host; the mean over replicates counts.
      at_most: what the result is bounded by; 0 = nothing.
    """
    pruned = 0.0
    for path, keep in mask.items():
        pruned += costs.by_path.get(path, 0) * (1 - float(np.mean(keep)))
    return min(costs.total / max(costs.total - pruned, 1), at_most or math.inf)


BRANCH = Branch(
    start=start, colour="#5b8c1f", linestyle=(0, (7, 2, 1, 2)), marker="X", begins="unknown"
)
