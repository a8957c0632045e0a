"""Checks of the trees that users hand to `loop.iterate` and give back to it."""

import hashlib
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.trees import Params
from pruning import masks
from pruning.masks import Mask

LISTED = 4  # paths in an error


def arrays(what: str, tree: Any) -> Any:
    """Returns the tree with JAX's arrays for NumPy's.

    Raises:
      ValueError: a leaf is no array, or two leaves have one path.
    """
    for path, leaf in trees.flatten(tree).items():
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            raise ValueError(
                f"{what}: {path!r} is {type(leaf).__name__}, not an array: hand in the arrays of "
                "the tree alone (jnp.asarray for numbers, eqx.filter(model, eqx.is_array))"
            )
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else jnp.array(leaf), tree)


def dense(params: Params, prunable: Callable[[str], bool] | None) -> Mask:
    """Returns the dense mask.

    Raises:
      ValueError: nothing is prunable, or a prunable leaf has not floats, or some that are not
        finite.
    """
    mask = masks.ones(params, prunable)
    leaves = trees.flatten(params)
    for path in mask:
        if not _inexact(leaves[path]):
            raise ValueError(f"params: {path!r} is {leaves[path].dtype} and cannot be pruned")
        if wrong := int(jnp.sum(~jnp.isfinite(leaves[path]))):
            raise ValueError(f"params: {wrong} entries of {path!r} are not finite")
    return mask


def copied(tree: Any) -> Any:
    """Returns the tree in memory of its own, which its receiver may donate."""
    return jax.tree.map(jnp.copy, tree)


def returned(what: str, tree: Any, like: Params) -> Params:
    """Returns the tree that a user's function gives back, as JAX's arrays.

    Args:
      what: the function, for errors.
      tree: what it returned.
      like: what it was given.

    Raises:
      ValueError: the structure, a shape or a dtype is another one, or entries are not finite.
    """
    if operator.ne(jax.tree.structure(tree), jax.tree.structure(like)):
        differing = sorted(trees.flatten(tree).keys() ^ trees.flatten(like).keys())
        more = ", …" if len(differing) > LISTED else ""
        paths = f"it differs in {', '.join(differing[:LISTED])}{more}"
        kinds = f"{type(tree).__name__} for {type(like).__name__}, or other nodes within"
        raise ValueError(f"{what} returned another tree: {paths if differing else kinds}")
    tree = arrays(f"{what} returned", tree)
    given = trees.flatten(like)
    for path, leaf in trees.flatten(tree).items():
        old = given[path]
        if (leaf.shape, leaf.dtype) != (old.shape, old.dtype):
            raise ValueError(
                f"{what} returned {path!r} as {leaf.dtype}{list(leaf.shape)}, "
                f"it was {old.dtype}{list(old.shape)}"
            )
        # what never was finite, such as a constant of −∞, may stay so
        wrong = _inexact(leaf) and int(jnp.sum(~jnp.isfinite(leaf) & jnp.isfinite(old)))
        if wrong:
            raise ValueError(f"{what} returned {wrong} entries of {path!r} that are not finite")
    return tree


def check_pruned(what: str, trained: Params, mask: Mask) -> None:
    """Refuses pruned weights that are not zero: such a network is not the ticket.

    Raises:
      ValueError: there are some.
    """
    leaves = trees.flatten(trained)
    for path, keep in mask.items():
        alive = int(jnp.sum((leaves[path] != 0) & ~keep))
        if alive:
            raise ValueError(
                f"{what} returned {alive} pruned weights of {path!r} that are not zero: wrap the "
                "optimiser by lottery.masks.enforce(optimizer, mask)"
            )


def digest(tree: Any) -> str:
    """Returns the first half of the SHA-256 of a tree's paths, dtypes, shapes and bytes."""
    sha = hashlib.sha256()
    for path, leaf in trees.flatten(tree).items():
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        sha.update(repr((path, str(leaf.dtype), leaf.shape)).encode())
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()[:32]


def _inexact(leaf: jax.Array) -> bool:
    """Returns whether a leaf has floats or complex numbers; keys have not."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))
