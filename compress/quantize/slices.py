"""Forms of a stack of layers, which `jax.vmap` of a quantiser makes: each slice has its own."""

from typing import TypeVar

import jax
import numpy as np

Numbers = TypeVar("Numbers", jax.Array, np.ndarray)


def over(scale: Numbers, ndim: int) -> Numbers:
    """Returns one number for each slice with as many axes as the stack, to broadcast against it.

    A single number, and scales that have all axes already, stay as they are.
    """
    if not 0 < scale.ndim < ndim:
        return scale
    return scale.reshape(scale.shape + (1,) * (ndim - scale.ndim))


def look_up(codebook: jax.Array, indices: jax.Array) -> jax.Array:
    """Returns codebook[indices], slice by slice where the codebook [..., K] has leading axes."""
    if codebook.ndim < 2:
        return codebook[indices]
    return jax.vmap(look_up)(codebook, indices)
