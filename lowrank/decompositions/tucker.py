"""Tucker: a small core, and an orthonormal factor for each mode. Read `decompose` first."""

# n_i size of mode i, r_i its rank, KH KW window

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from groundwork.numerics import arrays

Factors = tuple[jax.Array | None, ...]  # [n_i, r_i] each; None for a mode that was left


class Tucker(NamedTuple):
    """The approximation is the core multiplied by each factor along its mode."""

    core: jax.Array  # [r_0, r_1, …]
    factors: Factors  # [n_i, r_i] with orthonormal columns, or None
    error: jax.Array  # [], relative


class Kernels(NamedTuple):
    """Three convolutions in turn, HWIO: 1×1, the window, 1×1."""

    first: jax.Array  # [1, 1, in, r_in]
    core: jax.Array  # [KH, KW, r_in, r_out]
    last: jax.Array  # [1, 1, r_out, out]
    error: jax.Array  # [], relative


def decompose(tensor: jax.Array, ranks: Sequence[int | None], iterations: int = 10) -> Tucker:
    """Decomposes a tensor by higher-order orthogonal iteration from the truncated HOSVD.

    HOSVD takes the leading left singular vectors of every unfolding and is within √modes of the
    optimum. Each iteration then renews the factors in turn, given the others, and never makes the
    error larger. It works under vmap, and is differentiable where the singular values of the
    unfoldings are distinct.

    Args:
      tensor: of order 2 or more; computed in float32 unless it is float64.
      ranks: one for each mode, 1 … n_i; None leaves the mode as it is.
      iterations: sweeps over the modes; 0 gives the HOSVD.

    Returns:
      `Tucker`, with the relative Frobenius error.

    Raises:
      ValueError: the order is below 2, entries are not finite, there are more or fewer ranks than
        modes, a rank is outside its range, or iterations are negative.

    Source: De Lathauwer et al. 2000a (HOSVD), 2000b (HOOI); Kolda & Bader 2009, Figures 4.3, 4.4.

    Example:
        >>> from lowrank import tucker
        >>> core, factors, error = tucker.decompose(jnp.ones((2, 3, 4)), ranks=(1, 1, None))
        >>> core.shape, jax.tree.map(jnp.shape, factors), bool(error < 1e-5)
        ((1, 1, 4), ((2, 1), (3, 1), None), True)
    """
    tensor = arrays.floats(tensor, "tensor")
    if tensor.ndim < 2:
        raise ValueError(f"a tensor of order 2 or more is needed, not shape {tensor.shape}")
    if len(ranks) != tensor.ndim:
        raise ValueError(
            f"{len(ranks)} ranks for a tensor of shape {tensor.shape}: one is needed for each mode"
        )
    if iterations < 0:
        raise ValueError(f"iterations={iterations}: not below 0")
    checked = tuple(
        None if rank is None else arrays.checked_rank(rank, size, f"mode {mode} ({size})")
        for mode, (rank, size) in enumerate(zip(ranks, tensor.shape, strict=True))
    )
    return _decompose(tensor, checked, iterations)


def reconstruct(core: jax.Array, factors: Factors) -> jax.Array:
    """Returns the tensor [n_0, n_1, …] that a core and its factors make up.

    Example:
        >>> from lowrank import tucker
        >>> core, factor = jnp.array([[2.0, 3.0]]), jnp.array([[1.0], [0.0]])  # [1, 2] and [2, 1]
        >>> tucker.reconstruct(core, (factor, None)).tolist()
        [[2.0, 3.0], [0.0, 0.0]]
    """
    for mode, factor in enumerate(factors):
        if factor is not None:
            core = _along(core, factor, mode)
    return core


def kernels(kernel: jax.Array, inputs: int, outputs: int, iterations: int = 10) -> Kernels:
    """Returns Tucker-2: a 1×1 to `inputs` channels, the window to `outputs`, and a 1×1.

    The core takes the strides and paddings.

    Args:
      kernel: [KH, KW, in, out].
      inputs: r_in, 1 … in.
      outputs: r_out, 1 … out.
      iterations: as `decompose`.

    Raises:
      ValueError: as `decompose`.

    Source: Kim et al., arXiv:1511.06530, Section 3.1.

    Example:
        >>> from lowrank import tucker
        >>> first, core, last, error = tucker.kernels(jnp.ones((3, 3, 8, 16)), inputs=2, outputs=4)
        >>> first.shape, core.shape, last.shape
        ((1, 1, 8, 2), (3, 3, 2, 4), (1, 1, 4, 16))
    """
    kernel = arrays.floats(kernel, "kernel", 4)
    core, factors, error = decompose(kernel, (None, None, inputs, outputs), iterations)
    first, last = factors[2], factors[3]
    assert first is not None
    assert last is not None
    return Kernels(first[None, None], core, last.T[None, None], error)


@functools.partial(arrays.jit, static_argnames=("ranks", "iterations"))
def _decompose(tensor: jax.Array, ranks: tuple[int | None, ...], iterations: int) -> Tucker:
    chosen = {mode: rank for mode, rank in enumerate(ranks) if rank is not None}
    factors = {mode: _leading(tensor, mode, rank) for mode, rank in chosen.items()}
    if len(chosen) > 1:  # with one mode, or none, the HOSVD is the optimum
        factors = jax.lax.fori_loop(
            0, iterations, lambda _, held: _renewed(tensor, held, chosen), factors
        )
    core = _projected(tensor, factors)
    listed = tuple(factors.get(mode) for mode in range(tensor.ndim))
    return Tucker(core, listed, arrays.relative_error(tensor, reconstruct(core, listed)))


def _renewed(
    tensor: jax.Array, factors: dict[int, jax.Array], ranks: dict[int, int]
) -> dict[int, jax.Array]:
    """Renews every factor in turn: the best one, given the others."""
    for mode, rank in ranks.items():
        others = {other: factor for other, factor in factors.items() if other != mode}
        factors = {**factors, mode: _leading(_projected(tensor, others), mode, rank)}
    return factors


def _projected(tensor: jax.Array, factors: dict[int, jax.Array]) -> jax.Array:
    """Returns the tensor in the coordinates of the factors."""
    for mode, factor in factors.items():
        tensor = _along(tensor, factor.T, mode)
    return tensor


def _along(tensor: jax.Array, matrix: jax.Array, mode: int) -> jax.Array:
    """Returns the mode product: `matrix` [m, n] applied to the fibres of a mode."""
    return jnp.moveaxis(jnp.tensordot(tensor, matrix, ((mode,), (1,))), -1, mode)


def _leading(tensor: jax.Array, mode: int, rank: int) -> jax.Array:
    """Returns the leading left singular vectors [n, rank] of an unfolding.

    They come from a QR of its transpose, which is as accurate as the SVD (a Gram matrix would
    square the condition number) and needs no right singular vectors.
    """
    size = tensor.shape[mode]
    unfolded = jnp.moveaxis(tensor, mode, 0).reshape(size, -1)
    triangle = jnp.linalg.qr(unfolded.T, mode="r")  # [min(n, rest), n]
    rest = math.prod(tensor.shape) // size
    u, _, _ = jnp.linalg.svd(triangle.T, full_matrices=rank > rest)
    return u[:, :rank]
