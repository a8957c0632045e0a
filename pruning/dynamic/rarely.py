"""A branch that stays a branch under `vmap`: what is done rarely costs nothing between."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap


def rarely(due: jax.Array, function: Callable[..., Any], value: Any, *rest: Any) -> Any:
    """Returns `function(value, *rest)` where it is due, and otherwise the value.

    `vmap` turns `lax.cond` with a batched condition into `lax.select`, which computes the function
    every time. Here one condition decides for the whole batch: whether the function is due
    anywhere. Within the branch, each element keeps its value where it is not due to itself.

    Args:
      due: [] bool.
      function: of arrays that it is given; it closes over no traced ones.
      value: a pytree.
      *rest: pytrees.
    """

    @custom_vmap
    def branch(due: jax.Array, value: Any, *rest: Any) -> Any:
        return lax.cond(due, function, lambda value, *rest: value, value, *rest)

    @branch.def_vmap
    def _batched(size: int, batched: Any, *arguments: Any) -> Any:
        def whole(leaf: jax.Array, is_batched: bool) -> jax.Array:
            return leaf if is_batched else jnp.broadcast_to(leaf, (size, *jnp.shape(leaf)))

        due, value, *rest = jax.tree.map(whole, arguments, tuple(batched))
        result = rarely(jnp.any(due), jax.vmap(_where_due), value, due, *rest)
        return result, jax.tree.map(lambda _: True, result)

    def _where_due(value: Any, due: jax.Array, *rest: Any) -> Any:
        new = function(value, *rest)
        return jax.tree.map(lambda new, old: jnp.where(due, new, old), new, value)

    return branch(due, value, *rest)
