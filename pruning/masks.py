"""Masks: which weights are kept. Pure functions of one replicate; map them with `jax.vmap`.

A mask is a flat dict, path → bool array, of the prunable leaves alone; True = kept:
`{"fc1/kernel": …}`. A *layer* is a path without its last part. `select.py` chooses the weights
that go, and `enforce.py` holds them at zero.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from groundwork import trees
from groundwork.trees import Params

Mask = dict[str, jax.Array]  # path → bool array


class EnforceState(NamedTuple):
    """The state of an optimiser that `enforce.enforce` wraps. It holds the mask of a level."""

    mask: Mask
    inner: Any


def is_kernel(path: str) -> bool:
    """Returns whether a leaf is named `kernel`; by default, these leaves are prunable.

    Example:
        >>> from pruning import masks
        >>> [masks.is_kernel(path) for path in ("fc1/kernel", "fc1/bias")]
        [True, False]
    """
    return path.rsplit("/", 1)[-1] == "kernel"


def flatten(params: Params, prunable: Callable[[str], bool] | None = None) -> dict[str, Any]:
    """Returns a tree's prunable leaves as a flat dict, path → leaf, sorted by path.

    Example:
        >>> from pruning import masks
        >>> params = {"fc2": {"kernel": 5, "bias": 6}, "fc1": {"kernel": 7}}
        >>> masks.flatten(params)
        {'fc1/kernel': 7, 'fc2/kernel': 5}
        >>> masks.flatten(params, lambda path: path.startswith("fc2"))
        {'fc2/bias': 6, 'fc2/kernel': 5}
    """
    prunable = prunable or is_kernel
    leaves = trees.flatten(params)
    return {path: leaves[path] for path in sorted(leaves) if prunable(path)}


def ones(params: Params, prunable: Callable[[str], bool] | None = None) -> Mask:
    """Returns the dense mask of a tree of parameters, which keeps everything prunable.

    Args:
      params: any pytree, such as Flax's `variables["params"]`.
      prunable: path → bool; by default True for leaves named `kernel`.

    Raises:
      ValueError: nothing is prunable.

    Example:
        >>> from pruning import masks
        >>> masks.ones({"fc": {"kernel": jnp.array([0.5, 0.0]), "bias": jnp.zeros(1)}})
        {'fc/kernel': Array([ True,  True], dtype=bool)}
    """
    mask = {path: jnp.ones(leaf.shape, bool) for path, leaf in flatten(params, prunable).items()}
    if not mask:
        raise ValueError(f"no leaf is prunable; the leaves are {list(trees.flatten(params))}")
    return mask


def apply(mask: Mask, params: Params) -> Params:
    """Returns the tree with pruned entries (also NaNs) exactly zero, and all others unchanged.

    Example:
        >>> from pruning import masks
        >>> params = {"fc": {"kernel": jnp.array([3.0, jnp.nan, 2.0]), "bias": jnp.array([5.0])}}
        >>> pruned = masks.apply({"fc/kernel": jnp.array([True, False, True])}, params)
        >>> pruned["fc"]["kernel"].tolist(), pruned["fc"]["bias"].tolist()
        ([3.0, 0.0, 2.0], [5.0])
    """
    return map_masked(lambda keep, leaf: jnp.where(keep, leaf, jnp.zeros_like(leaf)), mask, params)


def replace(state: Any, mask: Mask) -> Any:
    """Returns an optimiser's state with another mask in every `EnforceState` within it.

    What the state copies from the parameters, such as momentum, averages (EMA, Polyak) or the
    second sequence of schedule-free, is zero wherever the mask prunes, so that parameters which an
    optimiser makes of it are zero there, too. Apply the mask to the parameters themselves as well.
    It works under jit and vmap, and compiles nothing that is compiled already.

    Args:
      state: of `enforce(…)`, or of wrappers around it such as `optax.chain` and `MultiSteps`.
      mask: has the paths and shapes of the mask that it replaces.

    Raises:
      ValueError: the state has no mask, or one of other paths or shapes.

    Example:
        >>> import optax
        >>> from pruning import enforce, masks
        >>> params = {"kernel": jnp.array([3.0, 1.0])}
        >>> state = enforce.enforce(optax.sgd(0.1), masks.ones(params)).init(params)
        >>> state = masks.replace(state, {"kernel": jnp.array([True, False])})
        >>> masks.mask_of(state)["kernel"].tolist()
        [True, False]
    """
    held: Mask = {}

    def replaced(node: Any) -> Any:
        if not isinstance(node, EnforceState):
            return node
        held.update(node.mask)
        check_within(node.mask, mask)
        part = {path: mask[path] for path in node.mask}  # all, or a part under multi_transform
        return EnforceState(part, _zeroed(node.inner, part))

    changed = jax.tree.map(replaced, state, is_leaf=lambda node: isinstance(node, EnforceState))
    if not held:
        raise ValueError("the optimiser's state has no mask: wrap the optimiser by enforce")
    check_within(mask, held)
    return _zeroed(changed, mask)


def mask_of(state: Any) -> Mask:
    """Returns the mask in an optimiser's state, whatever wraps it.

    Args:
      state: see `replace`; under `multi_transform`, the parts of the mask are joined.

    Raises:
      ValueError: the state has no mask.

    Example:
        >>> import optax
        >>> from pruning import enforce, masks
        >>> mask = {"kernel": jnp.array([True, False])}
        >>> optimizer = optax.MultiSteps(enforce.enforce(optax.sgd(0.1), mask), 4)
        >>> masks.mask_of(optimizer.init({"kernel": jnp.array([3.0, 0.0])}))["kernel"].tolist()
        [True, False]
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, EnforceState))
    held = [node.mask for node in nodes if isinstance(node, EnforceState)]
    if not held:
        raise ValueError("the optimiser's state has no mask: wrap the optimiser by enforce")
    return {path: leaf for mask in held for path, leaf in mask.items()}


