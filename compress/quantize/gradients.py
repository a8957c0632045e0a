"""Gradients of few bits, rounded at random so that they are right on average."""

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.numerics import arrays, checks


def round_stochastically(key: jax.Array, values: jax.Array) -> jax.Array:
    """To the integer below or above, as floats, each with the chance that makes the mean right.

    An integer stays what it is. Works under jit and vmap.
    """
    below = jnp.floor(values)
    up = jax.random.uniform(key, values.shape, values.dtype) < values - below
    return below + up  # not floor(values + drawn), whose sum rounds


def quantize_gradient(
    key: jax.Array, gradient: jax.Array, bits: int, axis: int | None = None
) -> jax.Array:
    """One of 2**bits values from −max |g| to max |g|, evenly apart; unbiased, of mean g.

    The least and greatest value stay what they are; zero is not among the values, and becomes
    plus or minus half a step. Works under jit and vmap.

    Args:
      key: draws the rounding.
      gradient: any shape; computed in float32 unless it is float64, given back in its own dtype.
      bits: 1 … 16.
      axis: one maximum for each index of this axis (0, the examples, in the paper); None for one
        in all.

    Raises:
      ValueError: an empty gradient or (where values are known) not finite, bits outside 1…16,
        an axis that is not there.

    Source: Zhou et al., arXiv:1606.06160, Section 2.5.
    """
    wide = arrays.floats(gradient, "gradient")
    steps = 2 ** checks.bits(bits, 1, 16) - 1
    reduced = checks.others(axis, wide.ndim)
    most = jnp.max(jnp.abs(wide), axis=reduced, keepdims=axis is not None)
    unit = jnp.where(most > 0, most, 1)
    place = (wide / unit + 1) * (steps / 2)  # in [0, steps]
    place = jnp.clip(round_stochastically(key, place), 0, steps)
    return (most * (2 * place / steps - 1)).astype(jnp.asarray(gradient).dtype)


def quantized_backward(
    key: jax.Array, values: jax.Array, bits: int, axis: int | None = None
) -> jax.Array:
    """The values as they are; the gradient that comes back through them is quantised.

    Put it after a layer, as `quantize_gradient` says; errors are the same. Reverse mode only.
    """
    checks.bits(bits, 1, 16)
    checks.others(axis, values.ndim)

    @jax.custom_vjp
    def same(key, values):
        del key
        return values

    def forward(key, values):
        return values, key

    def backward(key, gradient):
        unused = np.zeros(key.shape, jax.dtypes.float0)
        return unused, quantize_gradient(key, gradient, bits, axis)

    same.defvjp(forward, backward)
    return same(key, values)
