"""Rules for Core ML of windows, reductions and movements of entries."""

# B batch, H W image, C channels

from collections.abc import Sequence
from typing import Any

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from deploy.graphs.graph import Graph, Node, Unsupported
from deploy.writers.coreml.values import Rule, first, last, operand, order, word


def window(graph: Graph, node: Node, x: Any) -> Any:
    """Pooling."""
    (top, bottom), (left, right) = node.attributes["padding"]
    options = dict(
        kernel_sizes=list(node.attributes["window"]),
        strides=list(node.attributes["strides"]),
        pad_type="custom",
        pad=[top, bottom, left, right],
        name=word(node.output),
    )
    if node.operation == "max_pool":
        return mb.max_pool(x=x, **options)
    return mb.avg_pool(x=x, **options, exclude_padding_from_average=False)


def reduction(make: Any) -> Rule:
    """Returns the rule of a sum, a mean or a maximum over axes."""

    def rule(graph: Graph, node: Node, x: Any) -> Any:
        name, before, axes = word(node.output), order(x.rank), node.attributes["axes"]
        reduced = {axis % x.rank for axis in axes}
        places = sorted(map(before.index, reduced))
        rest = [axis for axis in before if axis not in reduced]
        wanted = [sorted(rest)[axis] for axis in order(len(rest))]
        if node.attributes["keepdims"] or wanted == rest:
            keeps = bool(node.attributes["keepdims"])
            return make(x=x, axes=places, keep_dims=keeps, name=name)
        # What is left stands in the order of the value that was reduced.
        made = make(x=x, axes=places, keep_dims=False, name=f"{name}_unordered")
        return mb.transpose(x=made, perm=list(map(rest.index, wanted)), name=name)

    return rule


def softmax(graph: Graph, node: Node, x: Any) -> Any:
    """One axis."""
    return mb.softmax(x=x, axis=_place(node.attributes["axis"], x), name=word(node.output))


def reshape(graph: Graph, node: Node, x: Any) -> Any:
    """A reading as another shape, which for images is in the order H, W, C."""
    name, shape = word(node.output), list(graph.values[node.output].shape)
    plain = last(x, f"{name}_channels_last")
    if len(shape) != 4:
        return mb.reshape(x=plain, shape=shape, name=name)
    return first(mb.reshape(x=plain, shape=shape, name=f"{name}_shaped"), name)


def broadcast(graph: Graph, node: Node, x: Any) -> Any:
    """Copies along axes of length 1."""
    shape = graph.values[node.output].shape
    repeats = [shape[axis] // x.shape[place] for place, axis in enumerate(order(len(shape)))]
    return mb.tile(x=x, reps=repeats, name=word(node.output))


def transpose(graph: Graph, node: Node, x: Any) -> Any:
    """Another order of axes."""
    axes = _ordered(node.attributes["permutation"])
    return mb.transpose(x=x, perm=[_place(axis, x) for axis in axes], name=word(node.output))


def concat(graph: Graph, node: Node, *given: Any) -> Any:
    """Values side by side."""
    values = [operand(graph, node, value) for value in given]
    axis = order(len(graph.values[node.output].shape)).index(node.attributes["axis"])
    return mb.concat(values=values, axis=axis, name=word(node.output))


def pad(graph: Graph, node: Node, x: Any) -> Any:
    """Entries of one value around."""
    return mb.pad(
        x=x,
        pad=[int(end) for pair in _ordered(node.attributes["pads"]) for end in pair],
        mode="constant",
        constant_val=np.float32(node.attributes["value"]),
        name=word(node.output),
    )


def crop(graph: Graph, node: Node, x: Any) -> Any:
    """A part, or every k-th entry, of a value."""
    begin, end, strides = (
        [int(number) for number in _ordered(node.attributes[key])]
        for key in ("begin", "end", "strides")
    )
    return mb.slice_by_index(x=x, begin=begin, end=end, stride=strides, name=word(node.output))


def channel_shuffle(graph: Graph, node: Node, x: Any) -> Any:
    """Channels as [groups, C / groups], transposed."""
    if x.rank != 4:
        raise Unsupported("Core ML", node, f"of {x.rank} axes")
    batch, channels, height, width = x.shape
    groups, name = node.attributes["groups"], word(node.output)
    apart = [batch, groups, channels // groups, height, width]
    x = mb.reshape(x=x, shape=apart, name=f"{name}_groups")
    x = mb.transpose(x=x, perm=[0, 2, 1, 3, 4], name=f"{name}_turned")
    return mb.reshape(x=x, shape=[batch, channels, height, width], name=name)


def _place(axis: int, x: Any) -> int:
    """Returns where an axis stands in the program."""
    return order(x.rank).index(axis % x.rank)


def _ordered(numbers: Sequence[Any]) -> list[Any]:
    """Returns what belongs to a value's axes in the program's order."""
    return [numbers[axis] for axis in order(len(numbers))]
