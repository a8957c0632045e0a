"""How sure a classifier is of its answer."""

# C classes

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from groundwork.errors import ArgumentError, unknown

CONFIDENCES = ("softmax", "entropy", "margin")


def confidence(logits: ArrayLike, kind: str = "softmax") -> jax.Array:
    """Returns how sure a classifier is, in [0, 1]: [..., C] → [...].

    `softmax` is the largest probability (as in the paper), `margin` is the largest minus the second
    largest, and `entropy` is 1 − entropy / log C; with only one class, each of them is 1.

    Raises:
      ArgumentError: an unknown kind, or logits that are no real numbers of at least one class.

    Example:
        >>> from msdnet import exits
        >>> logits = jnp.log(jnp.array([0.7, 0.2, 0.1]))  # of three classes
        >>> [round(float(exits.confidence(logits, kind)), 3) for kind in ("softmax", "margin")]
        [0.7, 0.5]
    """
    if kind not in CONFIDENCES:
        raise ArgumentError(str(unknown("exits.confidence", kind, CONFIDENCES)))
    logits = _checked(logits)
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


def _checked(logits: ArrayLike) -> jax.Array:
    try:
        array = logits if isinstance(logits, jax.Array) else np.asarray(logits)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ArgumentError(f"logits must be numbers: {reason[:200]}") from error
    kinds = (jnp.integer, jnp.floating)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise ArgumentError(f"logits must be real numbers, not {array.dtype}")
    if not array.ndim or not array.shape[-1]:
        raise ArgumentError(f"logits must be [..., classes], not an array of {array.shape}")
    return jnp.asarray(array)
