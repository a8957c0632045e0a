"""What could be done to each layer: methods and ranks, with their errors and costs."""

# R replicates, N inputs of a layer

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.traced import override
from groundwork.traced.macs import multiply_adds
from groundwork.traced.reach import Reached
from groundwork.trees import Shapes
from lowrank.choose.approximation import ERRORS
from lowrank.choose.ranks import Candidate
from lowrank.factorization import layers
from lowrank.factorization.methods import METHODS, Rank

RANKS = 12  # the most for a method that has one rank; the most for each where there are two
CP_RANK = 256  # the largest: a sweep of alternating least squares takes rank³, and compiles at each
DENSE = "dense"  # the method of a layer that is left as it is
CostFn = Callable[[Reached, str, Any], int]  # layer, method, rank → cost


def of_layer(
    reached: Reached,
    kernels: np.ndarray,
    methods: tuple[str, ...],
    cost: CostFn,
    inputs: np.ndarray | None = None,
) -> list[Candidate]:
    """Returns a layer's candidates: first the layer as it is, then what costs less.

    Args:
      reached: the layer.
      kernels: [R, …], of all replicates, and of all layers of a stack: errors are root mean squares
        over them.
      methods: names of `METHODS`; those that `applies` denies are passed over.
      cost: what the budget counts.
      inputs: [R, rows, N], for `svd_outputs`.
    """
    dense = Candidate(DENSE, 0, cost(reached, DENSE, None), 0.0)
    options = [dense]
    if reached.layer.groups != 1:
        return options
    for name in methods:
        if not applies(reached, name):
            continue
        cheaper = [
            (rank, rank_cost)
            for rank in ladder(METHODS[reached.layer.kind][name].full(reached.kernel))
            if name != "cp" or rank <= CP_RANK
            if (rank_cost := cost(reached, name, rank)) < dense.cost
        ]
        errors = ERRORS[name](kernels, [rank for rank, _ in cheaper], inputs)
        options += [
            Candidate(name, rank, rank_cost, error)
            for (rank, rank_cost), error in zip(cheaper, errors, strict=True)
        ]
    return options


def applies(reached: Reached, method: str) -> bool:
    """Returns whether a method is one for this layer.

    For a 1×1 convolution only `svd` and `svd_outputs` are: all others come to the same there.
    """
    if method not in METHODS[reached.layer.kind]:
        return False
    pointwise = reached.layer.kind == "Conv" and reached.kernel[:2] == (1, 1)
    return method.startswith("svd") or not pointwise


def ladder(full: Rank) -> list[Any]:
    """Returns ranks from 1 to the full one, whose ratios are about equal."""
    if isinstance(full, tuple):
        return [(first, last) for first in ladder(full[0]) for last in ladder(full[1])]
    if full <= RANKS:
        return list(range(1, full + 1))
    return sorted({round(rank) for rank in np.geomspace(1, full, RANKS)})


def of_rank_one(reached: Reached, method: str) -> tuple[str, Rank]:
    """Returns the method and rank 1 in the form that the method has it, 1 or (1, 1)."""
    full = METHODS[reached.layer.kind][method].full(reached.kernel)
    return method, (1, 1) if isinstance(full, tuple) else 1


def macs(reached: Reached, method: str, rank: Any) -> int:
    """Returns the multiply-adds of all calls of a layer, on what it was reached with."""
    params, compute = abstract(reached, method, rank)
    once = sum(
        multiply_adds(compute, params, jax.ShapeDtypeStruct(shape, jnp.float32))
        for shape in reached.inputs
    )
    return once * reached.repeats


def parameters(reached: Reached, method: str, rank: Any) -> int:
    """Returns the number of entries of a layer's kernels."""
    params, _ = abstract(reached, method, rank)
    one = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    return one * math.prod(reached.stack)


def abstract(reached: Reached, method: str, rank: Any) -> tuple[Shapes, Callable[..., jax.Array]]:
    """Returns the shapes of a layer's kernel or factors, and what computes its outputs.

    Returns:
      `(params, compute)`: shapes, and (params, inputs) → outputs without a bias.
    """
    kernel = jax.ShapeDtypeStruct(reached.kernel, jnp.float32)
    layer = reached.layer
    if method == DENSE:
        return kernel, functools.partial(override.compute, layer)
    chosen = METHODS[layer.kind][method]
    shapes = chosen.shapes(reached.kernel, rank)
    params = {
        stage.name: {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
        for stage, shape in zip(chosen.stages, shapes, strict=True)
    }
    return params, functools.partial(layers.compute, chosen, layer)
