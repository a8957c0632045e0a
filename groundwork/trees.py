"""Pytrees of arrays: names of their kinds, paths to their leaves, replicates as a leading axis."""

# R replicates

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Params = Any
"""A pytree of a network's parameters: nested dicts, or whatever the user's own network has."""

Variables = Mapping[str, Any]
"""Collection → pytree: `params`, and `batch_stats` and other collections where there are any."""

Shapes = Any
"""A pytree whose leaves have a `shape` and a `dtype`: arrays, or `jax.ShapeDtypeStruct`s."""


def path(keys: tuple[Any, ...]) -> str:
    """Returns JAX's key path as text: `fc1/kernel`.

    The attribute `value` at its end, where NNX's states and Flax's boxed parameters have their
    array, is left out: the same parameter has the same path with and without its box.
    """
    return jax.tree_util.keystr(unboxed(keys), simple=True, separator="/")


def unboxed(keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns JAX's key path without the attribute `value` at its end; see `path`."""
    return keys[:-1] if keys and keys[-1] == jax.tree_util.GetAttrKey("value") else keys


def flatten(tree: Any) -> dict[str, Any]:
    """Returns path → leaf, in the tree's order.

    Raises:
      ValueError: two leaves have the same path, such as those of {"a/b": …, "a": {"b": …}}.
    """
    flat: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = path(keys)
        if name in flat:
            raise ValueError(f"two leaves of the tree have the path {name!r}")
        flat[name] = leaf
    return flat


def unflatten(leaves: Mapping[str, Any], like: Any) -> Any:
    """Returns a tree with the structure of `like`, and `leaves` at its paths."""
    return map_with_path(lambda path, _: leaves[path], like)


def map_with_path(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Returns the tree of `function(path, leaf, *leaves of the rest)`."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, *leaves: function(path(keys), *leaves), tree, *rest
    )


def count(tree: Shapes) -> int:
    """Returns the number of entries of all leaves.

    Example:
        >>> from groundwork import architectures
        >>> architectures.count({"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)})  # 12 and 4
        16
    """
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def replicates(tree: Any) -> int:
    """Returns R, the length of the leading axis that all leaves share."""
    return len(jax.tree.leaves(tree)[0])


def replicate(tree: Any, index: int) -> Any:
    """Returns one replicate of a tree whose leaves are [R, …]."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stack(trees: Sequence[Any]) -> Any:
    """Returns the trees of R replicates as one, on the host: leaves [R, …]."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)


def example(inputs: Any) -> Shapes:
    """Returns a tree of shapes [1, …] as it is, and the shape of one example of floats as such."""
    if isinstance(inputs, tuple) and all(isinstance(size, int) for size in inputs):
        return jax.ShapeDtypeStruct((1, *inputs), jnp.float32)
    return inputs


def shape_of(inputs: Shapes) -> tuple[int, ...] | None:
    """Returns the shape of one example if the inputs [1, …] are one array of floats, or None."""
    is_array = hasattr(inputs, "dtype") and jnp.issubdtype(inputs.dtype, jnp.floating)
    return tuple(inputs.shape[1:]) if is_array else None


def zeros(example: Shapes) -> Any:
    """Returns arrays of zeros with these shapes and dtypes."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)


def hashable(value: Any) -> Any:
    """Returns the value if it can be hashed, and otherwise nested tuples that stand for it.

    Mappings, sequences and dataclasses become tuples; equal values give equal results.
    """
    with contextlib.suppress(TypeError):
        hash(value)
        return value
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return tuple(sorted((key, hashable(inner)) for key, inner in value.items()))
    return tuple(map(hashable, value))
