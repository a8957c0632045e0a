"""Rules of windows, reductions and movements of entries, a graph's node → layers of ncnn."""

# B batch, H W image, C channels

import math

import numpy as np

from deploy.graphs.graph import Node, Unsupported
from deploy.writers.ncnn import blobs
from deploy.writers.ncnn.blobs import Layer, Layers, Plan, Setting

AVERAGE, MAX = 1, 0  # ncnn's kinds of pooling
KINDS = {"sum": 0, "mean": 3, "reduce_max": 4}  # and of reductions


def window(plan: Plan, node: Node) -> Layers:
    """Pooling."""
    options = node.attributes
    (top, bottom), (left, right) = options["padding"]
    if min(top, bottom, left, right) < 0:
        raise Unsupported("ncnn", node, "negative padding")
    (height, width), (down, along) = options["window"], options["strides"]
    settings = {0: MAX if node.operation == "max_pool" else AVERAGE, 1: width, 11: height}
    settings |= {2: along, 12: down, 3: left, 14: right, 13: top, 15: bottom}
    # Mode 1 adds no padding to fill a last window; setting 6 counts the zeros in averages.
    yield Layer("Pooling", node.inputs, node.output, settings | {5: 1, 6: 1})


def reduction(plan: Plan, node: Node) -> Layers:
    """Sums, means and maxima over axes of an example."""
    rank = len(plan.shape(node.inputs[0]))
    axes = {axis % rank for axis in node.attributes["axes"]}
    if 0 in axes:
        raise Unsupported("ncnn", node, blobs.MIXES)
    order, keeps = blobs.order(rank), node.attributes["keepdims"]
    if axes == {1, 2} and rank == 4 and node.operation != "sum":
        pooled = f"{node.output}/flat" if keeps else node.output
        kind = AVERAGE if node.operation == "mean" else MAX
        yield Layer("Pooling", node.inputs, pooled, {0: kind, 4: 1})
        if keeps:
            yield blobs.reshaped(pooled, node.output, blobs.blob(plan.shape(node.output)))
        return
    settings: dict[int, Setting] = {
        0: KINDS[node.operation],
        1: 0,
        3: tuple(sorted(map(order.index, axes))),
    }
    settings |= {4: int(keeps), 5: 1}
    rest = [axis for axis in order if axis not in axes]
    if keeps or not rest:
        yield Layer("Reduction", node.inputs, node.output, settings)
        return
    # What is left stands in the order of the blob that was reduced.
    wanted = [sorted(rest)[axis - 1] for axis in blobs.order(len(rest) + 1)]
    permutation = tuple(map(rest.index, wanted))
    is_ordered = permutation == tuple(range(len(rest)))
    reduced = node.output if is_ordered else f"{node.output}/from"
    yield Layer("Reduction", node.inputs, reduced, settings)
    if not is_ordered:
        yield blobs.permuted(reduced, node.output, permutation)


def reshape(plan: Plan, node: Node) -> Layers:
    """A reading as another shape, which for images is in the order H, W, C."""
    (source,), output = node.inputs, node.output
    before, after = plan.shape(source), plan.shape(output)
    if math.prod(before[1:]) != math.prod(after[1:]):
        raise Unsupported("ncnn", node, blobs.MIXES)
    if output in plan.flattened:
        yield Layer("Flatten", node.inputs, output, {})
        return
    channels_stay = len(before) == len(after) == 4 and before[3] == after[3]
    if not channels_stay and not _is_row(before):
        yield blobs.permuted(source, f"{output}/from", (1, 2, 0))
        source = f"{output}/from"
    if channels_stay or _is_row(after):
        yield blobs.reshaped(source, output, blobs.blob(after))
        return
    yield blobs.reshaped(source, f"{output}/to", after[1:])
    yield blobs.permuted(f"{output}/to", output, (2, 0, 1))


def broadcast(plan: Plan, node: Node) -> Layers:
    """Copies along axes of length 1, as a sum with zeros."""
    shape = blobs.blob(plan.shape(node.output))
    yield Layer(
        "MemoryData", (), f"{node.output}/zeros", blobs.sizes(shape), blobs.plain(np.zeros(shape))
    )
    yield Layer("BinaryOp", (*node.inputs, f"{node.output}/zeros"), node.output, {0: 0})


