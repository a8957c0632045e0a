"""Milliseconds of a network beside the original's, on this machine."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from compress import networks
from compress.networks import Form
from lowrank import timing

BATCHES = (1, 128)  # examples


def milliseconds(
    model: nn.Module, form: Form, variables: Any, shape: tuple[int, ...]
) -> dict[str, list[float]]:
    """Batch size → the original's and this network's, of calls that take turns.

    Args:
      model: the original.
      form: of this network.
      variables: of this network, one replicate.
      shape: of an example.
    """
    calls = [
        _original(model, shape),
        (jax.jit(functools.partial(networks.apply_of(form), train=False)), variables),
    ]
    found = {}
    for batch in BATCHES:
        x = jax.random.normal(jax.random.key(1), (batch, *shape))
        seconds = timing.medians([functools.partial(apply, own, x) for apply, own in calls])
        found[str(batch)] = [1e3 * own for own in seconds]
    return found


@functools.cache
def _original(model: nn.Module, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The original's compiled call and variables, once for all networks of a run."""
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *shape)))
    return jax.jit(functools.partial(model.apply, train=False)), variables
