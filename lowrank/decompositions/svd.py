"""Matrices as products of two thin ones. Read `decompose` first.

All functions take [N, M] kernels as Flax's Dense has them: `outputs = inputs @ matrix`.
"""

# N inputs, M outputs, K rank, B examples, KH KW window

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from groundwork.numerics import arrays


class SVD(NamedTuple):
    """The approximation is left @ right: left's columns and right's rows have the norms √σ."""

    left: jax.Array  # [N, K]
    right: jax.Array  # [K, M]
    error: jax.Array  # [], relative


class Kernels(NamedTuple):
    """Two convolutions in turn, HWIO: the window with K outputs, then 1×1."""

    first: jax.Array  # [KH, KW, in, K]
    last: jax.Array  # [1, 1, K, out]
    error: jax.Array  # [], relative


def decompose(matrix: jax.Array, rank: int) -> SVD:
    """Returns the best approximation of that rank, with singular values split as square roots.

    It is differentiable where the singular values are distinct and positive; it works under vmap.

    Args:
      matrix: [N, M]; computed in float32 unless it is float64.
      rank: K, 1 … min(N, M).

    Returns:
      `SVD`: left [N, K] = U √Σ, right [K, M] = √Σ Vᵀ, and the relative Frobenius error.

    Raises:
      ValueError: it is not a matrix, entries are not finite, or the rank is outside its range.

    Source: Eckart & Young 1936.

    Example:
        >>> from lowrank import svd
        >>> matrix = jnp.array([[3.0, 0.0], [0.0, 4.0]])  # singular values 4 and 3
        >>> left, right, error = svd.decompose(matrix, rank=1)
        >>> print(jnp.abs(left @ right).round(), round(float(error), 3))  # 3 of √(3² + 4²) is lost
        [[0. 0.]
         [0. 4.]] 0.6
    """
    matrix, rank = _checked(matrix, rank)
    return _decompose(matrix, rank)


def decompose_randomized(
    key: jax.Array, matrix: jax.Array, rank: int, oversampling: int = 10, iterations: int = 2
) -> SVD:
    """Does what `decompose` does for large matrices, from a random sketch.

    It takes about 4 (iterations + 1) N M K multiply-adds. It is near the optimum where singular
    values fall off after the K-th, and nearer with every iteration.

    Args:
      key: draws the sketch.
      matrix: [N, M].
      rank: K, 1 … min(N, M).
      oversampling: columns of the sketch beyond K; the sketch has at most min(N, M) columns.
      iterations: of the subspace, orthonormalised each time; 0 for none.

    Raises:
      ValueError: as `decompose`, or a number is negative.

    Source: Halko, Martinsson & Tropp 2011 (arXiv:0909.4061), Algorithms 4.4 and 5.1.

    Example:
        >>> from lowrank import svd
        >>> matrix = jnp.outer(jnp.arange(1.0, 5.0), jnp.arange(1.0, 4.0))  # of rank 1
        >>> left, right, error = svd.decompose_randomized(jax.random.key(0), matrix, rank=1)
        >>> left.shape, right.shape, bool(error < 1e-5)
        ((4, 1), (1, 3), True)
    """
    matrix, rank = _checked(matrix, rank)
    if min(oversampling, iterations) < 0:
        raise ValueError(f"oversampling={oversampling}, iterations={iterations}: not below 0")
    width = min(rank + oversampling, *matrix.shape)
    return _decompose_randomized(key, matrix, rank, width, iterations)


def decompose_outputs(matrix: jax.Array, inputs: jax.Array, rank: int) -> SVD:
    """Returns the approximation of that rank whose *outputs* on given inputs are nearest.

    It minimises ‖X W − X L R‖ over L, R. With X = Q T (QR, so that T whitens: TᵀT = XᵀX) and V
    the leading right singular vectors of T W, the minimum is W V Vᵀ: nothing is inverted, so
    inputs that span fewer than N directions are no special case. Where inputs say nothing, the
    error of the matrix decides: T is stacked on 1e-4 times its root mean square singular value
    times I, which moves the error of outputs by about 1e-8. It works under vmap.

    Args:
      matrix: W, [N, M].
      inputs: X, [B, N]: examples, or patches of them.
      rank: K, 1 … min(N, M).

    Returns:
      `SVD` whose error is ‖X W − X L R‖ / ‖X W‖, 0 where X W = 0.

    Raises:
      ValueError: as `decompose`, or the inputs do not fit the matrix.

    Source: the closed form of reduced-rank regression (Izenman 1975); Zhang et al.,
    arXiv:1505.06798, Section 3.1, for responses of convolutions.

    Example:
        >>> from lowrank import svd
        >>> matrix = jnp.array([[3.0, 0.0], [0.0, 4.0]])
        >>> inputs = jnp.array([[1.0, 0.0], [2.0, 0.0]])  # which never meet the 4
        >>> for found in (svd.decompose(matrix, 1), svd.decompose_outputs(matrix, inputs, 1)):
        ...     print(jnp.abs(inputs @ found.left @ found.right).round().tolist())
        [[0.0, 0.0], [0.0, 0.0]]
        [[3.0, 0.0], [6.0, 0.0]]
    """
    matrix, rank = _checked(matrix, rank)
    return _decompose_outputs(matrix, _checked_inputs(inputs, matrix), rank)


