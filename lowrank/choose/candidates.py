"""What could be done to each layer: methods and ranks with their errors and costs."""

# R replicates

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import keys
from groundwork.traced import override
from groundwork.traced.macs import multiply_adds
from groundwork.traced.override import Reached
from lowrank.choose.ranks import Candidate
from lowrank.decompositions import cp, svd, tucker
from lowrank.factorization import layers
from lowrank.factorization.layers import METHODS, Rank

RANKS = 12  # of a method with one rank, at most; of one with two, each
CP_SWEEPS = 30  # of the one search that tells a candidate's error
CP_RANK = 256  # at most: a sweep of alternating least squares takes rank³, and compiles at each
DENSE = "dense"  # the method of a layer that is left as it is
CostFn = Callable[[Reached, str, Any], int]  # layer, method, rank → cost

# kernels [R, …], shape of one, rows of the layer's inputs [R, rows, N], ranks → errors [ranks]
ErrorFn = Callable[[np.ndarray, list[Any], np.ndarray | None], list[float]]


def of_layer(
    reached: Reached,
    kernels: np.ndarray,
    methods: tuple[str, ...],
    cost: CostFn,
    inputs: np.ndarray | None = None,
) -> list[Candidate]:
    """A layer's candidates: as it is, first; then those that cost less, by method and rank.

    Args:
      reached: the layer.
      kernels: [R, …], of all replicates: errors are root mean squares over them.
      methods: names of `layers.METHODS`; those that this kind of layer lacks are passed over, and
        of a 1×1 convolution all but `svd` and `svd_outputs`, which are the same.
      cost: what the budget counts.
      inputs: [R, rows, N], for `svd_outputs`.
    """
    found = [Candidate(DENSE, 0, cost(reached, DENSE, None), 0.0)]
    if reached.layer.groups != 1:
        return found
    for name in methods:
        if not applies(reached, name):
            continue
        choices = [
            (rank, spent)
            for rank in ladder(METHODS[reached.layer.kind][name].full(reached.kernel))
            if name != "cp" or rank <= CP_RANK
            if (spent := cost(reached, name, rank)) < found[0].cost
        ]
        errors = ERRORS[name](kernels, [rank for rank, _ in choices], inputs)
        found += [
            Candidate(name, rank, spent, error)
            for (rank, spent), error in zip(choices, errors, strict=True)
        ]
    return found


def applies(reached: Reached, method: str) -> bool:
    """Is it a method for this layer?"""
    if method not in METHODS[reached.layer.kind]:
        return False
    pointwise = reached.layer.kind == "Conv" and reached.kernel[:2] == (1, 1)
    return method.startswith("svd") or not pointwise


def ladder(full: Rank) -> list[Any]:
    """Ranks from 1 to the full one, each about as much larger as the one before."""
    if isinstance(full, tuple):
        return [(a, b) for a in ladder(full[0]) for b in ladder(full[1])]
    if full <= RANKS:
        return list(range(1, full + 1))
    return sorted({round(rank) for rank in np.geomspace(1, full, RANKS)})


def of_rank_one(reached: Reached, method: str) -> tuple[str, Rank]:
    """The method and rank 1, in the form that it has there."""
    full = METHODS[reached.layer.kind][method].full(reached.kernel)
    return method, (1, 1) if isinstance(full, tuple) else 1


def macs(reached: Reached, method: str, rank: Any) -> int:
    """Multiply-adds for one example, of all calls of the layer; from the traced computation."""
    params, compute = abstract(reached, method, rank)
    return sum(
        multiply_adds(compute, params, jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32))
        for shape in reached.inputs
    )


