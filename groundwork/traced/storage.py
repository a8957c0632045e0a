"""Where something is stored in the place of a kernel. Read `put` first.

What replaces a kernel is a mapping: name of a stage → its parameters, such as the factors of a
low-rank layer. In nested dicts, as Linen has them, stages stand beside the layer's bias
(`fc1/left/kernel`); in any other tree they stand where the kernel's array was.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax.core import FrozenDict
from jax.tree_util import DictKey

from groundwork import trees
from groundwork.traced import network
from groundwork.trees import Params

Keys = tuple[Any, ...]


class Place(NamedTuple):
    """Where the stages of a layer are."""

    keys: Keys  # of JAX's key path, of the mapping that has the stages
    parameter: str  # path of the kernel
    beside: bool  # whether that mapping is the layer, with its bias, or stands for the kernel


def put(params: Params, parameter: str, stored: Mapping[str, Any]) -> Params:
    """Returns the parameters with something else in the place of a kernel.

    Args:
      params: any pytree.
      parameter: path of the kernel, a leaf.
      stored: name of a stage → its parameters.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    (keys,) = (keys for keys, _ in leaves if trees.path(keys) == parameter)

    def beside(layer: Any) -> Any:
        if not isinstance(layer, dict | FrozenDict):
            return _at(layer, keys[-1:], lambda _: dict(stored))
        if taken := sorted(set(stored) & set(layer)):
            raise ValueError(f"{parameter!r} cannot be stored as {taken[0]}: its layer has one")
        return {**stored, **{key: leaf for key, leaf in layer.items() if key != "kernel"}}

    if keys and keys[-1] == DictKey("kernel"):
        return _at(params, keys[:-1], beside)
    return _at(params, keys, lambda _: dict(stored))


def find(
    params: Params, path: str, stages: tuple[str, ...], parameter: str | None = None
) -> Place | None:
    """Returns where the stages of a layer are; None if it has none of them.

    Args:
      params: that `put` has changed.
      path: of the layer.
      stages: their names.
      parameter: path of the kernel, if it is known not to be `PATH/kernel`.

    Raises:
      ValueError: it has some of the stages, and lacks others.
    """
    met: dict[Place, set[str]] = {}
    for keys, _ in jax.tree_util.tree_leaves_with_path(params):
        for depth, key in enumerate(keys):
            if isinstance(key, DictKey) and key.key in stages:
                place = _place(keys[:depth], path, parameter)
                if place:
                    met.setdefault(place, set()).add(key.key)
    for place, found in met.items():
        if found == set(stages):
            return place
    if not met:
        return None
    missing = sorted(set(stages).difference(*met.values()))
    raise ValueError(f"layer {path!r} lacks {', '.join(missing)}")


def get(params: Params, place: Place, stages: tuple[str, ...]) -> dict[str, Any]:
    """Returns name of a stage → its parameters."""
    taken: dict[str, Any] = {}

    def take(node: Any) -> Any:
        taken.update({stage: node[stage] for stage in stages})
        return node

    _at(params, place.keys, take)
    return taken


def replace(params: Params, parameter: str, leaf: Any) -> Params:
    """Returns the parameters with another leaf at a path."""
    return trees.map_with_path(lambda path, old: leaf if path == parameter else old, params)


def restore(params: Params, place: Place, stages: tuple[str, ...], kernel: Any) -> Params:
    """Returns the parameters with a kernel in the place of its stages."""

    def full(node: Any) -> Any:
        if not place.beside:
            return kernel
        return {**{key: leaf for key, leaf in node.items() if key not in stages}, "kernel": kernel}

    return _at(params, place.keys, full)


def _place(keys: Keys, path: str, parameter: str | None) -> Place | None:
    """Returns the place of a layer's stages if the mapping at `keys` is it."""
    name = trees.path(keys)
    if name == parameter or (name != path and network.layer_path(name) == path):
        return Place(keys, name, False)
    if name == path:
        return Place(keys, trees.path((*keys, DictKey("kernel"))), True)
    return None


def _at(tree: Any, keys: Keys, make: Callable[[Any], Any]) -> Any:
    """Returns the tree with `make(node)` in place of the node at a key path."""
    nodes, structure = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda at, _: at == keys, is_leaf_takes_path=True
    )
    return jax.tree.unflatten(structure, [make(n) if at == keys else n for at, n in nodes])
