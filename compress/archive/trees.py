"""Variables of any pytree as arrays by path, and back. Linen's nested dicts are one such tree."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from compress import quantize
from compress.archive import forms
from compress.archive.forms import Leaf, Leaves
from groundwork import trees
from groundwork.errors import UserError
from groundwork.traced import network

PARAMS = "params/"


def named(stored: Any) -> dict[str, Any]:
    """Returns path → leaf, of all leaves that are forms of `compress.quantize` or arrays.

    Paths begin with `params/` where the tree has no collections of its own. Other leaves, such as
    the functions of an Equinox module, are left out: `like` has them when the file is read.

    Raises:
      UserError: two leaves have the same path.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        stored, is_leaf=lambda leaf: isinstance(leaf, quantize.Stored)
    )
    by_path: dict[str, Any] = {}
    for keys, leaf in leaves:
        name = _prefix(stored) + (trees.path(keys) or "array")
        if isinstance(leaf, bool | int | float | complex):
            raise UserError(f"{name} is a number of Python, {leaf!r}: make it an array")
        if not isinstance(leaf, quantize.Stored) and not hasattr(leaf, "dtype"):
            continue
        if name in by_path:
            raise UserError(f"two leaves of the variables have the path {name}")
        by_path[name] = leaf
    return by_path


def check_like(like: Any, leaves: Leaves) -> None:
    """Refuses arrays that are not those of a tree.

    Args:
      like: a tree of arrays or shapes.
      leaves: of a file.

    Raises:
      UserError: a path is missing or too many, or has another shape or kind of numbers.
    """
    wanted = {
        name: Leaf(tuple(leaf.shape), jax.numpy.issubdtype(leaf.dtype, np.floating))
        for name, leaf in named(like).items()
    }
    for name in sorted(wanted | leaves):
        if wanted.get(name) != leaves.get(name):
            found, want = (forms.described(part.get(name)) for part in (leaves, wanted))
            raise UserError(
                f"not the arrays of like: {name} is {found} in the file, {want} in like"
            )


def unnamed(arrays: Mapping[str, Any], like: Any) -> Any:
    """Returns a tree as `like`, with a file's arrays in the place of its own."""
    prefix = _prefix(like)

    def restored(path: str, leaf: Any) -> Any:
        return arrays[prefix + (path or "array")] if hasattr(leaf, "dtype") else leaf

    return trees.map_with_path(restored, like)


def _prefix(tree: Any) -> str:
    return "" if network.has_collections(tree) else PARAMS
