"""Chooses the weights that go: exact counts, by rank. Pure functions of one replicate."""

# N weights in a group, K of them kept

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.masks import Mask, layer_of

Scores = dict[str, jax.Array]  # path → float array, higher = keep
Rate = float | Mapping[str, float]
Scope = Literal["layerwise", "global"]
SCOPES = ("layerwise", "global")


def prune(mask: Mask, scores: Scores, rate: Rate, scope: Scope = "layerwise") -> Mask:
    """Removes the weights with the lowest scores, exactly `round(rate × kept)` of them.

    Weights are selected by rank, never by a threshold. Among equal scores the lower index (in the
    order of sorted paths, then row by row) is kept. NaN ranks lowest. Pruned weights stay pruned.
    `round` is Python's, to even, of the float64 product. A layer may become empty.

    Args:
      mask: path → bool array.
      scores: arrays with the same paths and shapes; higher = keep.
      rate: the share of the kept weights to remove, in [0, 1]; or a mapping from patterns
        (`fnmatch`, of a layer or of a path) to such numbers: `{"*": 0.2, "output": 0.1}`. If
        several patterns match a layer, the longest counts.
      scope: `layerwise` ranks each layer by itself; `global` ranks all layers that have the same
        rate together.

    Raises:
      ValueError: the scores have other paths or shapes, a rate is outside [0, 1], a layer has no
        rate, a pattern matches no layer, or the scope is unknown.

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
    """Keeps the `counts[g]` best weights of each group g of paths, and all that are in no group.

    Counts may be traced, so one compiled function serves every level. A group that has fewer
    weights left than its count keeps them all.
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
    """Returns name → group, for the paths of a mask or of its shapes.

    With the scope `layerwise`, a group has the name of its layer.

    Raises:
      ValueError: see `prune`.
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


def _remaining(count: Any, rate: float) -> Any:
    """Returns count − round(rate × count), in host integers; for a traced count, by a callback."""

    def on_host(count: Any) -> np.ndarray:
        count = np.asarray(count)  # a JAX array would be multiplied in float32
        # NumPy's rint rounds half to even, as Python's round does
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


def _check_same(mask: Mask, scores: Scores) -> None:
    if mask.keys() != scores.keys():
        differing = sorted(mask.keys() ^ scores.keys())
        raise ValueError(f"mask and scores differ in the paths {differing}")
    for path in mask:
        if not jnp.issubdtype(jnp.result_type(mask[path]), jnp.bool_):
            raise ValueError(f"the mask of {path!r} must be bool, not {mask[path].dtype}")
        if jnp.shape(mask[path]) != jnp.shape(scores[path]):
            raise ValueError(
                f"scores of {path!r} have shape {jnp.shape(scores[path])}, "
                f"the mask {jnp.shape(mask[path])}"
            )
