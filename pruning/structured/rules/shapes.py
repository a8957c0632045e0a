"""Operations that move, repeat, cut and put together axes and entries."""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from pruning.structured.axes import Axes, Axis, zeros
from pruning.structured.walk import SINGLE, Rule, Step, Walk

POSITIONS = "its places are counted"
KEYS = [f"random_{name}" for name in ("seed", "split", "fold_in", "wrap", "unwrap")]


def _broadcast_in_dim(walk: Walk, step: Step) -> list[Axes]:
    shape, places = (step.equation.params[k] for k in ("shape", "broadcast_dimensions"))
    (operand, *_), (given, *_) = step.equation.invars, step.axes
    zero = isinstance(operand, Literal) and not np.any(operand.val)
    out = [zeros(walk.new(count, (step.place, n)), zero) for n, count in enumerate(shape)]
    for axis, n in zip(given, places, strict=True):
        if len(axis) == shape[n]:
            out[n] = axis
    return [out]


def _broadcast(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    places = step.equation.params["broadcast_dimensions"]
    return [lax.broadcast_in_dim(operands[0], walk.left.size(outputs[0]), places)]


def _transpose(walk: Walk, step: Step) -> list[Axes]:
    return [[step.axes[0][n] for n in step.equation.params["permutation"]]]


def _squeeze(walk: Walk, step: Step) -> list[Axes]:
    gone = step.equation.params["dimensions"]
    for n in gone:
        walk.fix(step.axes[0][n], SINGLE)
    return [[axis for n, axis in enumerate(step.axes[0]) if n not in gone]]


def _expand_dims(walk: Walk, step: Step) -> list[Axes]:
    out = list(step.axes[0])
    for n in sorted(step.equation.params["dimensions"]):
        out.insert(n, walk.new(1, None))
    return [out]


def _rev(walk: Walk, step: Step) -> list[Axes]:
    turned = step.equation.params["dimensions"]
    return [[axis[::-1] if n in turned else axis for n, axis in enumerate(step.axes[0])]]


def _concatenate(walk: Walk, step: Step) -> list[Axes]:
    along = step.equation.params["dimension"]
    columns = enumerate(zip(*step.axes, strict=True))
    return [[np.concatenate(c) if n == along else walk.join(*c) for n, c in columns]]


def _tile(walk: Walk, step: Step) -> list[Axes]:
    repeats = step.equation.params["reps"]
    return [[np.tile(axis, count) for axis, count in zip(step.axes[0], repeats, strict=True)]]


def _stack(walk: Walk, step: Step) -> list[Axes]:
    out = [walk.join(*column) for column in zip(*step.axes, strict=True)]
    along = step.equation.params["axis"] % (len(out) + 1)
    return [[*out[:along], walk.fixed(len(step.axes), POSITIONS), *out[along:]]]


def _unstack(walk: Walk, step: Step) -> list[Axes]:
    (given,) = step.axes
    along = step.equation.params["axis"] % len(given)
    walk.fix(given[along], POSITIONS)
    return [[*given[:along], *given[along + 1 :]] for _ in step.equation.outvars]


def _split(walk: Walk, step: Step) -> list[Axes]:
    along, sizes = step.equation.params["axis"], step.equation.params["sizes"]
    parts = np.split(step.axes[0][along], np.cumsum(sizes)[:-1])
    return [[part if n == along else a for n, a in enumerate(step.axes[0])] for part in parts]


def _split_kept(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    along = step.equation.params["axis"]
    sizes = tuple(walk.left.size([axes[along]])[0] for axes in outputs)
    return list(lax.split(operands[0], sizes, along))


def _ranges(equation: Any) -> list[slice]:
    options = equation.params
    strides = options["strides"] or (1,) * len(options["start_indices"])
    limits = options["start_indices"], options["limit_indices"]
    return [slice(*given) for given in zip(*limits, strides, strict=True)]


def _cut(walk: Walk, step: Step) -> list[Axes]:
    ranges = _ranges(step.equation)
    return [[axis[taken] for axis, taken in zip(step.axes[0], ranges, strict=True)]]


def _cut_kept(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    value = operands[0]
    for n, (axis, taken) in enumerate(zip(step.axes[0], _ranges(step.equation), strict=True)):
        places = walk.left.alike(functools.partial(_places, walk, axis, taken))
        if len(places) != value.shape[n]:
            value = _take(value, places, n)
    return [value]


def _places(walk: Walk, axis: Axis, taken: slice, replicate: int) -> list[int]:
    """Returns which of the entries that are kept a slice takes."""
    kept = walk.left.kept(axis, replicate)
    return (np.cumsum(kept) - 1)[taken][kept[taken]].tolist()


def _take(value: Any, places: Sequence[int], axis: int) -> Any:
    steps = set(np.diff(places).tolist()) or {1}
    if len(steps) == 1 and places and min(steps) > 0:
        return lax.slice_in_dim(value, places[0], places[-1] + 1, min(steps), axis=axis)
    return jnp.take(value, np.array(places, np.int32), axis=axis)


def _pad(walk: Walk, step: Step) -> list[Axes]:
    """Entries that are added are units of their own until they meet others."""
    (_, filling), out = step.equation.invars, []
    zero = isinstance(filling, Literal) and filling.val == 0
    for n, (axis, edges) in enumerate(
        zip(step.axes[0], step.equation.params["padding_config"], strict=True)
    ):
        low, high, between = edges
        if low < 0 or high < 0 or between:
            walk.fix(axis, "pad cuts it, or puts entries between")
            out.append(walk.fixed(step.equation.outvars[0].aval.shape[n], POSITIONS))
            continue
        parts = [
            _edge(walk, count, (step.place, n, side)) for side, count in enumerate((low, high))
        ]
        if not walk.free(axis).any():
            for part in parts:
                walk.fix(part, "it is padding beside what stays")
        out.append(zeros(np.concatenate([parts[0], axis, parts[1]]), False))
        whole = np.concatenate([parts[0]["zero"] | zero, axis["zero"], parts[1]["zero"] | zero])
        out[-1] = zeros(out[-1], whole & (zero or not (low or high)))
    padded = any(low or high for low, high, _ in step.equation.params["padding_config"])
    if padded and not zero:
        out = [zeros(axis, False) for axis in out]
    return [out]


def _edge(walk: Walk, count: int, key: Any) -> np.ndarray:
    """Returns new entries; a single one is a unit too, as beside it there are others."""
    return walk.new(max(count, 2), key)[:count]


def _pad_kept(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    edges = []
    config = step.equation.params["padding_config"]
    for axis, (low, high, between) in zip(outputs[0], config, strict=True):
        if low > 0 or high > 0:
            low, high = walk.left.size([axis[:low], axis[len(axis) - high :]])
        edges.append((low, high, between))
    return [lax.pad(operands[0], operands[1], edges)]


def _iota(walk: Walk, step: Step) -> list[Axes]:
    along = step.equation.params["dimension"]
    shape = enumerate(step.equation.params["shape"])
    new = [walk.new(count, (step.place, n)) for n, count in shape]
    new[along] = walk.fixed(len(new[along]), POSITIONS)
    return [new]


def _made(walk: Walk, step: Step) -> list[Axes]:
    """Random numbers have an entry for each unit that they meet."""
    shape = enumerate(step.equation.outvars[0].aval.shape)
    return [[walk.new(count, (step.place, n)) for n, count in shape]]


def _made_kept(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    equation = step.equation
    options = {**equation.params, "shape": walk.left.size(outputs[0])}
    return [equation.primitive.bind(*operands, **options)]


def _stays(walk: Walk, step: Step) -> list[Axes]:
    return walk.freeze(step, POSITIONS)


RULES = {
    "broadcast_in_dim": Rule(_broadcast_in_dim, _broadcast),
    "transpose": Rule(_transpose),
    "squeeze": Rule(_squeeze),
    "expand_dims": Rule(_expand_dims),
    "rev": Rule(_rev),
    "concatenate": Rule(_concatenate),
    "stack": Rule(_stack),
    "tile": Rule(_tile),
    "unstack": Rule(_unstack),
    "split": Rule(_split, _split_kept),
    "slice": Rule(_cut, _cut_kept),
    "pad": Rule(_pad, _pad_kept),
    "iota": Rule(_iota, _made_kept),
    "random_bits": Rule(_made, _made_kept),
    **dict.fromkeys(KEYS, Rule(_stays)),
}
