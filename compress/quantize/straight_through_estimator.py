"""The straight-through estimator: one value forward, the gradient of another backward."""

import jax


@jax.custom_jvp
def straight_through(value: jax.Array, carrier: jax.Array) -> jax.Array:
    """Returns `value` exactly, with the sum of the derivatives of `value` and `carrier`.

    The derivative of a rounded value is zero almost everywhere, so that of the carrier stands in
    for it: `straight_through(jnp.round(x), x)`. (The common `x + stop_gradient(value − x)` rounds,
    and misses the grid by a last bit.) Works in forward and reverse mode, under jit and vmap.

    Args:
      value: any shape.
      carrier: of the same shape and dtype.

    Source: Bengio, Léonard & Courville, arXiv:1308.3432.

    Example:
        >>> from compress import quantize
        >>> rounded = lambda x: quantize.straight_through(jnp.round(x), x)
        >>> float(rounded(2.7)), float(jax.grad(rounded)(2.7))
        (3.0, 1.0)
    """
    del carrier
    return value


@straight_through.defjvp
def _jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return primals[0], tangents[0] + tangents[1]
