"""Checked arrays and ranks, products in full precision, norms, and relative errors."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def floats(array: Any, what: str, order: int | None = None) -> jax.Array:
    """Returns the array as float32, or as float64 if it is that already; shorter floats are upcast.

    Args:
      array: anything that `jnp.asarray` takes.
      what: the name of the array in error messages.
      order: the number of axes that it must have; None for any number.

    Raises:
      ValueError: the order is another one, the array is empty or complex, or entries are not finite
        (where values are known, so not under jit or vmap).
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
    """Returns the rank as an int.

    Raises:
      ValueError: it is not an integer, below 1, or above `full`, the largest rank.
    """
    try:
        rank = operator.index(rank)
    except TypeError:
        raise ValueError(f"the rank must be an integer, not {rank!r}") from None
    if not 1 <= rank <= full:
        raise ValueError(f"rank {rank} is outside 1…{full}, the ranks of {of}")
    return rank


def jit(function: Callable[..., Any], static_argnames: tuple[str, ...] = ()) -> Callable[..., Any]:
    """`jax.jit` with products in full precision: by default TPUs use bfloat16, and GPUs TF32."""

    @functools.wraps(function)
    def precise(*args: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args)

    return jax.jit(precise, static_argnames=static_argnames)


def norm(array: jax.Array, axis: int | Sequence[int] | None = None) -> jax.Array:
    """Returns the Euclidean norm over `axis`, or over all axes.

    It does not overflow, its gradient at 0 is 0, and it is NaN where an entry is not finite.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(array), axis=axis, keepdims=True))
    unit = jnp.where(largest > 0, largest, 1)
    squares = jnp.sum(jnp.square(array / unit), axis=axis)
    scaled = jnp.where(squares == 0, 0, jnp.sqrt(jnp.where(squares == 0, 1, squares)))
    return scaled * unit.reshape(squares.shape)


def relative_error(target: jax.Array, approximation: jax.Array) -> jax.Array:
    """Returns ‖target − approximation‖ / ‖target‖ (Frobenius); 0 if both are 0.

    It is computed from the residual itself.
    """
    size = norm(target)
    return norm(target - approximation) / jnp.where(size > 0, size, 1)
