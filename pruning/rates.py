"""Patterns (fnmatch) of layers or of paths: which rate a layer has, and which axes stack it."""

import glob
import math
import operator
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from groundwork.traced import reach
from groundwork.traced.reach import Reached
from groundwork.trees import Shapes
from pruning.masks import layer_of

Rate = float | Mapping[str, float]
Layers = Mapping[str, list[str]]  # layer → its paths


def rates(layers: Layers, rate: Rate) -> dict[str, float]:
    """Returns layer → rate, from one rate or from patterns.

    Raises:
      ValueError: a rate is outside [0, 1], a layer has none, or a pattern matches no layer.
    """
    patterns = {"*": rate} if not isinstance(rate, Mapping) else rate
    for pattern, value in patterns.items():
        if not isinstance(pattern, str):
            raise ValueError(f"the rate's pattern {pattern!r} must be a text, such as 'fc1'")
        try:
            inside = 0 <= value <= 1
        except TypeError:
            raise ValueError(f"the rate {value!r} of {pattern!r} must be a number") from None
        if not inside:
            raise ValueError(f"rate {value} of {pattern!r} is outside [0, 1]")
    matching = _matching(layers, patterns, "rate pattern", "; one number is the rate of all")
    for layer in layers:
        if layer not in matching:
            raise ValueError(f"no rate for layer {layer!r}: add '*' or a pattern that matches it")
    return {layer: float(patterns[pattern]) for layer, pattern in matching.items()}


def slices(shapes: Mapping[str, Any], layers: Layers, stacked: Mapping[str, int]) -> dict[str, int]:
    """Returns layer → how many slices its leading axes stack; 1 where nothing is said of it.

    Raises:
      ValueError: a layer lacks these axes, its leaves differ in them, a number of axes is none, or
        a pattern matches no layer.
    """
    if not isinstance(stacked, Mapping):
        raise ValueError(f"stacked must be pattern → number of axes, not {stacked!r}")
    matching = _matching(layers, stacked, "stacked's pattern")
    counts = dict.fromkeys(layers, 1)
    for layer, pattern in matching.items():
        axes = _axes(pattern, stacked[pattern])
        stacks = {path: tuple(shapes[path].shape[:axes]) for path in layers[layer]}
        found = ", ".join(f"{path} {shapes[path].shape}" for path in stacks)
        if len(set(stacks.values())) > 1 or any(len(stack) < axes for stack in stacks.values()):
            raise ValueError(f"stacked: the leaves of {layer!r} do not share {axes} axes: {found}")
        counts[layer] = max(1, math.prod(stacks[layers[layer][0]]))  # none has entries, if it is 0
    return counts


def stacked(reached: Mapping[str, Reached]) -> dict[str, int]:
    """Returns `select.prune`'s `stacked` for a network whose layers `reach.layers` has found.

    Args:
      reached: layer → what the network calls, whose paths are those of its parameters.

    Example:
        >>> from groundwork.traced import reach
        >>> from lottery import masks
        >>> def network(params, x):  # three layers in one array
        ...     return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, params["hidden"])[0]
        >>> params = {"hidden": jnp.zeros((3, 4, 4))}
        >>> masks.stacked(reach.layers(network, params, jnp.zeros((1, 4)))[0])
        {'hidden': 1}
    """
    return {glob.escape(layer): len(one.stack) for layer, one in reached.items() if one.stack}


def stacks(model: Any, variables: Shapes, example: Any, paths: Iterable[str]) -> dict[str, int]:
    """Returns `stacked` for those layers of a network that have prunable leaves.

    Args:
      model: see `reach.layers`.
      variables: of the network, arrays or shapes.
      example: what it is called with.
      paths: of its prunable leaves.
    """
    reached, _ = reach.layers(model, variables, example)
    prunable = {layer_of(path) for path in paths}
    return stacked({layer: one for layer, one in reached.items() if layer in prunable})


def _axes(pattern: str, axes: Any) -> int:
    try:
        axes = operator.index(axes)
    except TypeError:
        raise ValueError(f"stacked: {pattern!r} has {axes!r}, not a number of axes") from None
    if axes < 0:
        raise ValueError(f"stacked: {pattern!r} has {axes} axes")
    return axes


def _matching(layers: Layers, patterns: Iterable[str], what: str, hint: str = "") -> dict[str, str]:
    """Returns layer → the longest of the patterns that match it or one of its paths."""
    longest, used = {}, set()
    for layer, paths in layers.items():
        matching = [p for p in patterns if any(fnmatchcase(n, p) for n in (layer, *paths))]
        used.update(matching)
        if matching:
            longest[layer] = max(matching, key=lambda p: (len(p), p))
    for pattern in patterns:
        if pattern not in used and pattern != "*":
            names = ", ".join(layers)
            raise ValueError(f"{what} {pattern!r} matches none of {names}{hint}")
    return longest
