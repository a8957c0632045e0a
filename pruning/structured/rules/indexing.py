"""Taking and putting entries at places that are computed."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from pruning.structured.axes import Axes, Axis, zeros
from pruning.structured.rules.shapes import POSITIONS
from pruning.structured.walk import Rule, Step, Walk

TAKEN = "entries of it are taken by their places"


def _gather(walk: Walk, step: Step) -> list[Axes]:
    """Axes that are taken whole pass; along the others, and of the places, all stays."""
    options, (operand, places) = step.equation.params, step.axes
    numbers, sizes = options["dimension_numbers"], options["slice_sizes"]
    for axis in places:
        walk.fix(axis, POSITIONS)
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    for n, axis in enumerate(operand):
        if n in gone or sizes[n] != len(axis):
            walk.fix(axis, TAKEN)
    out = walk.fixed_axes(step.equation.outvars[0].aval.shape, TAKEN)
    taken = [n for n in range(len(operand)) if n not in gone]
    fills = _fills(step)
    for into, n in zip(numbers.offset_dims, taken, strict=True):
        if sizes[n] == len(operand[n]):
            out[into] = zeros(operand[n], operand[n]["zero"] & (not fills))
    return [out]


def _fills(step: Step) -> bool:
    """Returns whether places beyond the array give something that zeros in it do not.

    NaN, which floats get by default, is not such: it fills all units of a place, so that what is
    made of them is NaN with a unit and without.
    """
    options = step.equation.params
    if options["mode"] != lax.GatherScatterMode.FILL_OR_DROP:
        return False
    value, dtype = options["fill_value"], step.equation.invars[0].aval.dtype
    if value is None:  # NaN, or the least or largest integer
        return not jnp.issubdtype(dtype, jnp.inexact)
    return not (value == 0 or np.isnan(value))


def _gathered(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    equation, (operand, _) = step.equation, step.axes
    sizes = equation.params["slice_sizes"]
    kept = tuple(
        walk.left.size([axis])[0] if size == len(axis) else size
        for size, axis in zip(sizes, operand, strict=True)
    )
    return [equation.primitive.bind(*operands, **{**equation.params, "slice_sizes": kept})]


def _scatter(walk: Walk, step: Step) -> list[Axes]:
    """Axes that are put whole pass, joined with those of what is put."""
    operand, places, updates = step.axes
    numbers = step.equation.params["dimension_numbers"]
    for axis in places:
        walk.fix(axis, POSITIONS)
    gone = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows = dict(
        zip(
            (n for n in range(len(operand)) if n not in gone),
            numbers.update_window_dims,
            strict=True,
        )
    )
    for n, axis in enumerate(updates):
        if n not in windows.values():
            walk.fix(axis, POSITIONS)
    return [[_put(walk, axis, updates, windows.get(n)) for n, axis in enumerate(operand)]]


def _dynamic_slice(walk: Walk, step: Step) -> list[Axes]:
    out = []
    for axis, size in zip(step.axes[0], step.equation.params["slice_sizes"], strict=True):
        if size != len(axis):
            walk.fix(axis, TAKEN)
            axis = walk.fixed(size, TAKEN)
        out.append(axis)
    return [out]


def _sliced(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    options = {**step.equation.params, "slice_sizes": walk.left.size(outputs[0])}
    return [step.equation.primitive.bind(*operands, **options)]


def _dynamic_update_slice(walk: Walk, step: Step) -> list[Axes]:
    operand, updates, *_ = step.axes
    return [[_put(walk, axis, updates, n) for n, axis in enumerate(operand)]]


def _put(walk: Walk, axis: Axis, updates: Axes, n: int | None) -> Axis:
    """Returns an axis of an array into which others are put, along their axis n."""
    if n is not None and len(updates[n]) == len(axis):
        return walk.join(axis, updates[n])
    walk.fix(axis, TAKEN)
    if n is not None:
        walk.fix(updates[n], TAKEN)
    return axis


SCATTERS = (
    "scatter",
    *(f"scatter{j}{o}" for j in "-_" for o in ("add", "sub", "mul", "min", "max")),
)
RULES = {
    "gather": Rule(_gather, _gathered),
    "dynamic_slice": Rule(_dynamic_slice, _sliced),
    "dynamic_update_slice": Rule(_dynamic_update_slice),
    **dict.fromkeys(SCATTERS, Rule(_scatter)),
}
