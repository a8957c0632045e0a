"""Sums and means over examples, batch by batch, inside one compiled function."""

# N examples, B of them in a batch

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def count(examples: Any) -> int:
    """Returns N, the leading axis that all leaves of the examples share.

    Raises:
      ValueError: there is none.
    """
    leaves = jax.tree.leaves(examples)
    lengths = {jnp.shape(leaf)[:1] for leaf in leaves}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        shapes = ", ".join(str(jnp.shape(leaf)) for leaf in leaves[:4])
        raise ValueError(f"examples must be arrays [N, …] that share N, at least 1, not {shapes}")
    return int(next(iter(lengths))[0])


def total(function: Callable[[Any], Any], examples: Any, size: int | None) -> Any:
    """Returns Σ function(batch), over batches of the examples in their order.

    Args:
      function: examples [B, …] → a pytree of sums over them.
      examples: a pytree of arrays [N, …].
      size: B; the last batch has what is left. None = all at once.

    Raises:
      ValueError: the examples share no leading axis, or the size is less than 1.
    """
    if size is None:
        return function(examples)
    if size < 1:
        raise ValueError(f"batch_size={size} must be at least 1")
    number = count(examples)
    whole = number // size
    if number <= size:
        return function(examples)
    full = jax.tree.map(
        lambda leaf: jnp.asarray(leaf[: whole * size]).reshape(whole, size, *leaf.shape[1:]),
        examples,
    )

    def step(sums: Any, batch: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(batch)), None

    like = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], full))
    sums, _ = lax.scan(step, jax.tree.map(_zeros, like), full)
    if whole * size == number:
        return sums
    rest = jax.tree.map(lambda leaf: leaf[whole * size :], examples)
    return jax.tree.map(jnp.add, sums, function(rest))


def mean(function: Callable[[Any], Any], examples: Any, size: int | None) -> Any:
    """Returns the mean over all examples of a function that gives means over a batch.

    What has no derivative (of the dtype `float0`) stays as it is. See `total`.
    """
    if size is None or size >= count(examples):
        return function(examples)
    number = count(examples)
    like = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[:size], examples))
    leaves, structure = jax.tree.flatten(like)
    real = [index for index, leaf in enumerate(leaves) if leaf.dtype != jax.dtypes.float0]

    def shares(batch: Any) -> list[jax.Array]:
        made, share = jax.tree.leaves(function(batch)), count(batch) / number
        return [made[index] * jnp.asarray(share, made[index].dtype) for index in real]

    means: list[Any] = [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
    for index, leaf in zip(real, total(shares, examples, size), strict=True):
        means[index] = leaf
    return jax.tree.unflatten(structure, means)


def _zeros(shape: Any) -> jax.Array:
    """Returns zeros that vary over devices as what is added to them does."""
    zeros = jnp.zeros(shape.shape, shape.dtype)
    kind = shape.manual_axis_type
    return lax.pcast(zeros, tuple(kind.varying), to="varying") if kind and kind.varying else zeros
