"""Convolutions, dense layers and pooling as operators of TensorFlow Lite."""

from collections.abc import Sequence

import numpy as np
from ai_edge_litert.schema_py_generated import Padding

from deploy.graphs.graph import FREE, Grid, Node, Unsupported
from deploy.integers import fixed
from deploy.writers.tflite.draft import Draft
from deploy.writers.tflite.file import Tensor

Pads = Sequence[tuple[int, int]]


def conv(draft: Draft, node: Node) -> Tensor:
    """A convolution: in depth where each group has one input channel, else dense or grouped.

    Kernels are [O, h, w, I / groups], in depth [1, h, w, O].
    """
    options, x = node.attributes, draft.value(node.inputs[0])
    kernel_shape = draft.graph.constants[node.inputs[1]].shape
    in_depth = options["groups"] == x.shape[-1] > 1
    extent = [(k - 1) * d + 1 for k, d in zip(kernel_shape, options["dilation"], strict=False)]
    x, padding = _padded(draft, node, x, extent, 0.0)
    axis = 3 if in_depth else 0
    order = (2, 0, 1, 3) if in_depth else (3, 0, 1, 2)
    kernel, bias = _parameters(draft, node, order, axis)
    grid = draft.grid(node.output)
    activation, left = draft.fused(options.get("bounds", FREE), grid)
    fields = {
        "padding": padding,
        "strideH": options["strides"][0],
        "strideW": options["strides"][1],
        "dilationHFactor": options["dilation"][0],
        "dilationWFactor": options["dilation"][1],
        "fusedActivationFunction": activation,
    }
    code, table = "CONV_2D", "Conv2DOptions"
    if in_depth:
        code, table = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
        fields["depthMultiplier"] = kernel_shape[3] // x.shape[-1]
    shape = draft.graph.values[node.output].shape
    result = draft.add(code, [x, kernel, bias], node.output, shape, grid, (table, fields))
    return draft.bounded(result, left, node.output)


def dense(draft: Draft, node: Node) -> Tensor:
    """A dense layer on the last axis; kernels are [O, I]."""
    x, grid = draft.value(node.inputs[0]), draft.grid(node.output)
    kernel, bias = _parameters(draft, node, (1, 0), 0)
    activation, left = draft.fused(node.attributes.get("bounds", FREE), grid)
    fields = {"fusedActivationFunction": activation, "keepNumDims": len(x.shape) != 2}
    shape, options = draft.graph.values[node.output].shape, ("FullyConnectedOptions", fields)
    result = draft.add("FULLY_CONNECTED", [x, kernel, bias], node.output, shape, grid, options)
    return draft.bounded(result, left, node.output)


def max_pool(draft: Draft, node: Node) -> Tensor:
    """Maxima over windows, to which what pads them is never one."""
    return _pool(draft, node, "MAX_POOL_2D", -np.inf)


def average_pool(draft: Draft, node: Node) -> Tensor:
    """Means over windows that count the zeros around an image, unlike those of `SAME`."""
    return _pool(draft, node, "AVERAGE_POOL_2D", 0.0)


def _pool(draft: Draft, node: Node, code: str, fill: float) -> Tensor:
    options, x = node.attributes, draft.value(node.inputs[0])
    x, padding = _padded(draft, node, x, options["window"], fill)
    fields = {
        "padding": padding,
        "strideH": options["strides"][0],
        "strideW": options["strides"][1],
        "filterHeight": options["window"][0],
        "filterWidth": options["window"][1],
    }
    shape = draft.graph.values[node.output].shape
    kind = x.grid or x.dtype
    return draft.add(code, [x], node.output, shape, kind, ("Pool2DOptions", fields))


def _padded(
    draft: Draft, node: Node, x: Tensor, extent: Sequence[int], fill: float
) -> tuple[Tensor, int]:
    """Returns the input and the kind of padding: `SAME` where it is just this, else by an operator.

    With an even total `SAME` puts half of it before an image, with an odd one less than half, and
    its total follows from the stride: that of stride 2 is not 1 on both sides.
    """
    options = node.attributes
    pads: Pads = options["padding"]
    if any(side < 0 for pair in pads for side in pair):
        raise Unsupported("litert", node, "its padding is negative")
    if not any(map(any, pads)):
        return x, Padding.VALID
    sizes = zip(x.shape[1:3], extent, options["strides"], strict=False)
    totals = [max((-(-size // step) - 1) * step + reach - size, 0) for size, reach, step in sizes]
    same = [(total // 2, total - total // 2) for total in totals]
    if same == [tuple(pair) for pair in pads] and node.operation != "average_pool":
        return x, Padding.SAME
    wide = [(0, 0), *pads, (0, 0)]
    return padded(draft, node.output + "/padded", x, wide, fill), Padding.VALID


def padded(draft: Draft, name: str, x: Tensor, pads: Pads, fill: float) -> Tensor:
    """Returns a tensor with more entries on both sides of each axis, on the same grid."""
    shape = [size + sum(pair) for size, pair in zip(x.shape, pads, strict=True)]
    kind: str | Grid = x.grid or x.dtype
    if fill == 0 and x.dtype != "bool":
        return draft.add("PAD", [x, draft.ints(pads)], name, shape, kind, ("PadOptions", {}))
    if x.grid is not None:
        other = draft.file.constant("fill", fixed.quantized(np.float32(fill), x.grid), x.grid)
    else:
        other = draft.file.constant("fill", np.asarray(fill, x.dtype))
    inputs = [x, draft.ints(pads), other]
    return draft.add("PADV2", inputs, name, shape, kind, ("PadV2Options", {}))


def _parameters(
    draft: Draft, node: Node, order: tuple[int, ...], axis: int
) -> tuple[Tensor, Tensor]:
    """Returns the kernel, its axes in this order, and the bias."""
    kernel, bias = (draft.graph.constants[name] for name in node.inputs[1:])
    names = [f"{node.output}/kernel", f"{node.output}/bias"]
    file = draft.file
    if draft.grid(node.output) is None:
        return (
            file.constant(names[0], kernel.transpose(order)),
            file.constant(names[1], bias),
        )
    found = fixed.parameters(draft.graph, node)
    stored = draft.graph.stored[node.inputs[1]]
    if np.any((found.codes != stored.codes) & (stored.scales > 0)):
        draft.rounded.append(node.inputs[1])
    unit, result = (
        float(np.float32(draft.graph.grids[name].scale)) for name in (node.inputs[0], node.output)
    )
    # XNNPACK wants steps of products below 256 of the result's: at 255 all but 0 saturates, too.
    scales = np.minimum(found.scales, 255 * result / unit).astype(np.float32)
    products = (scales * unit).astype(np.float32)
    return (
        file.constant(names[0], found.codes.transpose(order), scales=scales, axis=axis),
        file.constant(names[1], found.bias, scales=products),
    )
