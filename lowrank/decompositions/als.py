"""The sweeps of alternating least squares for `cp`, and what factors multiply out to."""

# n_i size of mode i, K rank, P Q sizes of the two groups of modes

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from groundwork.numerics import arrays

Factors = tuple[jax.Array, ...]  # [n_i, K] each
CHECK_SWEEPS = 10  # sweeps between two checks, which compute the error and keep the best factors
SMALL = 16  # the most rows of a triangle that LAPACK inverts


class State(NamedTuple):
    """How far the sweeps from one start have come."""

    factors: Factors
    best: Factors  # those with the least error at any check
    error: jax.Array  # [], of the best
    ridge: jax.Array  # []
    sweeps: jax.Array  # [] int32
    converged: jax.Array  # [] bool


def run(
    tensor: jax.Array, start: Factors, sweeps: jax.Array, tolerance: jax.Array, ridge: jax.Array
) -> State:
    """Sweeps from one start until the error stops falling.

    Args:
      tensor: of norm 1.
      start: factors.
      sweeps: [] int32, the most sweeps.
      tolerance: [], on the fall of the error between two checks; 0 to do all sweeps.
      ridge: [], on the diagonal of the normal equations' matrix.
    """
    cut = cut_at(tensor.shape)
    matrix = tensor.reshape(math.prod(tensor.shape[:cut]), -1)

    def check(state: State) -> State:
        count = jnp.minimum(CHECK_SWEEPS, sweeps - state.sweeps)
        factors = jax.lax.fori_loop(
            0, count, lambda _, held: _sweep(matrix, held, cut, state.ridge), state.factors
        )
        error = arrays.norm(matrix - product(factors, cut))
        finite = jnp.isfinite(error)
        better = error < state.error  # False for NaN
        best = _where(better, factors, state.best)
        return State(
            factors=_where(finite, factors, best),
            best=best,
            error=jnp.where(better, error, state.error),
            ridge=jnp.where(finite, state.ridge, 10 * state.ridge + 1e-6),
            sweeps=state.sweeps + count,
            converged=finite & (tolerance > 0) & (state.error - error < tolerance),
        )

    def going(state: State) -> jax.Array:
        return (state.sweeps < sweeps) & ~state.converged

    error = arrays.norm(matrix - product(start, cut))
    first = State(
        factors=start,
        best=start,
        error=jnp.where(jnp.isfinite(error), error, jnp.inf),
        ridge=ridge,
        sweeps=jnp.zeros((), jnp.int32),
        converged=jnp.zeros((), bool),
    )
    return jax.lax.while_loop(going, check, first)


def _sweep(matrix: jax.Array, factors: Factors, cut: int, ridge: jax.Array) -> Factors:
    """Renews every factor in turn, given the others; the last one holds the components' norms.

    The modes are cut into two groups of sizes P and Q. What is left of the tensor [P, Q] once one
    group is contracted, [P, K] or [K, Q], serves all factors of the other group. So a sweep needs
    two large products, whatever the order of the tensor.
    """
    left, right = factors[:cut], (*factors[cut:-1], unit(factors[-1]))
    left, _ = _renewed(matrix @ khatri_rao(right), left, gram(right), ridge)
    right, last = _renewed(matrix.T @ khatri_rao(left), right, gram(left), ridge)
    return (*left, *right[:-1], last)


def _renewed(
    contracted: jax.Array, factors: Factors, others: jax.Array, ridge: jax.Array
) -> tuple[Factors, jax.Array]:
    """Returns one group's factors with unit columns, and the last of them before it was scaled.

    Args:
      contracted: [P, K], the tensor contracted with the other group.
      factors: of this group.
      others: [K, K], the Gram matrix of the other group.
      ridge: [].
    """
    rank = others.shape[0]
    held = list(factors)
    shape = tuple(factor.shape[0] for factor in factors)
    contracted = contracted.reshape(*shape, rank)
    for mode in range(len(held)):
        gram = others
        product = contracted
        for other in reversed(range(len(held))):
            if other != mode:
                gram = gram * (held[other].T @ held[other])
                ones = [1] * product.ndim
                ones[other], ones[-1] = held[other].shape
                product = jnp.sum(product * held[other].reshape(ones), other)
        # a diagonal of ones, as all columns are unit; zero where a component has vanished
        lower = jnp.linalg.cholesky(gram + ridge * jnp.eye(rank, dtype=gram.dtype))
        root = _inverse(lower)
        renewed = (product @ root.T) @ root
        held[mode] = unit(renewed)
    return tuple(held), renewed


def _inverse(lower: jax.Array) -> jax.Array:
    """Returns the inverse of a lower triangular matrix, by halves.

    Only small triangles are left to LAPACK. Its threads spin while they wait, which costs ten times
    the arithmetic at K = 64 where another process keeps a core busy.
    """
    size = lower.shape[0]
    if size <= SMALL:
        eye = jnp.eye(size, dtype=lower.dtype)
        return jax.scipy.linalg.solve_triangular(lower, eye, lower=True)
    half = size // 2
    first, last = _inverse(lower[:half, :half]), _inverse(lower[half:, half:])
    corner = last @ (lower[half:, :half] @ first)
    return jnp.block([[first, jnp.zeros((half, size - half), lower.dtype)], [-corner, last]])


def product(factors: Factors, cut: int) -> jax.Array:
    """Returns the tensor that the factors make up, as a matrix [P, Q]."""
    return khatri_rao(factors[:cut]) @ khatri_rao(factors[cut:]).T


def cut_at(shape: tuple[int, ...]) -> int:
    """Returns where to cut the modes into two groups so that the sum of their sizes is least."""
    return min(range(1, len(shape)), key=lambda at: math.prod(shape[:at]) + math.prod(shape[at:]))


def khatri_rao(factors: Factors) -> jax.Array:
    """Returns the columnwise Kronecker product [∏ n_i, K] of [n_i, K], the last mode fastest."""
    return functools.reduce(lambda a, b: (a[:, None] * b[None]).reshape(-1, a.shape[-1]), factors)


def gram(factors: Factors) -> jax.Array:
    """Returns the inner products [K, K] of the columns of `khatri_rao(factors)`."""
    return functools.reduce(jnp.multiply, (factor.T @ factor for factor in factors))


def unit(factor: jax.Array) -> jax.Array:
    """Returns the factor with columns of norm 1; columns of zeros stay."""
    size = arrays.norm(factor, 0)
    return factor / jnp.where(size > 0, size, 1)[None, :]


def _where(condition: jax.Array, one: Factors, other: Factors) -> Factors:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
