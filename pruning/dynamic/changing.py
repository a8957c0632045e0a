"""An optimiser whose mask changes while it trains: what all methods of this package share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from groundwork.trees import Params
from pruning import masks
from pruning.dynamic.rarely import rarely
from pruning.enforce import enforce
from pruning.masks import EnforceState, Mask


class DynamicState(NamedTuple):
    """The state of an optimiser whose mask changes; `masks.mask_of` and `masks.replace` find it."""

    enforced: EnforceState  # the mask and the inner state
    step: jax.Array  # [] int32, the last step that was seen; −1 before the first one
    key: jax.Array | None  # [] key, from which random methods draw


Change = Callable[[Mask, Params, Params, jax.Array, Any], Mask]
"""(mask, parameters, gradients, step, key) → the new mask"""
Due = Callable[[jax.Array, jax.Array], jax.Array]
"""(step, the last step before that was seen, −1 if none was) → whether the mask changes, [] bool"""


def changing(
    optimizer: optax.GradientTransformation,
    mask: Mask | None,
    change: Change,
    due: Due,
    *,
    replaces: bool,
    key: jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimiser by a mask that changes at some steps; `enforce` holds it between.

    The mask changes before the update of its step is made, behind a branch that stays one under
    `vmap`. In the inner state, what is copied from the parameters, such as moments, is zero
    wherever a weight is pruned, so a weight that grows has fresh moments.

    The step is that which the caller passes as `step`, or else counted here. Whether a change is
    due depends on the last step that was seen, too, so that none is missed where a wrapper, such as
    `optax.MultiSteps`, passes on every k-th update only.

    Args:
      optimizer: an optax gradient transformation.
      mask: the mask that `init` puts into the state; None if the caller puts it there.
      change: makes the new mask. It is given dense gradients.
      due: when the mask changes.
      replaces: whether a change takes the place of the optimiser's update: no weight that is kept
        moves, nor any other parameter. The optimiser's state goes on all the same.
      key: for changes that draw.
    """
    enforced = enforce(_held(optimizer), mask)

    def init(params: Params) -> DynamicState:
        return DynamicState(enforced.init(params), jnp.int32(-1), key)

    def update(
        updates: Params,
        state: DynamicState,
        params: Params | None = None,
        *,
        step: jax.Array | None = None,
        **extra_args: Any,
    ) -> tuple[Params, DynamicState]:
        if params is None:
            raise ValueError("the mask needs the parameters: update(gradients, state, params)")
        now = state.step + 1 if step is None else jnp.asarray(step, jnp.int32)
        # in a state that was rewound, the last step that was seen is not before this one
        before = jnp.where(state.step < now, state.step, -1)
        changes = due(now, before)
        old = state.enforced.mask
        new = rarely(changes, change, old, params, updates, now, state.key)
        inner = masks.replace(state.enforced, new).inner
        passed = extra_args if step is None else {"step": step, **extra_args}
        updates, held = enforced.update(
            updates, EnforceState(new, inner), params, hold=changes if replaces else None, **passed
        )
        # on a mesh it then varies over the axes over which the step that was seen did
        seen = state.step + (now - state.step)
        return updates, DynamicState(held, seen, state.key)

    return optax.GradientTransformationExtraArgs(init, update)


def _held(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser, whose updates are zero where it is to hold; its state goes on.

    To hold the state as well would cost a tenth of a small network's step, at every step.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def update(
        updates: Params,
        state: Any,
        params: Params | None = None,
        *,
        hold: jax.Array | None,
        **extra_args: Any,
    ) -> tuple[Params, Any]:
        updates, state = optimizer.update(updates, state, params, **extra_args)
        if hold is not None:
            updates = jax.tree.map(lambda u: jnp.where(hold, jnp.zeros_like(u), u), updates)
        return updates, state

    return optax.GradientTransformationExtraArgs(optimizer.init, update)
