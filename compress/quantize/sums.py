"""Prefix sums in twice the precision, as pairs high + low."""

# N values, M chunks of L of them

import math

import jax
import jax.numpy as jnp

Pair = tuple[jax.Array, jax.Array]  # it means their exact sum; |low| is at most half a unit of high


def prefix(values: jax.Array) -> Pair:
    """Returns the sums of the first 0 … N values: high and low, [N + 1] each.

    The difference of two float32 prefix sums over a million values is off by about 1e-7 of the
    *largest* prefix sum, which is far more than the value of a cluster of one. The difference of
    two pairs is off by about 1e-14 of it.

    Args:
      values: [N], any floats.

    Source: the exact addition of Knuth, TAOCP 2, Section 4.2.2, Theorem B; Dekker 1971.
    """
    chunks = max(1, math.isqrt(values.size))
    length = -(-values.size // chunks)
    padded = jnp.concatenate([values, jnp.zeros(chunks * length - values.size, values.dtype)])

    def running(total: Pair, more: Pair) -> tuple[Pair, Pair]:
        total = add(total, more)
        return total, total

    rows = padded.reshape(chunks, length).T  # [L, M]: chunks run side by side
    zeros = (jnp.zeros_like(rows[0]), jnp.zeros_like(rows[0]))
    totals, within = jax.lax.scan(running, zeros, (rows, jnp.zeros_like(rows)))
    zero = (jnp.zeros_like(rows[0, 0]), jnp.zeros_like(rows[0, 0]))
    _, through = jax.lax.scan(running, zero, totals)
    before = tuple(jnp.roll(part, 1).at[0].set(0)[None, :] for part in through)
    sums = add((before[0], before[1]), within)
    high, low = (jnp.pad(part.T.ravel()[: values.size], (1, 0)) for part in sums)
    return high, low


def between(sums: Pair, ends: jax.Array) -> jax.Array:
    """Returns the sums [K] from each end to the next, of the pairs of `prefix` and ends [K + 1]."""
    high, low = sums[0][ends], sums[1][ends]
    return (high[1:] - high[:-1]) + (low[1:] - low[:-1])


def add(a: Pair, b: Pair) -> Pair:
    """Returns the sum of two pairs."""
    high = a[0] + b[0]
    of_b = high - a[0]
    rest = (a[0] - (high - of_b)) + (b[0] - of_b)  # high + rest is a[0] + b[0] exactly
    rest = rest + (a[1] + b[1])
    total = high + rest
    return total, rest - (total - high)
