"""The straight-through estimator: one value forward, the gradient of another backward."""

import jax


@jax.custom_jvp
def straight_through(value: jax.Array, carrier: jax.Array) -> jax.Array:
    """`value` exactly; its derivative is the sum of those of `value` and `carrier`.

    A rounded value has derivative zero almost everywhere, so the carrier's stands in for it:
    `straight_through(jnp.round(x), x)`. (The common `x + stop_gradient(value − x)` rounds, and
    leaves the grid by a last bit.) Forward and reverse mode, jit and vmap.

    Args:
      value: of any shape.
      carrier: of the same shape and dtype.

    Source: Bengio, Léonard & Courville, arXiv:1308.3432.
    """
    del carrier
    return value


@straight_through.defjvp
def _jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    return primals[0], tangents[0] + tangents[1]
