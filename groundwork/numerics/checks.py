"""What the quantisers refuse, in one line each."""

import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from groundwork.numerics import arrays


def weights(array: Any) -> jax.Array:
    """Weights as `arrays.floats` has them, of sizes that can be computed with.

    Raises:
      ValueError: as there; or (where values are known) one is beyond a quarter of the largest
        float: differences of two would overflow, and the inverse of their scale be taken for 0.
    """
    found = arrays.floats(array, "weights")
    if not isinstance(found, jax.core.Tracer):
        largest, most = float(jnp.max(jnp.abs(found))), float(jnp.finfo(found.dtype).max) / 4
        if largest > most:
            raise ValueError(f"the weights reach {largest:.3g}, beyond {most:.3g} of {found.dtype}")
    return found


def key(given: Any) -> jax.Array:
    """A key of JAX, of either kind.

    Raises:
      ValueError: it is none.
    """
    found = jnp.asarray(given)
    if jnp.issubdtype(found.dtype, jax.dtypes.prng_key) and not found.ndim:
        return found
    if found.dtype == jnp.uint32 and found.shape == (2,):
        return found
    raise ValueError(f"a key is made by jax.random.key, not {given!r}")


def bits(bits: Any, low: int, high: int) -> int:
    """The number of bits as an int.

    Raises:
      ValueError: it is no integer, or outside low … high.
    """
    try:
        bits = operator.index(bits)
    except TypeError:
        raise ValueError(f"bits must be an integer, not {bits!r}") from None
    if not low <= bits <= high:
        raise ValueError(f"bits {bits} is outside {low}…{high}")
    return bits


def name(what: str, given: Any, known: Iterable[str]) -> None:
    """Refuse a name that is not known.

    Raises:
      ValueError: with the names that are.
    """
    if given not in (known := tuple(known)):
        raise ValueError(f"unknown {what} {given!r} (known: {', '.join(known)})")


def mask(mask: Any, shape: tuple[int, ...]) -> jax.Array:
    """A mask (True = kept) of that shape.

    Raises:
      ValueError: another shape, or not bool.
    """
    mask = jnp.asarray(mask)
    if mask.shape != shape:
        raise ValueError(f"the mask has shape {mask.shape}, the weights {shape}")
    if mask.dtype != bool:
        raise ValueError(f"the mask must be bool, not {mask.dtype}")
    return mask


def others(axis: Any, ndim: int) -> tuple[int, ...]:
    """All axes but one; all of them for None.

    Raises:
      ValueError: no such axis.
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
    """A number in (low, 1].

    Raises:
      ValueError: it is outside.
    """
    if not low < value <= 1:
        raise ValueError(f"{what} {value} is outside ({low}, 1]")
    return float(value)
