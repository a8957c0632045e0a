"""The one place that holds pruned weights at zero: a wrapper for any optax optimiser."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from groundwork.trees import Params, Variables
from pruning.masks import EnforceState, Mask, apply, check_within, map_masked


def enforce(
    optimizer: optax.GradientTransformation, mask: Mask | None
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optax optimiser so that pruned weights are exactly zero after every update.

    Gradients are masked first, and the update of a pruned entry is minus its value, so momentum,
    Adam's moments and weight decay cannot revive it. The mask is part of the *state*: another
    level needs `masks.replace(state, mask)` or a new `init`, and compiles nothing. Parameters must
    be finite; `masks.apply` sets pruned ones that are not to zero. It works under jit, vmap and
    shard_map.

    What makes, scales, clips or averages updates goes inside: `enforce(optax.chain(…), mask)`.
    Outside go wrappers that pass an update on whole or not at all: `MultiSteps`,
    `apply_if_finite`, `multi_transform`; and `lookahead`, whose parameters are two sequences:
    `optax.lookahead(enforce(optax.adam(1e-3), mask), 5, 0.5)`.

    Args:
      optimizer: an optax gradient transformation.
      mask: the mask that `init` puts into the state; None if the caller puts it there.

    Returns:
      An optax gradient transformation with `EnforceState`.

    Raises:
      ValueError: the mask has a path that the parameters lack, or `update` gets no `params`.

    Example:
        >>> import optax
        >>> from pruning import enforce
        >>> params = {"kernel": jnp.array([2.0, -1.0, 4.0])}
        >>> mask = {"kernel": jnp.array([True, False, True])}
        >>> optimizer = enforce.enforce(optax.sgd(0.5, momentum=0.9), mask)
        >>> updates, _ = optimizer.update({"kernel": jnp.ones(3)}, optimizer.init(params), params)
        >>> optax.apply_updates(params, updates)["kernel"].tolist()
        [1.5, 0.0, 3.5]
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
        # −p has the parameter's precision, whatever the update's is, so their sum is exactly zero
        updates = map_masked(lambda keep, u, p: jnp.where(keep, u, -p), state.mask, updates, params)
        return updates, EnforceState(state.mask, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def begin(
    optimizer: optax.GradientTransformation,
) -> Callable[[Variables, Mask], tuple[Variables, EnforceState]]:
    """Returns the `networks.Begin` of training under a mask.

    Args:
      optimizer: the optimiser that `enforce` wraps.

    Returns:
      (variables, mask) of one replicate → variables with pruned entries zero, optimiser's state.

    Example:
        >>> import optax
        >>> from pruning import enforce, masks
        >>> variables = {"params": {"kernel": jnp.array([2.0, -1.0])}}
        >>> mask = {"kernel": jnp.array([True, False])}
        >>> masked, state = enforce.begin(optax.adam(0.1))(variables, mask)
        >>> masked["params"]["kernel"].tolist(), masks.mask_of(state)["kernel"].tolist()
        ([2.0, 0.0], [True, False])
    """

    def masked(variables: Variables, mask: Mask) -> tuple[Variables, EnforceState]:
        params = apply(mask, variables["params"])
        return {**variables, "params": params}, enforce(optimizer, mask).init(params)

    return masked