def density(mask: Mask) -> jax.Array:
    """Returns kept / prunable, [] float32 in [0, 1].

    Example:
        >>> from pruning import masks
        >>> mask = {"fc/kernel": jnp.array([True, False, False]), "out/kernel": jnp.array([False])}
        >>> float(masks.density(mask))
        0.25
    """
    remaining = sum(jnp.sum(leaf, dtype=jnp.int32) for leaf in mask.values())
    return jnp.asarray(remaining / total(mask))


def layer_of(path: str) -> str:
    """Returns `fc1` of `fc1/kernel`; a leaf at the root is a layer by itself.

    Example:
        >>> from pruning import masks
        >>> [masks.layer_of(path) for path in ("block/fc1/kernel", "kernel")]
        ['block/fc1', 'kernel']
    """
    return path.rpartition("/")[0] or path


def kept(mask: Mask) -> dict[str, jax.Array]:
    """Returns the number of kept weights of each layer, layer → [] int32.

    Example:
        >>> from pruning import masks
        >>> mask = {"fc/kernel": jnp.array([True, False, True]), "out/kernel": jnp.array([False])}
        >>> {layer: int(count) for layer, count in masks.kept(mask).items()}
        {'fc': 2, 'out': 0}
    """
    counts: dict[str, Any] = {}
    for path in sorted(mask):
        layer = layer_of(path)
        counts[layer] = counts.get(layer, 0) + jnp.sum(mask[path], dtype=jnp.int32)
    return counts


def total(shapes: Mapping[str, Any]) -> int:
    """Returns the number of prunable weights.

    Example:
        >>> from pruning import masks
        >>> masks.total({"fc/kernel": jnp.ones((4, 3)), "out/kernel": jnp.ones((3, 2))})
        18
    """
    return sum(math.prod(leaf.shape) for leaf in shapes.values())


def map_masked(
    function: Callable[..., jax.Array], mask: Mask, tree: Params, *rest: Params
) -> Params:
    """Returns the tree with `function(mask, leaf, *leaves of the rest)` in place of masked leaves.

    Raises:
      ValueError: the mask has a path that the tree lacks, or another shape.

    Example:
        >>> from pruning import masks
        >>> mask = {"kernel": jnp.array([True, False])}
        >>> params = {"kernel": jnp.array([3.0, 1.0]), "bias": jnp.array([5.0])}
        >>> masks.map_masked(lambda keep, leaf: jnp.where(keep, 2 * leaf, -leaf), mask, params)
        {'bias': Array([5.], dtype=float32), 'kernel': Array([ 6., -1.], dtype=float32)}
    """

    def mapped(path: str, leaf: Any, *more: Any) -> Any:
        return function(mask[path], leaf, *more) if path in mask else leaf

    check_within(mask, tree)
    return trees.map_with_path(mapped, tree, *rest)


def check_within(mask: Mask, params: Params) -> None:
    """Checks that the parameters have the paths and shapes of a mask.

    Raises:
      ValueError: they do not; the error names a path.

    Example:
        >>> from pruning import masks
        >>> masks.check_within({"fc/kernel": jnp.ones(2, bool)}, {"fc": {"kernel": jnp.zeros(3)}})
        Traceback (most recent call last):
        ValueError: the mask's 'fc/kernel' has shape (2,), the parameter (3,)
    """
    leaves = trees.flatten(params)
    for path, keep in mask.items():
        if path not in leaves:
            raise ValueError(f"the mask's {path!r} is not among the parameters {sorted(leaves)}")
        if not jnp.issubdtype(jnp.result_type(keep), jnp.bool_):
            raise ValueError(f"the mask of {path!r} must be bool, not {keep.dtype}")
        if keep.shape != leaves[path].shape:
            raise ValueError(
                f"the mask's {path!r} has shape {keep.shape}, the parameter {leaves[path].shape}"
            )


def _zeroed(state: Any, mask: Mask) -> Any:
    """Returns a tree in which all copies of the parameters are zero wherever the mask prunes."""
    copies = _copies({path: jnp.shape(leaf) for path, leaf in trees.flatten(state).items()}, mask)

    def zeroed(path: str, leaf: Any) -> Any:
        if path not in copies:
            return leaf
        return jnp.where(mask[copies[path]], leaf, jnp.zeros_like(leaf))

    return trees.map_with_path(zeroed, state)


def _copies(shapes: Mapping[str, Any], mask: Mask) -> dict[str, str]:
    """Returns path in a tree → path in the mask, of every copy of a masked parameter in the tree.

    A copy has the path of the parameter, and its shape, under a path of its own. Where one such
    path lies within another, the longer one is that of another parameter.
    """
    copies: dict[str, str] = {}
    for path, keep in mask.items():
        above: list[str] = []
        for place in sorted((p for p in shapes if f"/{p}".endswith(f"/{path}")), key=len):
            prefix = place[: len(place) - len(path)]
            if shapes[place] == keep.shape and not any(prefix.startswith(a) for a in above):
                above.append(prefix)
                copies[place] = path
    return copies
