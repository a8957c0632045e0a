"""CP factors of lower norm at (nearly) the same error. Read `stabilize` first."""

# n_i size of mode i, K rank

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from groundwork.numerics import arrays
from lowrank.decompositions import als, cp

HALVINGS = 40  # of the range of a multiplier's logarithm
RANGE = (1e-9, 1e4)  # of multipliers; the diagonal of the normal equations' matrix is ones


class Stable(NamedTuple):
    """Factors as `cp.CP` has them."""

    factors: cp.Factors  # [n_i, K] each
    norm: jax.Array  # [], √ of the sum of the components' squared norms, over the tensor's norm
    error: jax.Array  # [], relative


def stabilize(
    tensor: jax.Array, factors: Sequence[jax.Array], slack: float = 0.01, sweeps: int = 50
) -> Stable:
    """Returns factors of the least norm within (1 + slack) times the error of those given.

    Components that cancel each other make a network of CP layers impossible to fine-tune. Each
    sweep takes the factors in turn and solves, given the others, for the one of least norm whose
    error is at the bound: least squares with a multiplier (a ridge), which bisection finds. Sweeps
    whose error, computed from the residual, exceeds the bound are dropped. So the result is the
    least norm that kept the bound, at worst the given factors, balanced. It works under vmap.

    Args:
      tensor: of order 2 or more.
      factors: [n_i, K] each, such as those of `cp.decompose`.
      slack: share by which the relative error may grow, not below 0.
      sweeps: the number of sweeps.

    Raises:
      ValueError: entries are not finite, factors do not fit, or a number is negative.

    Source: error-preserving correction, Phan et al., arXiv:1709.08349, by alternating updates, and
    its use for convolutions, Phan et al., arXiv:2008.05441. Departs: the bound is a share above
    the given error, and the components' norm is minimised in place of the latter's sensitivity.

    Example:
        >>> from lowrank import cp, stability
        >>> tensor = jnp.array([[0.0, 0.1], [-1.0, 0.0]])
        >>> first, second = jnp.array([[1, 1], [0, 0.01]]), jnp.array([[100.0, -100.0], [0, 0]])
        >>> stable = stability.stabilize(tensor, (first, second))  # two terms that nearly cancel
        >>> for factors in ((first, second), stable.factors):
        ...     print([round(float(norm), 1) for norm in cp.norms(factors)])
        [100.0, 100.0]
        [0.5, 0.5]
    """
    tensor = arrays.floats(tensor, "tensor")
    rank = jnp.shape(factors[0])[-1] if len(factors) else 0
    checked = cp.checked_factors(factors, tensor, rank)
    if min(slack, sweeps) < 0:
        raise ValueError(f"slack={slack}, sweeps={sweeps}: not below 0")
    return _stabilize(tensor, checked, float(slack), sweeps)


@arrays.jit
def _stabilize(
    tensor: jax.Array, factors: cp.Factors, slack: jax.Array, sweeps: jax.Array
) -> Stable:
    size = arrays.norm(tensor)
    scale = jnp.where(size > 0, size, 1)
    tensor = tensor / scale
    factors = cp.balance((factors[0] / scale, *factors[1:]))
    start = Stable(factors, arrays.norm(cp.norms(factors)), _error(tensor, factors))
    bound = start.error * (1 + slack)

    def sweep(_: jax.Array, state: tuple[cp.Factors, Stable]) -> tuple[cp.Factors, Stable]:
        held, best = state
        held = _sweep(tensor, held, bound)
        new = Stable(held, arrays.norm(cp.norms(held)), _error(tensor, held))
        better = (new.error <= bound) & (new.norm < best.norm)  # False for NaN
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), (held, best), state)

    _, best = jax.lax.fori_loop(0, sweeps, sweep, (factors, start))
    factors = cp.balance((best.factors[0] * scale, *best.factors[1:]))
    return Stable(factors, best.norm, best.error)


def _sweep(tensor: jax.Array, factors: cp.Factors, bound: jax.Array) -> cp.Factors:
    """Renews every factor in turn. It aims just below the bound, which rounding must not cross."""
    for mode in range(len(factors)):
        square = _error(tensor, factors) ** 2
        units = tuple(als.unit(f) for f in factors)
        others = (*units[:mode], *units[mode + 1 :])
        held = factors[mode] * (cp.norms(factors) / arrays.norm(factors[mode], 0))[None, :]
        unfolded = jnp.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)
        room = (0.9999 * bound) ** 2 - square
        renewed = _least(unfolded @ als.khatri_rao(others), als.gram(others), held, room)
        factors = cp.balance((*units[:mode], renewed, *units[mode + 1 :]))
    return factors


def _least(target: jax.Array, gram: jax.Array, held: jax.Array, room: jax.Array) -> jax.Array:
    """Returns the least factor [n, K] whose squared error is at most `room` above that of `held`.

    Of the error, only ‖(A − A*) √G‖² depends on the factor A, where A* = target G⁻¹: in G's
    eigenvectors, A = target (G + λI)⁻¹ adds Σ mⱼ λ² / (gⱼ (gⱼ + λ)²), which grows with λ.
    """
    eigenvalues, vectors = jnp.linalg.eigh(gram)  # [K], [K, K]
    floor = 10 * jnp.finfo(gram.dtype).eps * gram.shape[0]
    eigenvalues = jnp.maximum(eigenvalues, floor)
    rotated = target @ vectors  # [n, K]
    squares = jnp.sum(rotated**2, 0)
    beyond = rotated - (held @ vectors) * eigenvalues[None, :]
    room = room + jnp.sum(jnp.sum(beyond**2, 0) / eigenvalues)  # above the least squares' error

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = jnp.sqrt(low * high)
        added = jnp.sum(squares * middle**2 / (eigenvalues * (eigenvalues + middle) ** 2))
        fits = added <= room
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    ends = tuple(jnp.asarray(end, gram.dtype) for end in RANGE)
    multiplier, _ = jax.lax.fori_loop(0, HALVINGS, halve, ends)
    return (rotated / (eigenvalues + multiplier)[None, :]) @ vectors.T


def _error(tensor: jax.Array, factors: cp.Factors) -> jax.Array:
    return arrays.norm(tensor - cp.reconstruct(factors))  # the tensor has norm 1