def transpose(plan: Plan, node: Node) -> Layers:
    """Another order of axes."""
    permutation = tuple(node.attributes["permutation"])
    if permutation[0] != 0:
        raise Unsupported("ncnn", node, blobs.MIXES)
    order = blobs.order(len(permutation))
    yield blobs.permuted(
        node.inputs[0], node.output, tuple(order.index(permutation[axis]) for axis in order)
    )


def concat(plan: Plan, node: Node) -> Layers:
    """Values side by side."""
    names = []
    for index, name in enumerate(node.inputs):
        names.append(name)
        if name in plan.graph.constants:
            names[-1] = f"{node.output}/operand_{index}"
            yield from blobs.constant(plan, node, name, names[-1])
    axis = blobs.place(plan, node, node.attributes["axis"])
    yield Layer("Concat", tuple(names), node.output, {0: axis})


def pad(plan: Plan, node: Node) -> Layers:
    """Entries of one value around."""
    pads = [tuple(pair) for pair in node.attributes["pads"]]
    if pads[0] != (0, 0):
        raise Unsupported("ncnn", node, blobs.MIXES)
    if min(map(min, pads)) < 0:
        raise Unsupported("ncnn", node, "negative padding")
    ordered = [pads[axis] for axis in blobs.order(len(pads))]
    if len(ordered) == 4 and ordered[0] != (0, 0):
        raise Unsupported("ncnn", node, "along the first of four axes")
    front, rows, columns = [(0, 0), (0, 0), *ordered][-3:]
    settings = {0: rows[0], 1: rows[1], 2: columns[0], 3: columns[1], 4: 0}
    settings |= {5: blobs.finite(node.attributes["value"]), 7: front[0], 8: front[1]}
    yield Layer("Padding", node.inputs, node.output, settings)


def crop(plan: Plan, node: Node) -> Layers:
    """A part, or every k-th pixel, of a value."""
    begin, end, strides = (node.attributes[key] for key in ("begin", "end", "strides"))
    before = plan.shape(node.inputs[0])
    if (begin[0], end[0], strides[0]) != (0, before[0], 1):
        raise Unsupported("ncnn", node, blobs.MIXES)
    rank, source = len(before), node.inputs[0]
    is_strided = any(stride != 1 for stride in strides)
    if is_strided and (rank != 4 or strides[3] != 1):
        raise Unsupported("ncnn", node, "with strides along other axes than an image's")
    order = blobs.order(rank)
    is_cut = any(end[axis] - begin[axis] != before[axis] for axis in order)
    if is_cut or not is_strided:
        cut = f"{node.output}/cut" if is_strided else node.output
        offsets, lengths = _CROP[len(order)]
        settings = {key: begin[axis] for key, axis in zip(offsets, order, strict=True)}
        settings |= {key: end[a] - begin[a] for key, a in zip(lengths, order, strict=True)}
        yield Layer("Crop", (source,), cut, settings)
        source = cut
    if is_strided:  # windows of one pixel
        settings = {0: MAX, 1: 1, 11: 1, 2: strides[2], 12: strides[1], 5: 1}
        yield Layer("Pooling", (source,), node.output, settings)


def channel_shuffle(plan: Plan, node: Node) -> Layers:
    """Channels as [groups, C / groups], transposed."""
    if len(plan.shape(node.output)) != 4:
        raise Unsupported("ncnn", node, f"of {list(plan.shape(node.output))}")
    yield Layer("ShuffleChannel", node.inputs, node.output, {0: node.attributes["groups"]})


def cast(plan: Plan, node: Node) -> Layers:
    """From floats to floats."""
    yield Layer("Split", node.inputs, node.output, {})  # from floats to floats


# Axes of a blob → the settings that say its axes' offsets, and those that say their lengths.
_CROP = {
    1: ((0,), (3,)),
    2: ((1, 0), (4, 3)),
    3: ((2, 1, 0), (5, 4, 3)),
    4: ((2, 13, 1, 0), (5, 14, 4, 3)),
}


def _is_row(shape: tuple[int, ...]) -> bool:
    """Are a value's entries in the same order in its blob?"""
    return len(shape) != 4 or shape[3] == 1 or shape[1] * shape[2] == 1
