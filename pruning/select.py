"""Chooses the weights that go: exact counts, by rank. Pure functions of one replicate."""

# N weights in a group, K of them kept; S slices of a stack

import functools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning import ranking
from pruning import rates as rates_lib
from pruning.masks import Mask, layer_of
from pruning.rates import Rate

Scores = dict[str, jax.Array]  # path → float array, higher = keep
Scope = Literal["layerwise", "global"]
SCOPES = ("layerwise", "global")


def prune(
    mask: Mask,
    scores: Scores,
    rate: Rate,
    scope: Scope = "layerwise",
    stacked: Mapping[str, int] | None = None,
) -> Mask:
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
      stacked: patterns of layers, as for `rate` → the number of their leading axes that stack
        several layers in one array, as `nn.scan` does; `layerwise` then ranks each slice by itself:
        `{"blocks/*": 1}`. `global` ranks them together all the same.

    Raises:
      ValueError: the scores have other paths or shapes, a rate is outside [0, 1], a layer has no
        rate, a pattern matches no layer, the scope is unknown, or a layer lacks the axes that are
        said to stack it.

    Source: Frankle & Carbin, arXiv:1803.03635, Section 1.

    Example:
        >>> from pruning import criteria, masks, select
        >>> params = {"fc": {"kernel": jnp.array([4.0, -1.0, 3.0, 0.5])}}
        >>> mask = masks.ones(params)
        >>> mask = select.prune(mask, criteria.magnitude(params, mask), 0.25)
        >>> mask["fc/kernel"].astype(int).tolist()
        [1, 1, 1, 0]
        >>> mask = select.prune(mask, criteria.magnitude(params, mask), 0.25)  # of 3 weights, 1
        >>> mask["fc/kernel"].astype(int).tolist()
        [1, 0, 1, 0]
    """
    check_same(mask, scores)
    counts, paths, slices = {}, {}, {}
    for name, group in groups(mask, rate, scope, stacked).items():
        left = _kept([mask[path] for path in group.paths], group.slices)
        counts[name] = _remaining(left, group.rate)
        paths[name], slices[name] = group.paths, group.slices
    return prune_to(mask, scores, counts, paths, slices)


def prune_to(
    mask: Mask,
    scores: Scores,
    counts: Mapping[str, Any],
    paths: Mapping[str, tuple[str, ...]],
    slices: Mapping[str, int] | None = None,
) -> Mask:
    """Keeps the `counts[g]` best weights of each group g of paths, and all that are in no group.

    Counts may be traced, so one compiled function serves every level. A group that has fewer
    weights left than its count keeps them all.

    Args:
      mask: path → bool array.
      scores: arrays with the same paths and shapes; higher = keep.
      counts: group → the weights that it keeps; of each slice, one number for all or an array [S].
      paths: group → the paths that are ranked together.
      slices: group → S, how many slices its leading axes stack (see `Group`); 1 by default.

    Example:
        >>> from pruning import select
        >>> mask = {"fc1/kernel": jnp.ones(2, bool), "fc2/kernel": jnp.ones(3, bool)}
        >>> scores = {"fc1/kernel": jnp.array([5.0, 1.0]), "fc2/kernel": jnp.array([2.0, 9.0, 4.0])}
        >>> new = select.prune_to(mask, scores, {"both": 3}, {"both": ("fc1/kernel", "fc2/kernel")})
        >>> {path: keep.astype(int).tolist() for path, keep in new.items()}
        {'fc1/kernel': [1, 0], 'fc2/kernel': [0, 1, 1]}
    """
    new = dict(mask)
    for name, group in paths.items():
        leaves = [mask[path] for path in group], [jnp.asarray(scores[path]) for path in group]
        chosen = _chosen(*leaves, jnp.asarray(counts[name]), (slices or {}).get(name, 1))
        new |= zip(group, chosen, strict=True)
    return new


@functools.partial(jax.jit, static_argnames="rows")
def _kept(leaves: list[jax.Array], rows: int) -> jax.Array:
    """Returns how many weights a group keeps in each of its slices, [S] int32."""
    counts = [jnp.sum(leaf.reshape(rows, -1), axis=1, dtype=jnp.int32) for leaf in leaves]
    return functools.reduce(jnp.add, counts)


@functools.partial(jax.jit, static_argnames="rows")
def _chosen(
    keeps: list[jax.Array], scores: list[jax.Array], count: jax.Array, rows: int
) -> list[jax.Array]:
    """Returns the masks of leaves that are ranked together, of which each stacks so many rows."""
    keep, score = (
        jnp.concatenate([leaf.reshape(rows, -1) for leaf in leaves], axis=1)
        for leaves in (keeps, scores)
    )
    count = jnp.broadcast_to(count, (rows,))
    if rows == 1:
        chosen = ranking.best(keep[0], score[0], count[0])[None]
    else:
        chosen = jax.vmap(ranking.best)(keep, score, count)
    sizes = np.cumsum([leaf.size // rows for leaf in keeps])[:-1]
    parts = jnp.split(chosen, sizes, axis=1)
    return [part.reshape(leaf.shape) for part, leaf in zip(parts, keeps, strict=True)]


class Group(NamedTuple):
    """Leaves that are ranked together; each of several slices by itself."""

    paths: tuple[str, ...]
    rate: float
    slices: int = 1  # the product of the leading axes that stack layers


def groups(
    shapes: Mapping[str, Any],
    rate: Rate,
    scope: Scope = "layerwise",
    stacked: Mapping[str, int] | None = None,
) -> dict[str, Group]:
    """Returns name → group, for the paths of a mask or of its shapes.

    With the scope `layerwise`, a group has the name of its layer.

    Raises:
      ValueError: see `prune`.

    Example:
        >>> from pruning import select
        >>> shapes = {"fc1/kernel": jnp.ones((4, 3)), "output/kernel": jnp.ones((3, 2))}
        >>> for name, group in select.groups(shapes, {"*": 0.2, "output": 0.1}).items():
        ...     print(name, group.paths, group.rate)
        fc1 ('fc1/kernel',) 0.2
        output ('output/kernel',) 0.1
    """
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r} (known: {', '.join(SCOPES)})")
    layers: dict[str, list[str]] = {}
    for path in sorted(shapes):
        layers.setdefault(layer_of(path), []).append(path)
    rates = rates_lib.rates(layers, rate)
    slices = rates_lib.slices(shapes, layers, stacked or {})
    if scope == "layerwise":
        return {
            layer: Group(tuple(paths), rates[layer], slices[layer])
            for layer, paths in layers.items()
        }
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


def check_same(mask: Mask, scores: Scores) -> None:
    """Checks that scores have the paths and shapes of a mask.

    Raises:
      ValueError: they do not, or the mask is not bool; the error names a path.

    Example:
        >>> from pruning import select
        >>> select.check_same({"fc1/kernel": jnp.ones(2, bool)}, {"fc2/kernel": jnp.ones(2)})
        Traceback (most recent call last):
        ValueError: mask and scores differ in the paths ['fc1/kernel', 'fc2/kernel']
    """
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
