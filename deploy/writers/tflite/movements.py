"""Operations that move entries, as operators of TensorFlow Lite; codes stay on their grid."""

import math

import numpy as np

from deploy.graphs.graph import Node
from deploy.writers.tflite.draft import Draft, Options
from deploy.writers.tflite.entries import transposed
from deploy.writers.tflite.file import Tensor
from deploy.writers.tflite.windows import padded


def reshape(draft: Draft, node: Node) -> Tensor:
    """The same entries in order, in the output's shape."""
    shape = draft.graph.values[node.output].shape
    return _reshaped(draft, node.output, draft.value(node.inputs[0]), shape)


def broadcast(draft: Draft, node: Node) -> Tensor:
    """Axes of length 1 repeated."""
    x, shape = (
        draft.on(node.inputs[0], draft.grid(node.output)),
        draft.graph.values[node.output].shape,
    )
    kind = x.grid or x.dtype
    options: Options = ("BroadcastToOptions", {})
    return draft.add("BROADCAST_TO", [x, draft.ints(shape)], node.output, shape, kind, options)


def transpose(draft: Draft, node: Node) -> Tensor:
    """Axes in another order."""
    x = draft.on(node.inputs[0], draft.grid(node.output))
    return transposed(draft, node.output, x, node.attributes["permutation"])


def concat(draft: Draft, node: Node) -> Tensor:
    """Values side by side, each moved to the grid of the result."""
    value, grid = draft.graph.values[node.output], draft.grid(node.output)
    given = [draft.on(name, grid) for name in node.inputs]
    fields = {"axis": node.attributes["axis"], "fusedActivationFunction": 0}
    options = ("ConcatenationOptions", fields)
    return draft.add("CONCATENATION", given, node.output, value.shape, grid or value.dtype, options)


def pad(draft: Draft, node: Node) -> Tensor:
    """More entries on both sides of each axis."""
    x = draft.on(node.inputs[0], draft.grid(node.output))
    return padded(draft, node.output, x, node.attributes["pads"], node.attributes["value"])


def part(draft: Draft, node: Node) -> Tensor:
    """A slice, maybe with steps."""
    x, options = draft.on(node.inputs[0], draft.grid(node.output)), node.attributes
    numbers = [draft.ints(options[key]) for key in ("begin", "end", "strides")]
    shape, kind = draft.graph.values[node.output].shape, x.grid or x.dtype
    table: Options = ("StridedSliceOptions", {})
    return draft.add("STRIDED_SLICE", [x, *numbers], node.output, shape, kind, table)


def channel_shuffle(draft: Draft, node: Node) -> Tensor:
    """Channels as a matrix [groups, C / groups], transposed: three operators."""
    x, groups = draft.value(node.inputs[0]), node.attributes["groups"]
    matrices = (math.prod(x.shape[:-1]), groups, x.shape[-1] // groups)
    name = node.output + "/groups"
    grouped = _reshaped(draft, name, x, matrices)
    return _reshaped(draft, node.output, transposed(draft, name, grouped, (0, 2, 1)), x.shape)


def gather(draft: Draft, node: Node) -> Tensor:
    """Rows of a table, whose length is added to negative indices: LiteRT has none of these."""
    table = draft.on(node.inputs[0], draft.grid(node.output))
    indices = draft.on(node.inputs[1], None)
    count, zero = (np.asarray(n, indices.dtype) for n in (table.shape[0], 0))
    size, dtype, name = indices.shape, indices.dtype, node.output + "/rows"
    ends = [draft.file.constant("rows", number) for number in (count, zero)]
    below = draft.add("LESS", [indices, ends[1]], name, size, "bool", ("LessOptions", {}))
    options: Options = ("AddOptions", {"fusedActivationFunction": 0})
    counted = draft.add("ADD", [indices, ends[0]], name, size, dtype, options)
    chosen = [below, counted, indices]
    indices = draft.add("SELECT_V2", chosen, name, size, dtype, ("SelectV2Options", {}))
    shape, kind = draft.graph.values[node.output].shape, table.grid or table.dtype
    return draft.add(
        "GATHER", [table, indices], node.output, shape, kind, ("GatherOptions", {"axis": 0})
    )


def _reshaped(draft: Draft, name: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    options = ("ReshapeOptions", {"newShape": list(shape)})
    kind = x.grid or x.dtype
    return draft.add("RESHAPE", [x, draft.ints(shape)], name, shape, kind, options)
