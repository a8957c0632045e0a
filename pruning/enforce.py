"""The one place where pruned weights are held at zero: a wrapper of any optax optimiser."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from groundwork.trees import Params, Variables
from pruning.masks import Mask, apply, check_within, map_masked


class EnforceState(NamedTuple):
    """The state of an optimiser that `enforce` wraps. Another level has another mask in it."""

    mask: Mask
    inner: Any


def enforce(
    optimizer: optax.GradientTransformation, mask: Mask | None
) -> optax.GradientTransformationExtraArgs:
    """Wrap any optax optimiser so that pruned weights are exactly zero after every update.

    Gradients are masked going in, and a pruned entry's update is minus its value, so momentum,
    Adam's moments and weight decay cannot revive it. The mask lives in the *state*: another
    level is `state._replace(mask=…)` or a new `init`, and compiles nothing. Wrap last, so that
    nothing changes the updates afterwards. Parameters must be finite (`apply` mends pruned ones
    that are not). It works under jit, vmap and shard_map.

    Args:
      optimizer: an optax gradient transformation.
      mask: what `init` puts into the state; None if the caller puts the mask there.

    Returns:
      An optax gradient transformation with `EnforceState`.

    Raises:
      ValueError: the mask has a path that the parameters lack, or `update` gets no `params`.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Params) -> EnforceState:
        held = {} if mask is None else mask
        check_within(held, params)
        return EnforceState(held, optimizer.init(params))

    def update(
        updates: Params, state: EnforceState, params: Params | None = None, **extra_args: Any
    ) -> tuple[Params, EnforceState]:
        if params is None:
            raise ValueError("enforce needs the parameters: update(gradients, state, params)")
        updates = apply(state.mask, updates)
        updates, inner = optimizer.update(updates, state.inner, params, **extra_args)
        # −p in the parameter's own precision, whatever the update's: their sum is zero exactly
        updates = map_masked(lambda keep, u, p: jnp.where(keep, u, -p), state.mask, updates, params)
        return updates, EnforceState(state.mask, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def begin(
    optimizer: optax.GradientTransformation,
) -> Callable[[Variables, Mask], tuple[Variables, EnforceState]]:
    """Returns what training under a mask starts from, for `networks.make_start`.

    Args:
      optimizer: what `enforce` wraps.

    Returns:
      (variables, mask) of one replicate → variables with pruned entries zero, optimiser's state.
    """

    def masked(variables: Variables, mask: Mask) -> tuple[Variables, EnforceState]:
        params = apply(mask, variables["params"])
        return {**variables, "params": params}, enforce(optimizer, mask).init(params)

    return masked
