"""Checks of arguments, which raise a `ValueError` of one line."""

import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.numerics import arrays


def weights(array: Any) -> jax.Array:
    """Returns weights as `arrays.floats` has them, none of them too large to compute with.

    Raises:
      ValueError: as there; or a weight is beyond a quarter of the largest float (where values are
        known): differences of two would overflow, and the inverse of their scale would round to 0.
    """
    checked = arrays.floats(array, "weights")
    if not isinstance(checked, jax.core.Tracer):
        largest = float(np.abs(np.asarray(checked)).max())  # by numpy, which compiles nothing
        most = float(jnp.finfo(checked.dtype).max) / 4
        if largest > most:
            raise ValueError(
                f"the weights reach {largest:.3g}, beyond {most:.3g} of {checked.dtype}"
            )
    return checked


def key(given: Any) -> jax.Array:
    """Returns a key of JAX, in its typed or its raw form.

    Raises:
      ValueError: it is not a key.
    """
    array = jnp.asarray(given)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) and not array.ndim:
        return array
    if array.dtype == jnp.uint32 and array.shape == (2,):
        return array
    raise ValueError(f"a key is made by jax.random.key, not {given!r}")


def bits(bits: Any, low: int, high: int) -> int:
    """Returns the number of bits as an int.

    Raises:
      ValueError: it is not an integer, or outside low … high.
    """
    try:
        bits = operator.index(bits)
    except TypeError:
        raise ValueError(f"bits must be an integer, not {bits!r}") from None
    if not low <= bits <= high:
        raise ValueError(f"bits {bits} is outside {low}…{high}")
    return bits


def name(what: str, given: Any, known: Iterable[str]) -> None:
    """Refuses a name that is not known.

    Raises:
      ValueError: lists the names that are known.
    """
    if given not in (known := tuple(known)):
        raise ValueError(f"unknown {what} {given!r} (known: {', '.join(known)})")


def mask(mask: Any, shape: tuple[int, ...]) -> jax.Array:
    """Returns the mask (True = kept) as an array.

    Raises:
      ValueError: it has another shape than `shape`, or is not bool.
    """
    mask = jnp.asarray(mask)
    if mask.shape != shape:
        raise ValueError(f"the mask has shape {mask.shape}, the weights {shape}")
    if mask.dtype != bool:
        raise ValueError(f"the mask must be bool, not {mask.dtype}")
    return mask


def others(axis: Any, ndim: int) -> tuple[int, ...]:
    """Returns all axes but one; all of them for None.

    Raises:
      ValueError: there is no such axis.
    """
    if axis is None:
        return tuple(range(ndim))
    try:
        index = operator.index(axis)
    except TypeError:
        raise ValueError(f"axis must be an integer or None, not {axis!r}") from None
    if not -ndim <= index < ndim:
        raise ValueError(f"axis {index} is outside {-ndim}…{ndim - 1}, the axes of the array")
    return tuple(i for i in range(ndim) if i != index % ndim)


def fraction(what: str, value: float, low: float) -> float:
    """Returns a number in (low, 1] as a float.

    Raises:
      ValueError: it is outside.
    """
    if not low < value <= 1:
        raise ValueError(f"{what} {value} is outside ({low}, 1]")
    return float(value)
