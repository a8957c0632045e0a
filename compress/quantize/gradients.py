"""Gradients of few bits, rounded at random so that they are right on average."""

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.numerics import arrays, checks


def round_stochastically(key: jax.Array, values: jax.Array) -> jax.Array:
    """Rounds each value to the integer below or above, with the chance that makes the mean right.

    The result has the values' dtype, and integers stay what they are. Works under jit and vmap.

    Example:
        >>> from compress import quantize
        >>> rounded = quantize.round_stochastically(jax.random.key(0), jnp.full(10_000, 2.3))
        >>> sorted(set(rounded.tolist())), round(float(rounded.mean()), 1)
        ([2.0, 3.0], 2.3)
    """
    below = jnp.floor(values)
    up = jax.random.uniform(key, values.shape, values.dtype) < values - below
    return below + up  # not floor(values + drawn), whose sum rounds


def quantize_gradient(
    key: jax.Array, gradient: jax.Array, bits: int, axis: int | None = None
) -> jax.Array:
    """Rounds a gradient g to 2**bits evenly spaced values from −max |g| to max |g|, with mean g.

    The least and the greatest value stay what they are. Zero is not among the values, and becomes
    plus or minus half a step. Works under jit and vmap.

    Args:
      key: draws the rounding.
      gradient: any shape. It is computed in float32 unless it is float64; the result has its dtype.
      bits: 1 … 16.
      axis: one maximum for each index of this axis (0, the examples, in the paper); None for a
        single one.

    Raises:
      ValueError: the gradient is empty or (where values are known) not finite, the bits are outside
        1…16, or there is no such axis.

    Source: Zhou et al., arXiv:1606.06160, Section 2.5.

    Example:
        >>> from compress import quantize
        >>> gradient = jnp.array([-3.0, 0.0, 3.0])  # two bits can say −3, −1, 1 and 3
        >>> drawn = jax.vmap(lambda key: quantize.quantize_gradient(key, gradient, bits=2))(
        ...     jax.random.split(jax.random.key(0), 20)
        ... )
        >>> np.unique(drawn.round(), axis=0).tolist()
        [[-3.0, -1.0, 3.0], [-3.0, 1.0, 3.0]]
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
    """Returns the values as they are; the gradient that comes back through them is quantised.

    Apply it to the outputs of a layer. Arguments and errors are those of `quantize_gradient`.
    Reverse mode only.

    Example:
        >>> from compress import quantize
        >>> def loss(values):
        ...     values = quantize.quantized_backward(jax.random.key(0), values, bits=1)
        ...     return values @ jnp.array([2.0, 0.5])
        >>> float(loss(jnp.ones(2)))
        2.5
        >>> jnp.abs(jax.grad(loss)(jnp.ones(2))).tolist()  # one bit can say −2 and 2
        [2.0, 2.0]
    """
    checks.bits(bits, 1, 16)
    checks.others(axis, values.ndim)

    @jax.custom_vjp
    def same(key: jax.Array, values: jax.Array) -> jax.Array:
        del key
        return values

    def forward(key: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        return values, key

    def backward(key: jax.Array, gradient: jax.Array) -> tuple[np.ndarray, jax.Array]:
        unused = np.zeros(key.shape, jax.dtypes.float0)
        return unused, quantize_gradient(key, gradient, bits, axis)

    same.defvjp(forward, backward)
    return same(key, values)
