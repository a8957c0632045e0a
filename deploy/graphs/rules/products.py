"""Convolutions and products of matrices."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deploy.graphs.draft import Draft
from deploy.graphs.rules.moves import padded, reshaped, transposed
from deploy.graphs.rules.places import spread
from deploy.graphs.step import Step, refused


def convolution(draft: Draft, step: Step) -> str | list[str]:
    """Lowers the primitive of `architectures.cpu`."""
    geometry, params = step.params["geometry"], step.params
    if params["role"] != "output" or params["replicates"] != 1:
        return refused(draft, step, "it is a derivative, or one of several networks")
    if step.inputs[1] not in draft.constants:
        return refused(draft, step, "its kernel is computed from the inputs")
    parts = {key: getattr(geometry, key) for key in ("strides", "padding", "dilation", "groups")}
    x, kernel = step.inputs
    return _conv(draft, x, kernel, step.shape, **parts)


def conv_general_dilated(draft: Draft, step: Step) -> str | list[str]:
    """Lowers a convolution in one or two dimensions, whatever the order of its axes.

    One that is transposed is one of entries with zeros between them.
    """
    params, (name, kernel) = step.params, step.inputs
    numbers, steps = params["dimension_numbers"], params["lhs_dilation"]
    sides = len(steps)
    for wrong, why in (
        (step.dtype != "float32", f"it is of {step.dtype}"),
        (kernel not in draft.constants, "its kernel is computed from the inputs"),
        (sides not in (1, 2), f"it has {sides} dimensions"),
        (params["batch_group_count"] != 1, "it has groups of the batch"),
    ):
        if wrong:
            return refused(draft, step, why)
    left, right, out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    x = transposed(draft, name, [left[0], *left[2:], left[1]])
    for axis, apart in enumerate(steps):
        x = spread(draft, x, axis + 1, int(apart))
    taps = transposed(draft, kernel, [*right[2:], right[1], right[0]])
    shape = [step.shape[axis] for axis in (out[0], *out[2:], out[1])]
    one = (1,) * (2 - sides)
    if one:  # along a row
        (b, w, c), (k, i, o) = draft.shape(x), draft.shape(taps)
        x, taps = reshaped(draft, x, (b, 1, w, c)), reshaped(draft, taps, (1, k, i, o))
    made = _conv(
        draft,
        x,
        taps,
        [shape[0], *one, *shape[1:]],
        strides=(*one, *params["window_strides"]),
        padding=(*((0, 0),) * len(one), *params["padding"]),
        dilation=(*one, *params["rhs_dilation"]),
        groups=params["feature_group_count"],
    )
    made = reshaped(draft, made, shape)
    places = [out[0], *out[2:], out[1]]
    return transposed(draft, made, [places.index(axis) for axis in range(len(places))])


def _conv(
    draft: Draft,
    x: str,
    kernel: str,
    shape: Sequence[int],
    *,
    strides: Sequence[int],
    padding: Sequence[Sequence[int]],
    dilation: Sequence[int],
    groups: int,
) -> str:
    crop = [(min(0, low), min(0, high)) for low, high in padding]
    x = padded(draft, x, [(0, 0), *crop, (0, 0)], 0)
    bias = draft.constant(np.zeros(draft.shape(kernel)[-1], np.float32))
    options: dict[str, Any] = {
        "strides": tuple(map(int, strides)),
        "padding": tuple((max(0, int(low)), max(0, int(high))) for low, high in padding),
        "dilation": tuple(map(int, dilation)),
        "groups": int(groups),
    }
    return draft.add("conv", [x, kernel, bias], shape, **options)


def dot_general(draft: Draft, step: Step) -> str | list[str]:
    """Lowers a product: `dense` where one side is a constant, else `matmul`."""
    (left, right), numbers = step.inputs, step.params["dimension_numbers"]
    (left_in, right_in), (left_batch, _) = numbers
    if step.dtype != "float32":
        return refused(draft, step, f"it is of {step.dtype}")
    if not left_batch and right in draft.constants:
        return reshaped(draft, _dense(draft, left, right, left_in, right_in), step.shape)
    if not left_batch and left in draft.constants:
        made = _dense(draft, right, left, right_in, left_in)
        free = len(draft.shape(right)) - len(right_in)
        outside = [n for axis, n in enumerate(draft.shape(left)) if axis not in left_in]
        made = reshaped(draft, made, [*draft.shape(made)[:free], *outside])
        order = [*range(free, free + len(outside)), *range(free)]
        return transposed(draft, made, order)
    return _matmul(draft, step)


def _free(rank: int, *taken: Sequence[int]) -> list[int]:
    used = {axis for axes in taken for axis in axes}
    return [axis for axis in range(rank) if axis not in used]


def _dense(
    draft: Draft, x: str, kernel: str, inside: Sequence[int], of_kernel: Sequence[int]
) -> str:
    """Returns [x's free axes …, O], O being the kernel's free axes in one."""
    outer = _free(len(draft.shape(x)), inside)
    x = transposed(draft, x, [*outer, *inside])
    shape = draft.shape(x)
    size = math.prod(shape[len(outer) :])
    x = reshaped(draft, x, [*shape[: len(outer)], size])
    free = _free(len(draft.shape(kernel)), of_kernel)
    kernel = transposed(draft, kernel, [*of_kernel, *free])
    outputs = math.prod(draft.shape(kernel)[len(of_kernel) :])
    kernel = reshaped(draft, kernel, [size, outputs])
    bias = draft.constant(np.zeros(outputs, np.float32))
    x = reshaped(draft, x, [1, size]) if not outer else x
    made = draft.add("dense", [x, kernel, bias], [*draft.shape(x)[:-1], outputs])
    return made if outer else reshaped(draft, made, [outputs])


def _matmul(draft: Draft, step: Step) -> str:
    (left, right), numbers = step.inputs, step.params["dimension_numbers"]
    (left_in, right_in), (left_batch, right_batch) = numbers
    left_free = _free(len(draft.shape(left)), left_in, left_batch)
    right_free = _free(len(draft.shape(right)), right_in, right_batch)
    batch = [draft.shape(left)[axis] for axis in left_batch]
    rows = math.prod(draft.shape(left)[axis] for axis in left_free)
    inner = math.prod(draft.shape(left)[axis] for axis in left_in)
    columns = math.prod(draft.shape(right)[axis] for axis in right_free)
    left = transposed(draft, left, [*left_batch, *left_free, *left_in])
    right = transposed(draft, right, [*right_batch, *right_in, *right_free])
    left = reshaped(draft, left, [*batch, rows, inner])
    right = reshaped(draft, right, [*batch, inner, columns])
    made = draft.add("matmul", [left, right], [*batch, rows, columns])
    return reshaped(draft, made, step.shape)
