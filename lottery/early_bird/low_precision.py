"""Training in few bits, for the search of a ticket alone: weights and gradients are rounded."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from groundwork import trees
from groundwork.trees import Params

FLOAT = 32  # bits: nothing is rounded
BITS = (*range(2, 9), FLOAT)


def rounded(params: Params, bits: int) -> Params:
    """Returns the parameters as a network in few bits sees them; gradients pass as they are.

    Each array is rounded to the nearest of the 2^bits − 1 multiples of a step that reach from minus
    its largest absolute value to that value. The float values stay what training updates.
    Source: You et al., arXiv:1909.11957, Section 4.2: the search runs with 8 bits. Departs: theirs
    rounds activations and errors as well, and holds no float copy of the weights.

    Args:
      params: of one replicate.
      bits: one of `BITS`.

    Raises:
      ValueError: there is no such number of bits.
    """
    _check(bits)
    if bits == FLOAT:
        return params

    def one(leaf: jax.Array) -> jax.Array:
        step = _step(leaf, bits)
        return leaf + lax.stop_gradient(jnp.round(leaf / step) * step - leaf)

    return jax.tree.map(one, params)


def rounded_gradients(bits: int) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation that rounds gradients at random to few bits.

    It stands before an optimiser in `optax.chain`. The multiples are those of `rounded`; a gradient
    goes up with the probability of its distance from the lower one, so its mean stays. The random
    numbers are a function of the step, the path, and the bits of the parameters at the start, from
    which the state comes: so replicates, and runs of other seeds, have others.

    Args:
      bits: one of `BITS`.

    Raises:
      ValueError: there is no such number of bits.
    """
    _check(bits)

    def update(
        updates: Params, state: Any, params: Params = None, *, step: jax.Array, **extra: Any
    ) -> tuple[Params, Any]:
        del params, extra
        if bits == FLOAT:
            return updates, state
        key = jax.random.fold_in(jax.random.key(state), step)
        places = {path: place for place, path in enumerate(trees.flatten(updates))}

        def one(path: str, leaf: jax.Array) -> jax.Array:
            size = _step(leaf, bits)
            noise = jax.random.uniform(jax.random.fold_in(key, places[path]), leaf.shape)
            return jnp.floor(leaf / size + noise.astype(leaf.dtype)) * size

        return trees.map_with_path(one, updates), state

    return optax.GradientTransformationExtraArgs(_seed, update)


def _seed(params: Params) -> jax.Array:
    """Returns [] uint32: the sum of the bits of all parameters, as numbers."""
    leaves = [jnp.asarray(leaf, jnp.float32) for leaf in jax.tree.leaves(params)]
    bits = [lax.bitcast_convert_type(leaf, jnp.uint32) for leaf in leaves]
    return sum((jnp.sum(each, dtype=jnp.uint32) for each in bits), jnp.zeros((), jnp.uint32))


def _step(leaf: jax.Array, bits: int) -> jax.Array:
    largest = jnp.max(jnp.abs(leaf), initial=0)
    return jnp.where(largest > 0, largest, 1) / (2 ** (bits - 1) - 1)


def _check(bits: int) -> None:
    if bits not in BITS:
        raise ValueError(f"bits={bits} must be one of {', '.join(map(str, BITS))}")
