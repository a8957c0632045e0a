"""Sums up in the optimiser's state how weights move, for the criterion `movement`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from groundwork.trees import Params
from pruning import masks


class MovementState(NamedTuple):
    """The state of an optimiser that `accumulate` wraps."""

    sums: dict[str, jax.Array]  # path → Σ −gradient × weight, of the prunable leaves
    inner: Any


def accumulate(
    optimizer: optax.GradientTransformation, prunable: Callable[[str], bool] | None = None
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optax optimiser so that its state sums up −gradient × weight of every step.

    A sum is high where steps down the gradient have taken the weight away from zero. Under a mask,
    `enforce` goes outside: `enforce(accumulate(optimizer), mask)`. `sums` reads them.

    Args:
      optimizer: an optax gradient transformation; its updates stay as they are.
      prunable: path → bool; by default True for leaves named `kernel`.

    Returns:
      An optax gradient transformation with `MovementState`. Its `update` raises a ValueError
      without the parameters.

    Source: Sanh et al., arXiv:2005.07683, without the learning rate of the scores.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Params) -> MovementState:
        sums = {path: _zeros(leaf) for path, leaf in masks.flatten(params, prunable).items()}
        return MovementState(sums, optimizer.init(params))

    def update(
        updates: Params, state: MovementState, params: Params | None = None, **extra_args: Any
    ) -> tuple[Params, MovementState]:
        if params is None:
            raise ValueError("movement needs the parameters: update(gradients, state, params)")
        gradients, weights = masks.flatten(updates, prunable), masks.flatten(params, prunable)
        sums = {
            path: total - gradients[path].astype(total.dtype) * weights[path].astype(total.dtype)
            for path, total in state.sums.items()
        }
        updates, inner = optimizer.update(updates, state.inner, params, **extra_args)
        return updates, MovementState(sums, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def sums(state: Any) -> dict[str, jax.Array]:
    """Returns the sums of an optimiser's state, path → array, wherever in it they are.

    Raises:
      ValueError: the state has none.
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, MovementState))
    found = [node for node in nodes if isinstance(node, MovementState)]
    if not found:
        raise ValueError("the optimiser's state has no movement: wrap the optimiser by accumulate")
    return {path: leaf for node in found for path, leaf in node.sums.items()}


def _zeros(leaf: Any) -> jax.Array:
    return jnp.zeros_like(leaf, jnp.promote_types(leaf.dtype, jnp.float32))