def parameters(reached: Reached, method: str, rank: Any) -> int:
    """Entries of the layer's kernels."""
    params, _ = abstract(reached, method, rank)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def abstract(reached: Reached, method: str, rank: Any) -> tuple[Any, Callable]:
    """Shapes of a layer's kernels under a method, and what computes it: (kernels, x) → outputs."""
    kernel = jax.ShapeDtypeStruct(reached.kernel, jnp.float32)
    layer = reached.layer
    if method == DENSE:
        return {"kernel": kernel}, functools.partial(override.compute, layer)
    chosen = METHODS[layer.kind][method]
    shapes = chosen.shapes(reached.kernel, rank)
    params = {
        stage.name: {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
        for stage, shape in zip(chosen.stages, shapes, strict=True)
    }
    return params, functools.partial(layers.compute, chosen, layer)


def rank_by_rule(kernels: np.ndarray, method: str, rule: Callable[[np.ndarray], int]) -> Rank:
    """The mean over replicates [R, …] of what a rule says of a kernel's matrices, 1 at least."""
    found = [
        max(1, round(float(np.mean([rule(matrix) for matrix in matrices]))))
        for matrices in MATRICES[method](kernels)
    ]
    return found[0] if len(found) == 1 else (found[0], found[1])


def _by_values(rearrange: Callable[[np.ndarray], np.ndarray]) -> ErrorFn:
    """Errors from the singular values of a matrix that the kernel is rearranged to."""

    def errors(kernels, ranks, inputs):
        sigma = np.linalg.svd(rearrange(kernels.astype(np.float64)), compute_uv=False)
        return _rest(np.cumsum(sigma**2, -1), [(rank - 1,) for rank in ranks])

    return errors


def _rest(held: np.ndarray, places: list[tuple[int, ...]]) -> list[float]:
    """√ of the mean over replicates of the energy that is not held; `held` [R, …] grows."""
    total = held.reshape(len(held), -1)[:, -1]
    moved = np.moveaxis(held, 0, -1)
    whole = np.where(total > 0, total, 1)
    shares = [np.where(total > 0, moved[place] / whole, 1) for place in places]  # of 0, all
    return [math.sqrt(max(0.0, 1 - float(np.mean(share)))) for share in shares]


def _window(kernels: np.ndarray) -> np.ndarray:
    return kernels.reshape(len(kernels), -1, kernels.shape[-1])


def _across(kernels: np.ndarray) -> np.ndarray:
    count, height, width, inputs, outputs = kernels.shape
    return kernels.transpose(0, 1, 3, 2, 4).reshape(count, height * inputs, width * outputs)


def _unfolded(kernels: np.ndarray, axis: int) -> np.ndarray:
    """[R, size of the axis, the rest]."""
    return np.moveaxis(kernels, axis, 1).reshape(len(kernels), kernels.shape[axis], -1)


MATRICES: dict[str, Callable[[np.ndarray], list[np.ndarray]]] = {
    "svd": lambda kernels: [_window(kernels)],
    "spatial": lambda kernels: [_across(kernels)],
    "tucker": lambda kernels: [_unfolded(kernels, 3), _unfolded(kernels, 4)],
}
"""Method → the matrices [R, L, M] of kernels whose ranks are its ranks, in their order."""


def _output_errors(kernels, ranks, inputs):
    """From one factorisation of the inputs a replicate: it costs more than all the rest."""
    both = zip(_window(kernels), inputs, strict=True)
    curves = np.stack([np.asarray(svd.output_errors(*own), np.float64) for own in both])
    return np.sqrt(np.mean(curves**2, 0))[[rank - 1 for rank in ranks]].tolist()


def _tucker_errors(kernels, ranks, inputs):
    """Of the truncated HOSVD, whose core has the energies of all ranks at once."""
    held = []
    for kernel in kernels:
        full = (None, None, *kernel.shape[2:])
        core = np.asarray(tucker.decompose(kernel, full, iterations=0).core, np.float64)
        held.append(np.cumsum(np.cumsum(np.sum(core**2, (0, 1)), 0), 1))
    return _rest(np.stack(held), [(a - 1, b - 1) for a, b in ranks])


def _cp_errors(kernels, ranks, inputs):
    """Of one short search each: what a plan does with them is decomposed with more starts."""
    key = keys.stream(jax.random.key(0), "candidates")
    search = functools.partial(cp.decompose, restarts=1, sweeps=CP_SWEEPS)
    found = [[float(search(key, k, rank).error) for k in kernels] for rank in ranks]
    return np.sqrt(np.mean(np.square(found), 1)).tolist() if found else []


ERRORS: dict[str, ErrorFn] = {
    "svd": _by_values(_window),
    "svd_outputs": _output_errors,
    "spatial": _by_values(_across),
    "tucker": _tucker_errors,
    "cp": _cp_errors,
}
