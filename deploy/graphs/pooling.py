"""Rules that find pooling: in slices of which the larger or the sum is taken, axis by axis.

`sum_pool` is an operation of drafts alone; what is left of it becomes `average_pool` times the
size of its windows, see `averages`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.graphs.draft import Draft
from deploy.graphs.graph import Node
from deploy.graphs.rules.entries import binary
from deploy.graphs.rules.moves import sliced

Counts = Mapping[str, int]
IMAGES = 4
NO_PADDING = ((0, 0), (0, 0))


def larger(draft: Draft, node: Node, counts: Counts) -> str | None:
    """where((a ≥ b) or a is NaN, a, b): the larger of both."""
    condition, first, second = node.inputs
    either = draft.made_by(condition, "or")
    if either is None:
        return None
    greater, unequal = draft.made_by(either.inputs[0], "ge"), draft.made_by(either.inputs[1], "ne")
    fits = greater is not None and greater.inputs == (first, second)
    if not fits or unequal is None or unequal.inputs != (first, first):
        return None
    return draft.add("max", [first, second], draft.shape(node.output), layer=node.layer)


@dataclasses.dataclass(frozen=True)
class _Windows:
    """Windows of a value along one axis: entries offset + stride·n … + size − 1, for n < count."""

    source: str
    axis: int
    offset: int
    size: int
    stride: int
    count: int


def windows(draft: Draft, node: Node, counts: Counts) -> str | None:
    """The larger, or the sum, of neighbouring windows of one value: a pooling along one axis."""
    operation = {"max": "max_pool", "add": "sum_pool"}[node.operation]
    if len(draft.shape(node.output)) != IMAGES or node.attributes:
        return None
    first, second = (_of(draft, name, operation) for name in node.inputs)
    for left in first:
        for right in second:
            for low, high in ((left, right), (right, left)):
                beside = dataclasses.replace(low, offset=high.offset, size=high.size)
                if beside == high and low.offset + low.size == high.offset:
                    return _pool(draft, node, operation, low, low.size + high.size)
    return None


def _pool(draft: Draft, node: Node, operation: str, low: _Windows, size: int) -> str:
    shape = draft.shape(low.source)
    begin, end = [0] * IMAGES, list(shape)
    begin[low.axis] = low.offset
    if (shape[low.axis] - low.offset - size) // low.stride + 1 != low.count:
        end[low.axis] = low.offset + (low.count - 1) * low.stride + size
    name = sliced(draft, low.source, begin, end)
    along = (low.axis == 1, low.axis == 2)
    return draft.add(
        operation,
        [name],
        draft.shape(node.output),
        layer=draft.layer([low.source]),
        window=tuple(size if own else 1 for own in along),
        strides=tuple(low.stride if own else 1 for own in along),
        padding=NO_PADDING,
    )


def _of(draft: Draft, name: str, operation: str) -> list[_Windows]:
    """Returns how a value is windows of another along an axis of the pixels, in every way."""
    node = draft.made_by(name, "slice", operation)
    found = []
    if node is not None and node.operation == "slice":
        shape, (source,) = draft.shape(name), node.inputs
        begin, strides = node.attributes["begin"], node.attributes["strides"]
        for axis in (1, 2):
            if all(
                own == axis or (b, s, n) == (0, 1, draft.shape(source)[own])
                for own, (b, s, n) in enumerate(zip(begin, strides, shape, strict=True))
            ):
                found.append(_Windows(source, axis, begin[axis], 1, strides[axis], shape[axis]))
    elif node is not None and node.attributes["padding"] == NO_PADDING:
        for axis in (1, 2):
            if (
                node.attributes["window"][2 - axis] == 1
                and node.attributes["strides"][2 - axis] == 1
            ):
                size, stride = (node.attributes[key][axis - 1] for key in ("window", "strides"))
                below = _Windows(node.inputs[0], axis, 0, size, stride, draft.shape(name)[axis])
                found.append(below)
                found += [
                    dataclasses.replace(below, source=one.source, offset=one.offset)
                    for one in _of(draft, node.inputs[0], "slice")
                    if one.axis == axis and one.stride == 1
                ]
    if len(draft.shape(name)) == IMAGES:
        found += [_Windows(name, axis, 0, 1, 1, draft.shape(name)[axis]) for axis in (1, 2)]
    return found


def merged(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A pooling along one axis after one along the other."""
    before = draft.made_by(node.inputs[0], node.operation)
    if before is None:
        return None
    parts = [
        [
            tuple(one.attributes[key][side] for key in ("window", "strides", "padding"))
            for side in (0, 1)
        ]
        for one in (before, node)
    ]
    still = (1, 1, (0, 0))
    chosen: list[Any] = []
    for first, second in zip(*parts, strict=True):
        if still not in (first, second):
            return None
        chosen.append(second if first == still else first)
    window, strides, padding = zip(*chosen, strict=True)
    return draft.add(
        node.operation,
        before.inputs,
        draft.shape(node.output),
        layer=node.layer,
        window=window,
        strides=strides,
        padding=padding,
    )