def output_errors(matrix: jax.Array, inputs: jax.Array) -> jax.Array:
    """Returns the errors [min(N, M)] of `decompose_outputs` at all ranks 1 … min(N, M) at once.

    Args:
      matrix: W, [N, M].
      inputs: X, [B, N].

    Raises:
      ValueError: as `decompose_outputs`.

    Example:
        >>> from lowrank import svd
        >>> matrix = jnp.array([[3.0, 0.0], [0.0, 4.0]])
        >>> errors = svd.output_errors(matrix, inputs=jnp.eye(2))
        >>> [round(float(error), 3) for error in errors]  # at the ranks 1 and 2
        [0.6, 0.0]
    """
    matrix, _ = _checked(matrix, 1)
    return _output_errors(matrix, _checked_inputs(inputs, matrix))


def kernels(kernel: jax.Array, rank: int) -> Kernels:
    """Returns a convolution with K outputs, and a 1×1: `decompose` of [KH·KW·in, out].

    The first takes the strides and paddings. A 1×1 kernel becomes two 1×1 kernels.

    Args:
      kernel: [KH, KW, in, out].
      rank: K, 1 … min(KH·KW·in, out).

    Raises:
      ValueError: as `decompose`.

    Source: Zhang et al., arXiv:1505.06798, Section 3.1. Departs: the error is that of the weights,
    not of the responses.

    Example:
        >>> from lowrank import svd
        >>> first, last, error = svd.kernels(jnp.ones((3, 3, 4, 8)), rank=1)
        >>> first.shape, last.shape, bool(error < 1e-5)  # 36 + 8 weights in place of 288
        ((3, 3, 4, 1), (1, 1, 1, 8), True)
    """
    kernel = arrays.floats(kernel, "kernel", 4)
    left, right, error = decompose(kernel.reshape(-1, kernel.shape[-1]), rank)
    return Kernels(left.reshape(*kernel.shape[:3], -1), right[None, None], error)


def _checked(matrix: jax.Array, rank: int) -> tuple[jax.Array, int]:
    matrix = arrays.floats(matrix, "matrix", 2)
    return matrix, arrays.checked_rank(rank, min(matrix.shape), f"a matrix {matrix.shape}")


def _checked_inputs(inputs: jax.Array, matrix: jax.Array) -> jax.Array:
    inputs = arrays.floats(inputs, "inputs", 2)
    if inputs.shape[1] != matrix.shape[0]:
        raise ValueError(f"inputs {inputs.shape} do not fit the matrix {matrix.shape}")
    return inputs


@functools.partial(arrays.jit, static_argnames=("rank",))
def _decompose(matrix: jax.Array, rank: int) -> SVD:
    u, sigma, v = jnp.linalg.svd(matrix, full_matrices=False)
    return _split(matrix, u, sigma, v, rank)


@functools.partial(arrays.jit, static_argnames=("rank", "width", "iterations"))
def _decompose_randomized(
    key: jax.Array, matrix: jax.Array, rank: int, width: int, iterations: int
) -> SVD:
    sketch = matrix @ jax.random.normal(key, (matrix.shape[1], width), matrix.dtype)
    basis, _ = jnp.linalg.qr(sketch)  # [N, width]
    for _ in range(iterations):
        basis, _ = jnp.linalg.qr(matrix.T @ basis)
        basis, _ = jnp.linalg.qr(matrix @ basis)
    u, sigma, v = jnp.linalg.svd(basis.T @ matrix, full_matrices=False)
    return _split(matrix, basis @ u, sigma, v, rank)


@functools.partial(arrays.jit, static_argnames=("rank",))
def _decompose_outputs(matrix: jax.Array, inputs: jax.Array, rank: int) -> SVD:
    whitening, targets, v = _directions(matrix, inputs)
    left, right = matrix @ v[:rank].T, v[:rank]
    root = jnp.sqrt(arrays.norm(left, 0))  # of both, once balanced
    left = left / jnp.where(root > 0, root, 1)[None, :]
    right = root[:, None] * right
    return SVD(left, right, arrays.relative_error(targets, whitening @ left @ right))


@arrays.jit
def _output_errors(matrix: jax.Array, inputs: jax.Array) -> jax.Array:
    _, targets, v = _directions(matrix, inputs)
    energies = jnp.sum(jnp.square(targets @ v.T), 0)
    left = jnp.flip(jnp.cumsum(jnp.flip(energies)))  # from each direction on: small ones first
    dropped = jnp.append(left[1:], 0)[: min(matrix.shape)]
    return jnp.sqrt(dropped / jnp.where(left[0] > 0, left[0], 1))


def _directions(matrix: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns T [min(B, N), N], T W, and orthonormal directions of outputs in rows, best first."""
    whitening = jnp.linalg.qr(inputs, mode="r")
    size = 1e-4 * arrays.norm(inputs) / jnp.sqrt(inputs.shape[1])
    size = jnp.where(size > 0, size, 1).astype(matrix.dtype)
    targets = whitening @ matrix
    _, _, v = jnp.linalg.svd(jnp.concatenate([targets, size * matrix]), full_matrices=False)
    return whitening, targets, v


def _split(matrix: jax.Array, u: jax.Array, sigma: jax.Array, v: jax.Array, rank: int) -> SVD:
    root = jnp.sqrt(sigma[:rank])
    left, right = u[:, :rank] * root[None, :], root[:, None] * v[:rank]
    return SVD(left, right, arrays.relative_error(matrix, left @ right))
