"""Masks: which weights are kept. Pure functions of one replicate; map them with `jax.vmap`.

A mask is a flat dict, path → bool array, of the prunable leaves alone, True = kept:
`{"fc1/kernel": …}`. A *layer* is a path without its last part. Read `enforce` first: it is the
one place where pruned weights are held at zero.
"""

# N weights in a group, K of them kept

import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Mask = dict[str, jax.Array]  # path → bool array
Scores = dict[str, jax.Array]  # path → float array, higher = keep
Rate = float | Mapping[str, float]
Scope = Literal["layerwise", "global"]
SCOPES = ("layerwise", "global")


def is_kernel(path: str) -> bool:
    """The default predicate: prunable leaves are those named `kernel`."""
    return path.rsplit("/", 1)[-1] == "kernel"


def flatten(params: Any, prunable: Callable[[str], bool] | None = None) -> dict[str, Any]:
    """The prunable leaves of a tree as a flat dict, path joined by `/` → leaf, sorted by path."""
    prunable = prunable or is_kernel
    leaves = ((_path(keys), leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(params))
    return dict(sorted((path, leaf) for path, leaf in leaves if prunable(path)))


def ones(params: Any, prunable: Callable[[str], bool] | None = None) -> Mask:
    """The dense mask of a tree of parameters: everything prunable is kept.

    Args:
      params: any pytree, such as Flax's `variables["params"]`.
      prunable: path → bool; by default True for leaves named `kernel`.

    Raises:
      ValueError: nothing is prunable.
    """
    mask = {path: jnp.ones(leaf.shape, bool) for path, leaf in flatten(params, prunable).items()}
    if not mask:
        paths = [_path(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise ValueError(f"no leaf is prunable; the leaves are {paths}")
    return mask


def apply(mask: Mask, params: Any) -> Any:
    """The same tree with pruned entries exactly zero (a NaN there too) and all else untouched."""
    return _map_masked(lambda keep, leaf: jnp.where(keep, leaf, jnp.zeros_like(leaf)), mask, params)


def density(mask: Mask) -> jax.Array:
    """Kept / prunable, [] float32 in [0, 1]."""
    remaining = sum(jnp.sum(leaf, dtype=jnp.int32) for leaf in mask.values())
    return jnp.asarray(remaining / total(mask))


def layer_of(path: str) -> str:
    """`fc1/kernel` → `fc1`; a bare leaf is its own layer."""
    return path.rpartition("/")[0] or path


def kept(mask: Mask) -> dict[str, jax.Array]:
    """Kept weights by layer, layer → [] int32."""
    counts: dict[str, Any] = {}
    for path in sorted(mask):
        layer = layer_of(path)
        counts[layer] = counts.get(layer, 0) + jnp.sum(mask[path], dtype=jnp.int32)
    return counts


def prune(mask: Mask, scores: Scores, rate: Rate, scope: Scope = "layerwise") -> Mask:
    """Remove the lowest-scoring `rate` of what remains: exactly `round(rate × kept)` weights.

    Weights are selected by rank, never by a threshold: among equal scores the lower index (in
    the order of sorted paths, then row by row) is kept; NaN ranks lowest; what is pruned stays
    pruned. `round` is Python's, to even, of the float64 product. A layer may become empty.

    Args:
      mask: path → bool array.
      scores: the same paths and shapes, higher = keep.
      rate: share of the kept weights to remove, in [0, 1]; or a mapping from a pattern
        (`fnmatch`, of a layer or of a path) to such a number, where the longest pattern that
        matches a layer counts: `{"*": 0.2, "output": 0.1}`.
      scope: `layerwise` ranks each layer by itself; `global` ranks together all layers that
        share a rate.

    Raises:
      ValueError: other paths or shapes, a rate outside [0, 1], a layer without a rate, a
        pattern without a layer, an unknown scope.

    Source: Frankle & Carbin, arXiv:1803.03635, Section 1.
    """
    _check_same(mask, scores)
    counts, paths = {}, {}
    for name, group in groups(mask, rate, scope).items():
        remaining = sum(jnp.sum(mask[path], dtype=jnp.int32) for path in group.paths)
        counts[name], paths[name] = _remaining(remaining, group.rate), group.paths
    return prune_to(mask, scores, counts, paths)


def prune_to(
    mask: Mask, scores: Scores, counts: Mapping[str, Any], paths: Mapping[str, tuple[str, ...]]
) -> Mask:
    """Keep the `counts[g]` best of each group g of paths, and all of what is in no group.

    Counts may be traced, so one compiled function serves every level. A group with fewer kept
    weights than its count keeps those.
    """
    new = dict(mask)
    for name, group in paths.items():
        keep = jnp.concatenate([mask[path].ravel() for path in group])
        score = jnp.concatenate([jnp.asarray(scores[path]).ravel() for path in group])
        score = jnp.where(jnp.isnan(score), -jnp.inf, score)
        order = jnp.lexsort((-score, ~keep))  # stable: kept first, then best first  [N]
        chosen = jnp.zeros_like(keep).at[order].set(jnp.arange(keep.size) < counts[name]) & keep
        sizes = np.cumsum([mask[path].size for path in group])[:-1]
        for path, part in zip(group, jnp.split(chosen, sizes), strict=True):
            new[path] = part.reshape(mask[path].shape)
    return new


class Group(NamedTuple):
    """Leaves that are ranked together."""

    paths: tuple[str, ...]
    rate: float


def groups(shapes: Mapping[str, Any], rate: Rate, scope: Scope = "layerwise") -> dict[str, Group]:
    """Name → group, for the paths of a mask (or of its shapes). Layerwise names are the layers'.

    Raises:
      ValueError: as `prune`.
    """
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r} (known: {', '.join(SCOPES)})")
    layers: dict[str, list[str]] = {}
    for path in sorted(shapes):
        layers.setdefault(layer_of(path), []).append(path)
    rates = _rates(layers, rate)
    if scope == "layerwise":
        return {layer: Group(tuple(paths), rates[layer]) for layer, paths in layers.items()}
    together: dict[float, list[str]] = {}
    for layer, paths in layers.items():
        together.setdefault(rates[layer], []).extend(paths)
    name = "all layers" if len(together) == 1 else "layers at rate {}"
    return {name.format(r): Group(tuple(sorted(paths)), r) for r, paths in together.items()}


class EnforceState(NamedTuple):
    """State of an optimiser wrapped by `enforce`: put another mask in for another level."""

    mask: Mask
    inner: Any


def enforce(optimizer: optax.GradientTransformation, mask: Mask | None):
    """Wrap any optax optimiser so that pruned weights are exactly zero after every update.

    Gradients are masked going in, and a pruned entry's update is minus its value, so momentum,
    Adam's moments and weight decay cannot revive it. The mask lives in the *state*: another
    level is `state._replace(mask=…)` or a new `init`, and compiles nothing. Wrap last, so that
    nothing changes the updates afterwards. Parameters must be finite (`apply` mends pruned ones
    that are not). Works under jit, vmap and shard_map.

    Args:
      optimizer: an optax gradient transformation.
      mask: what `init` puts into the state; None if the mask is to be put there by the caller.

    Returns:
      An optax gradient transformation with `EnforceState`.

    Raises:
      ValueError: the mask has a path that the parameters lack, or `update` gets no `params`.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params):
        held = {} if mask is None else mask
        _check_within(held, params)
        return EnforceState(held, optimizer.init(params))

    def update(updates, state, params=None, **extra_args):
        if params is None:
            raise ValueError("enforce needs the parameters: update(gradients, state, params)")
        updates = apply(state.mask, updates)
        updates, inner = optimizer.update(updates, state.inner, params, **extra_args)
        # −p in the parameter's own precision, whatever the update's: their sum is zero exactly
        updates = _map_masked(
            lambda keep, u, p: jnp.where(keep, u, -p), state.mask, updates, params
        )
        return updates, EnforceState(state.mask, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _remaining(count: Any, rate: float) -> Any:
    """count − round(rate × count) on host integers, behind a callback where `count` is traced."""

    def on_host(count):
        count = np.asarray(count)  # a callback is handed a jax array: float32 arithmetic
        # numpy's rint rounds half to even, as Python's round does
        return (count - np.rint(np.float64(rate) * count)).astype(np.int32)

    if not isinstance(count, jax.core.Tracer):
        return on_host(np.asarray(count))
    shape = jax.ShapeDtypeStruct(count.shape, np.int32)
    return jax.pure_callback(on_host, shape, count, vmap_method="expand_dims")


def _rates(layers: Mapping[str, list[str]], rate: Rate) -> dict[str, float]:
    patterns = {"*": rate} if not isinstance(rate, Mapping) else rate
    for pattern, value in patterns.items():
        if not 0 <= value <= 1:
            raise ValueError(f"rate {value} of {pattern!r} is outside [0, 1]")
    rates, used = {}, set()
    for layer, paths in layers.items():
        matching = [p for p in patterns if any(fnmatchcase(n, p) for n in (layer, *paths))]
        if not matching:
            raise ValueError(f"no rate for layer {layer!r}: add '*' or a pattern that matches it")
        used.update(matching)
        rates[layer] = float(patterns[max(matching, key=lambda p: (len(p), p))])
    for pattern in patterns:
        if pattern not in used and pattern != "*":
            raise ValueError(f"rate pattern {pattern!r} matches none of {', '.join(layers)}")
    return rates


def _path(keys: tuple) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _map_masked(function: Callable, mask: Mask, tree: Any, *rest: Any) -> Any:
    """function(mask, leaf, *rest's leaves) on the masked leaves of a tree, others as they are."""

    def one(keys, leaf, *others):
        path = _path(keys)
        return function(mask[path], leaf, *others) if path in mask else leaf

    _check_within(mask, tree)
    return jax.tree_util.tree_map_with_path(one, tree, *rest)


def _check_within(mask: Mask, params: Any) -> None:
    leaves = {_path(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for path, keep in mask.items():
        if path not in leaves:
            raise ValueError(f"the mask's {path!r} is not among the parameters {sorted(leaves)}")
        if keep.shape != leaves[path].shape:
            raise ValueError(
                f"the mask's {path!r} has shape {keep.shape}, the parameter {leaves[path].shape}"
            )


def _check_same(mask: Mask, scores: Scores) -> None:
    if mask.keys() != scores.keys():
        differing = sorted(mask.keys() ^ scores.keys())
        raise ValueError(f"mask and scores differ in the paths {differing}")
    for path in mask:
        if jnp.shape(mask[path]) != jnp.shape(scores[path]):
            raise ValueError(
                f"scores of {path!r} have shape {jnp.shape(scores[path])}, "
                f"the mask {jnp.shape(mask[path])}"
            )


def total(shapes: Mapping[str, Any]) -> int:
    """Number of prunable weights."""
    return sum(math.prod(leaf.shape) for leaf in shapes.values())