def padded_before(draft: Draft, node: Node, counts: Counts) -> str | None:
    """Margins that the operation has itself: −∞ before the largest, 0 before the others."""
    before = draft.made_by(node.inputs[0], "pad")
    value = -math.inf if node.operation == "max_pool" else 0.0
    if before is None or before.attributes["value"] != value:
        return None
    margins = before.attributes["pads"]
    if any(map(any, (margins[0], margins[3]))):
        return None
    sides = zip(node.attributes["padding"], margins[1:3], strict=True)
    padding = tuple((a + c, b + d) for (a, b), (c, d) in sides)
    windows = node.attributes.get("window")
    if windows and any(
        max(pair) >= size for pair, size in zip(padding, windows, strict=True) if any(pair)
    ):
        return None
    options = {**node.attributes, "padding": padding}
    inputs = [*before.inputs, *node.inputs[1:]]
    return draft.add(node.operation, inputs, draft.shape(node.output), layer=node.layer, **options)


def last_twice(draft: Draft, node: Node, counts: Counts) -> str | None:
    """Images whose last row or column is repeated: no largest entry changes, as by a margin."""
    before = draft.made_by(node.inputs[0], "concat")
    if before is None or len(before.inputs) != 2 or before.attributes["axis"] not in (1, 2):
        return None
    axis, (name, last) = before.attributes["axis"], before.inputs
    shape, part = draft.shape(name), draft.made_by(last, "slice")
    if part is None or part.inputs != (name,) or draft.shape(last)[axis] != 1:
        return None
    is_last = part.attributes["begin"] == tuple(
        size - 1 if own == axis else 0 for own, size in enumerate(shape)
    )
    padding = list(node.attributes["padding"])
    if not is_last or padding[axis - 1][1] or node.attributes["window"][axis - 1] < 2:
        return None
    padding[axis - 1] = (padding[axis - 1][0], 1)
    options = {**node.attributes, "padding": tuple(padding)}
    return draft.add("max_pool", [name], draft.shape(node.output), layer=node.layer, **options)


def average(draft: Draft, node: Node, counts: Counts) -> str | None:
    """Sums of windows, divided by constants."""
    name, constant = node.inputs
    if node.operation == "mul" and constant not in draft.constants:
        name, constant = constant, name
    total, array = draft.made_by(name, "sum_pool"), draft.array(constant)
    if total is None or array is None or draft.shape(name) != draft.shape(node.output):
        return None
    size, wide = math.prod(total.attributes["window"]), array.astype(np.float64)
    factor = wide * size if node.operation == "mul" else size / wide
    made = draft.add(
        "average_pool", total.inputs, draft.shape(name), layer=total.layer, **total.attributes
    )
    if np.allclose(factor, 1, rtol=1e-6, atol=0):
        return made
    return binary(draft, "mul", made, draft.constant(factor.astype(np.float32)))


def averages(draft: Draft, node: Node, counts: Counts) -> str | None:
    """Sums of windows as their mean times their size."""
    shape, size = draft.shape(node.output), math.prod(node.attributes["window"])
    made = draft.add("average_pool", node.inputs, shape, layer=node.layer, **node.attributes)
    return binary(draft, "mul", made, draft.constant(np.float32(size)))
