"""Reshaping: which axes of the result have the units of which axes of the operand."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from pruning.structured.axes import Axes, Axis, zeros
from pruning.structured.forest import FIXED
from pruning.structured.walk import SINGLE, Rule, Step, Walk

MIXED = "a reshape mixes it with another axis"


def _label(walk: Walk, step: Step) -> list[Axes]:
    """Handles each smallest run of axes that become a run of as many entries by itself."""
    given, wanted = step.equation.invars[0].aval.shape, step.equation.outvars[0].aval.shape
    out: Axes = []
    if step.equation.params.get("dimensions") is not None or 0 in given:
        return walk.freeze(step, MIXED)
    for some, others in _runs(given, wanted):
        before, after = given[some], wanted[others]
        out += _run(walk, before, after, step.axes[0][some], (step.place, some.start))
    return [out]


def _compute(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    return [jnp.reshape(operands[0], walk.left.size(outputs[0]))]


def _runs(given: Sequence[int], wanted: Sequence[int]) -> list[tuple[slice, slice]]:
    """Returns the smallest runs of axes of both shapes that have equal products."""
    runs, i, j = [], 0, 0
    while i < len(given) or j < len(wanted):
        first, second = i, j
        i, j = min(i + 1, len(given)), min(j + 1, len(wanted))
        while (one := math.prod(given[first:i])) != (other := math.prod(wanted[second:j])):
            i, j = (i + 1, j) if one < other else (i, j + 1)
        while i < len(given) and given[i] == 1 and (j >= len(wanted) or wanted[j] != 1):
            i += 1
        while j < len(wanted) and wanted[j] == 1 and (i >= len(given) or given[i] != 1):
            j += 1
        runs.append((slice(first, i), slice(second, j)))
    return runs


def _run(
    walk: Walk, before: Sequence[int], after: Sequence[int], axes: Axes, key: Any
) -> list[Axis]:
    """Returns axes of the sizes `after` for axes of the sizes `before`, of the same product."""
    for count, axis in zip(before, axes, strict=True):
        if count == 1:
            walk.fix(axis, SINGLE)
    large = [n for n, count in enumerate(before) if count > 1]
    into = [n for n, count in enumerate(after) if count > 1]
    if len(large) == len(into) == 1:
        return _only(walk, after, into[0], axes[large[0]])
    live = [n for n in large if walk.free(axes[n]).any()]
    if not live:
        ids = [axes[n]["id"][0] for n in large]
        return walk.fixed_axes(after, walk.forest.reason(int(ids[0])) if ids else MIXED)
    if len(live) > 1:
        chosen = _of_several(walk, before, after, live, key)
        if chosen is None:  # wait for what later equations say
            return [walk.new(count, (key, n)) for n, count in enumerate(after)]
        for n in live:
            if n != chosen:
                walk.fix(axes[n], MIXED)
        live = [chosen]
    tiled = _tiled(axes[live[0]], live[0], before).reshape(after)
    found = _along(walk, tiled, into)
    if found is None:  # one axis becomes several: whole runs of it, or the same places of all
        chosen_axis = _open_axis(walk, after, into, key)
        if chosen_axis is None:
            return [walk.new(count, (key, n)) for n, count in enumerate(after)]
        found = _only(walk, after, chosen_axis, _joined(walk, tiled, chosen_axis))
    if walk.held((key, into[0])):  # what has been used while this waited
        waiting = [walk.new(count, (key, n)) for n, count in enumerate(after)]
        for one, other in zip(waiting, found, strict=True):
            walk.join(one, other)
    return found


def _only(walk: Walk, sizes: Sequence[int], place: int, axis: Axis) -> list[Axis]:
    """Returns axes of which one has units and the others stay."""
    out = walk.fixed_axes(sizes, MIXED)
    out[place] = axis
    return out


def _tiled(axis: Axis, place: int, sizes: Sequence[int]) -> np.ndarray:
    """Returns an axis as an array of these sizes, alike along all other axes."""
    shape = [-1 if n == place else 1 for n in range(len(sizes))]
    return np.broadcast_to(axis.reshape(shape), sizes)


def _rows(array: np.ndarray, place: int) -> np.ndarray:
    """Returns [entries of an axis, all else]."""
    return np.moveaxis(array, place, 0).reshape(array.shape[place], -1)


def _along(walk: Walk, tiled: np.ndarray, into: Sequence[int]) -> list[Axis] | None:
    """Returns the axes if the units vary along one of them alone."""
    classes = walk.classes(tiled.reshape(-1)).reshape(tiled.shape)
    for place in into:
        rows = _rows(classes, place)
        if (rows == rows[:, :1]).all() and (len(into) > 1 or rows.shape[1] == 1):
            return _only(walk, tiled.shape, place, np.ascontiguousarray(_rows(tiled, place)[:, 0]))
    return None


def _of_several(
    walk: Walk, before: Sequence[int], after: Sequence[int], live: Sequence[int], key: Any
) -> int | None:
    """Returns which of several axes that become one keeps its units: what later equations say."""
    into = [n for n, count in enumerate(after) if count > 1]
    if len(into) == 1 and walk.held((key, into[0])):
        merged = walk.classes(walk.new(after[into[0]], (key, into[0]))).reshape(before)
        for n in live:
            rows = _rows(merged, n)
            if (merged != FIXED).any() and (rows == rows[:, :1]).all():
                return n
    if walk.decides():
        return live[0] if walk.split == "outer" else live[-1]
    return None


def _open_axis(walk: Walk, after: Sequence[int], into: Sequence[int], key: Any) -> int | None:
    """Returns which of several axes takes the units of the one that they were."""
    free = [n for n in into if walk.free(walk.new(after[n], (key, n))).any()]
    if len(free) > 1 and not walk.decides():
        return None
    if not free:
        return into[0]
    return free[0] if walk.split == "outer" else free[-1]


def _joined(walk: Walk, tiled: np.ndarray, place: int) -> Axis:
    """Returns an axis whose entries have joined all that becomes part of them."""
    rows = _rows(tiled, place)
    for n in range(1, rows.shape[1]):
        walk.forest.join(rows[:, 0]["id"], rows[:, n]["id"])
    return zeros(np.ascontiguousarray(rows[:, 0]), rows["zero"].all(1))


RULES = {"reshape": Rule(_label, _compute)}
