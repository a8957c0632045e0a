"""What all decompositions share: floats that were checked, ranks that were checked, errors."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def floats(array: Any, what: str, order: int | None = None) -> jax.Array:
    """The array as float32, or float64 where it is that already; shorter floats are upcast.

    Args:
      array: anything that `jnp.asarray` takes.
      what: what errors call it.
      order: how many axes it must have; None for any number.

    Raises:
      ValueError: another order, an empty or complex array, or (where values are known, so not
        under jit or vmap) entries that are not finite.
    """
    if isinstance(array, np.ndarray | np.generic):
        if array.dtype.kind in "USOMm":
            raise ValueError(f"the {what} must be numbers, not {array.dtype}")
        if array.dtype.kind in "iu":  # of 64 bits JAX would keep the lower 32
            array = array.astype(np.float32)
    array = jnp.asarray(array)
    if order is not None and array.ndim != order:
        raise ValueError(f"the {what} must have {order} axes, not shape {array.shape}")
    if not array.size:
        raise ValueError(f"the {what} is empty: shape {array.shape}")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(f"the {what} must be real, not {array.dtype}")
    array = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    if not isinstance(array, jax.core.Tracer):
        wrong = int(np.sum(~np.isfinite(np.asarray(array))))
        if wrong:
            raise ValueError(f"{wrong} of {array.size} entries of the {what} are not finite")
    return array


def checked_rank(rank: Any, full: int, of: str) -> int:
    """The rank as an int.

    Raises:
      ValueError: it is no integer, below 1, or above `full`.
    """
    try:
        rank = operator.index(rank)
    except TypeError:
        raise ValueError(f"the rank must be an integer, not {rank!r}") from None
    if not 1 <= rank <= full:
        raise ValueError(f"rank {rank} is outside 1…{full}, the ranks of {of}")
    return rank


def jit(function: Callable, static_argnames: tuple[str, ...] = ()) -> Callable:
    """`jax.jit`, products in full precision: by default TPUs round to bfloat16, GPUs to TF32."""

    @functools.wraps(function)
    def precise(*args: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args)

    return jax.jit(precise, static_argnames=static_argnames)


def norm(array: jax.Array, axis: int | Sequence[int] | None = None) -> jax.Array:
    """Euclidean norm over `axis` (all axes by default); safe from overflow, gradient 0 at 0.

    NaN where an entry is not finite.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(array), axis=axis, keepdims=True))
    unit = jnp.where(largest > 0, largest, 1)
    squares = jnp.sum(jnp.square(array / unit), axis=axis)
    found = jnp.where(squares == 0, 0, jnp.sqrt(jnp.where(squares == 0, 1, squares)))
    return found * unit.reshape(squares.shape)


def relative_error(target: jax.Array, found: jax.Array) -> jax.Array:
    """‖target − found‖ / ‖target‖ (Frobenius), from the residual itself; 0 if both are 0."""
    size = norm(target)
    return norm(target - found) / jnp.where(size > 0, size, 1)
