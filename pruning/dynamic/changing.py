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


def changing(
    optimizer: optax.GradientTransformation,
    mask: Mask | None,
    change: Change,
    changes: Callable[[jax.Array], jax.Array],
    *,
    replaces: bool,
    key: jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimiser by a mask that changes at some steps; `enforce` holds it between.

    The mask changes before the update of its step is made, behind a branch that stays one under
    `vmap`. In the inner state, what is copied from the parameters, such as moments, is zero
    wherever a weight was pruned before or is now; so what grows has fresh moments.

    The step is that which the caller passes as `step`, or else counted here. A change is due if
    their number has changed since the last step that was seen, so none is missed where a wrapper,
    such as `optax.MultiSteps`, passes on every k-th update only.

    Args:
      optimizer: an optax gradient transformation.
      mask: the mask that `init` puts into the state; None if the caller puts it there.
      change: makes the new mask. It is given dense gradients.
      changes: step → the number of changes up to that step, this one included.
      replaces: whether a change takes the place of the optimiser's step, as the sources of RigL
        have it: weights that stay, other parameters and the inner state do not move.
      key: for changes that draw.
    """
    enforced = enforce(_pausing(optimizer), mask)

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
        # a new state, or one that was rewound, has seen all steps before this one
        before = jnp.where((state.step < 0) | (state.step >= now), now - 1, state.step)
        due = changes(now) != changes(before)
        old = state.enforced.mask
        new = rarely(due, change, old, params, updates, now, state.key)
        stayed = {path: old[path] & new[path] for path in old}
        inner = masks.replace(state.enforced, stayed).inner
        passed = extra_args if step is None else {"step": step, **extra_args}
        updates, held = enforced.update(
            updates, EnforceState(new, inner), params, pause=due & replaces, **passed
        )
        return updates, DynamicState(held, now, state.key)

    return optax.GradientTransformationExtraArgs(init, update)


def _pausing(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser, which makes no update and keeps its state where it is to pause."""
    optimizer = optax.with_extra_args_support(optimizer)

    def update(
        updates: Params, state: Any, params: Params | None = None, *, pause: Any, **extra_args: Any
    ) -> tuple[Params, Any]:
        moved, new = optimizer.update(updates, state, params, **extra_args)
        still = jax.tree.map(lambda u: jnp.where(pause, jnp.zeros_like(u), u), moved)
        return still, jax.tree.map(lambda old, new: jnp.where(pause, old, new), state, new)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)
