"""How sure a classifier is of its answer."""

# C classes

import jax
import jax.numpy as jnp

from groundwork.errors import unknown

CONFIDENCES = ("softmax", "entropy", "margin")


def confidence(logits: jax.Array, kind: str = "softmax") -> jax.Array:
    """Returns how sure a classifier is, in [0, 1]: [..., C] → [...].

    `softmax` is the largest probability (as in the paper), `margin` is the largest minus the second
    largest, and `entropy` is 1 − entropy / log C; with only one class, each of them is 1.

    Raises:
      UserError: an unknown kind.
    """
    if kind not in CONFIDENCES:
        raise unknown("exits.confidence", kind, CONFIDENCES)
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    if logits.shape[-1] == 1:
        return jnp.exp(log_p[..., 0])
    if kind == "entropy":
        entropy = -jnp.sum(jnp.exp(log_p) * log_p, -1)
        return jnp.maximum(1 - entropy / jnp.log(logits.shape[-1]), 0)  # rounding
    if kind == "margin":
        first, second = jnp.moveaxis(jax.lax.top_k(jnp.exp(log_p), 2)[0], -1, 0)
        return first - second
    return jnp.exp(jnp.max(log_p, -1))
