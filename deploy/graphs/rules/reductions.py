"""Reductions over axes and over windows."""

import math
from collections.abc import Sequence
from typing import Any

from deploy.graphs.draft import Draft
from deploy.graphs.rules.moves import reshaped, transposed
from deploy.graphs.step import Lowering, Step, refused

IMAGES = 4  # axes of [B, H, W, C]


def over_axes(operation: str) -> Lowering:
    """Returns the rule of a reduction."""

    def rule(draft: Draft, step: Step) -> str:
        axes = tuple(sorted(map(int, step.params["axes"])))
        options: dict[str, Any] = {"axes": axes, "keepdims": False}
        if not axes:
            return step.inputs[0]
        return draft.add(operation, step.inputs, step.shape, step.dtype, **options)

    return rule


def reduce_min(draft: Draft, step: Step) -> str | list[str]:
    """Lowers the least entry as that of the negatives that is greatest."""
    if step.dtype != "float32":
        return refused(draft, step, f"it is of {step.dtype}")
    (name,) = step.inputs
    below = draft.add("neg", [name], draft.shape(name), step.dtype)
    options: dict[str, Any] = {
        "axes": tuple(sorted(map(int, step.params["axes"]))),
        "keepdims": False,
    }
    found = draft.add("reduce_max", [below], step.shape, step.dtype, **options)
    return draft.add("neg", [found], step.shape, step.dtype)


def over_windows(operation: str) -> Lowering:
    """Returns the rule of a reduction over windows along one or two axes, whichever they are."""

    def rule(draft: Draft, step: Step) -> str | list[str]:
        params, (name, *_) = step.params, step.inputs
        keys = ("window_dimensions", "window_strides", "padding")
        sides = list(zip(*(params[key] for key in keys), strict=True))
        dilations = (*params["base_dilation"], *params["window_dilation"])
        moving = [axis for axis, side in enumerate(sides) if side != (1, 1, (0, 0))]
        if any(d != 1 for d in dilations) or len(moving) > 2:
            return refused(draft, step, "its windows are dilated, or have more than two axes")
        order, pair = _order(moving, len(sides))
        x = transposed(draft, name, order)
        whole = [step.shape[axis] for axis in order]
        windows, strides, padding = zip(*(sides[axis] for axis in pair), strict=True)
        one, pixels = (1,) * (2 - len(pair)), len(order) - len(pair) - 1
        made = draft.add(
            operation,
            [reshaped(draft, x, _as_images(draft.shape(x), pixels, one))],
            _as_images(whole, pixels, one),
            step.dtype,
            window=(*one, *windows),
            strides=(*one, *strides),
            padding=(*((0, 0) for _ in one), *(tuple(side) for side in padding)),
        )
        places = [order.index(axis) for axis in range(len(order))]
        return transposed(draft, reshaped(draft, made, whole), places)

    return rule


def _order(moving: list[int], rank: int) -> tuple[list[int], list[int]]:
    """Returns an order in which windows move before the last axis, and the axes along which."""
    if rank == IMAGES and set(moving) <= {1, 2}:
        return [0, 1, 2, 3], [1, 2]
    pair = moving or [rank - 2]
    *others, channels = (axis for axis in range(rank) if axis not in pair)
    return [*others, *pair, channels], pair


def _as_images(shape: Sequence[int], batches: int, one: tuple[int, ...]) -> tuple[int, ...]:
    """Returns [B, H, W, C], the axes before the pixels in one."""
    return (math.prod(shape[:batches]), *one, *shape[batches:])
