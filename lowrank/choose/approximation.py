"""How well each method approximates a layer's kernels at each rank, and ranks chosen by a rule."""

# R replicates, KH KW window, L M sizes of a matrix

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from groundwork import keys
from lowrank.decompositions import cp, svd, tucker
from lowrank.factorization.methods import Rank

CP_SWEEPS = 30  # of the single search that tells a candidate's error

ErrorFn = Callable[[np.ndarray, Sequence[Any], np.ndarray | None], list[float]]
"""(kernels [R, …], ranks, inputs of the layer [R, rows, N] or None) → the error of each rank.

Errors are relative, and root mean squares over replicates.
"""


def rank_by_rule(kernels: np.ndarray, method: str, rule: Callable[[np.ndarray], int]) -> Rank:
    """Returns the rank that a rule gives, rounded from its mean over replicates, at least 1.

    Args:
      kernels: [R, …].
      method: one of `MATRICES`.
      rule: matrix → rank.
    """
    ranks = [
        max(1, round(float(np.mean([rule(matrix) for matrix in matrices]))))
        for matrices in MATRICES[method](kernels)
    ]
    return ranks[0] if len(ranks) == 1 else (ranks[0], ranks[1])


def _by_values(rearrange: Callable[[np.ndarray], np.ndarray]) -> ErrorFn:
    """Returns errors from the singular values of the matrix that a kernel is rearranged to."""

    def errors(kernels: np.ndarray, ranks: Sequence[int], inputs: np.ndarray | None) -> list[float]:
        sigma = np.linalg.svd(rearrange(kernels.astype(np.float64)), compute_uv=False)
        return _rest(np.cumsum(sigma**2, -1), [(rank - 1,) for rank in ranks])

    return errors


def _rest(held: np.ndarray, places: list[tuple[int, ...]]) -> list[float]:
    """Returns √ of the mean over replicates of the share of the energy that is not held.

    Args:
      held: [R, …], the energy that is held at each place; it grows along all axes but R.
      places: of `held`, without the axis R.
    """
    total = held.reshape(len(held), -1)[:, -1]
    by_place = np.moveaxis(held, 0, -1)
    divisor = np.where(total > 0, total, 1)
    shares = [np.where(total > 0, by_place[place] / divisor, 1) for place in places]  # all of 0
    return [math.sqrt(max(0.0, 1 - float(np.mean(share)))) for share in shares]


def _window(kernels: np.ndarray) -> np.ndarray:
    """[R, KH·KW·in, out], or the matrices of dense layers as they are."""
    return kernels.reshape(len(kernels), -1, kernels.shape[-1])


def _across(kernels: np.ndarray) -> np.ndarray:
    """[R, KH·in, KW·out]."""
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
"""Method → the matrices [R, L, M] of kernels [R, …] whose ranks are the method's, in order."""


def _output_errors(
    kernels: np.ndarray, ranks: Sequence[int], inputs: np.ndarray | None
) -> list[float]:
    """Returns the errors of outputs, from a single factorisation of each replicate's inputs.

    That factorisation costs more than all the rest.
    """
    assert inputs is not None
    pairs = zip(_window(kernels), inputs, strict=True)
    curves = np.stack([np.asarray(svd.output_errors(*pair), np.float64) for pair in pairs])
    return np.sqrt(np.mean(curves**2, 0))[[rank - 1 for rank in ranks]].tolist()


def _tucker_errors(
    kernels: np.ndarray, ranks: Sequence[tuple[int, int]], inputs: np.ndarray | None
) -> list[float]:
    """Returns the errors of the truncated HOSVD, whose core tells the energies of all ranks."""
    held = []
    for kernel in kernels:
        full = (None, None, *kernel.shape[2:])
        core = np.asarray(tucker.decompose(kernel, full, iterations=0).core, np.float64)
        held.append(np.cumsum(np.cumsum(np.sum(core**2, (0, 1)), 0), 1))
    return _rest(np.stack(held), [(first - 1, last - 1) for first, last in ranks])


def _cp_errors(kernels: np.ndarray, ranks: Sequence[int], inputs: np.ndarray | None) -> list[float]:
    """Returns the errors of one short search each; a plan's own search has more starts."""
    key = keys.stream(jax.random.key(0), "candidates")
    search = functools.partial(cp.decompose, restarts=1, sweeps=CP_SWEEPS)
    errors = [[float(search(key, kernel, rank).error) for kernel in kernels] for rank in ranks]
    return np.sqrt(np.mean(np.square(errors), 1)).tolist() if errors else []


ERRORS: dict[str, ErrorFn] = {
    "svd": _by_values(_window),
    "svd_outputs": _output_errors,
    "spatial": _by_values(_across),
    "tucker": _tucker_errors,
    "cp": _cp_errors,
}
