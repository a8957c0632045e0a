"""Rules of products, a graph's node → layers of ncnn: conv, dense, matmul, gather."""

# I O channels of a product

import math
from collections.abc import Mapping

import numpy as np

from deploy.graphs.graph import FREE, Node, Unsupported
from deploy.writers.ncnn import blobs
from deploy.writers.ncnn.blobs import Layer, Layers, Plan, Setting


def conv(plan: Plan, node: Node) -> Layers:
    """A convolution with its bias and its bounds."""
    options, kernel = node.attributes, _kernel(plan, node).transpose(3, 2, 0, 1)
    (top, bottom), (left, right) = options["padding"]
    if min(top, bottom, left, right) < 0:
        raise Unsupported("ncnn", node, "negative padding")
    outputs, _, height, width = kernel.shape
    settings = {0: outputs, 1: width, 11: height, 3: options["strides"][1]}
    settings |= {13: options["strides"][0], 2: options["dilation"][1], 12: options["dilation"][0]}
    settings |= {4: left, 15: right, 14: top, 16: bottom}
    groups = options["groups"]
    kind = "Convolution" if groups == 1 else "ConvolutionDepthWise"
    yield _convolution(plan, node, kind, kernel, settings | ({7: groups} if groups > 1 else {}))


def dense(plan: Plan, node: Node) -> Layers:
    """A product with a matrix, of rows or at every pixel, with its bias and its bounds."""
    kernel = _kernel(plan, node)
    rank = len(plan.shape(node.inputs[0]))
    if rank == 4:  # a product at every pixel
        kernel = kernel.T[:, :, None, None]
        yield _convolution(plan, node, "Convolution", kernel, {0: len(kernel), 1: 1})
        return
    if rank > 4:
        raise Unsupported("ncnn", node, f"an example with {rank - 1} axes")
    if node.inputs[0] in plan.flattened:
        _, *image = plan.flattened[node.inputs[0]]
        kernel = kernel.reshape(*image, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    settings, numbers = _product(plan, node, kernel.T)
    sized = {0: kernel.shape[1], 1: 1, 2: kernel.size}
    yield Layer("InnerProduct", node.inputs[:1], node.output, sized | settings, numbers)


def matmul(plan: Plan, node: Node) -> Layers:
    """Products of matrices [B, …, M, K] and [B, …, K, N], which are no images."""
    names = []
    for index, name in enumerate(node.inputs):
        rank = len(plan.shape(node.output))
        if rank not in (3, 4) or len(plan.shape(name)) != rank:
            raise Unsupported("ncnn", node, f"of {list(plan.shape(name))}")
        shown = f"{node.output}/operand_{index}"
        if name in plan.graph.constants:
            yield from blobs.constant(plan, node, name, shown)
            name = shown
        if rank == 4:
            yield blobs.permuted(name, f"{shown}/in_order", (1, 2, 0))
            name = f"{shown}/in_order"
        names.append(name)
    if len(plan.shape(node.output)) == 3:
        yield Layer("MatMul", tuple(names), node.output, {})
        return
    yield Layer("MatMul", tuple(names), f"{node.output}/in_order", {})
    yield blobs.permuted(f"{node.output}/in_order", node.output, (2, 0, 1))


def gather(plan: Plan, node: Node) -> Layers:
    """Rows of a table of constants."""
    table, indices = node.inputs
    if table not in plan.graph.constants or len(plan.shape(table)) != 2:
        raise Unsupported("ncnn", node, "from what is no table of constants")
    if indices not in plan.graph.inputs or len(plan.shape(indices)) != 2:
        raise Unsupported("ncnn", node, "by what is no input [B, T]")
    array = plan.graph.constants[table]
    settings = {0: array.shape[1], 1: array.shape[0], 2: 0, 3: array.size}
    yield Layer("Embed", (indices,), node.output, settings, blobs.tagged(array))


def _convolution(
    plan: Plan, node: Node, kind: str, kernel: np.ndarray, settings: Mapping[int, Setting]
) -> Layer:
    integers, numbers = _product(plan, node, kernel)
    sized = {**settings, 5: 1, 6: kernel.size}
    if node.output in plan.integers:
        integers = {**integers, 8: 100 + int(str(integers[8]))}
        numbers += blobs.plain(blobs.inverse_scale(plan.graph.grids[node.output]))
    return Layer(kind, node.inputs[:1], node.output, {**sized, **integers}, numbers)


def _kernel(plan: Plan, node: Node) -> np.ndarray:
    """Returns the codes of a product's kernel if ncnn computes it with integers, or its entries."""
    name = node.inputs[1]
    if blobs.is_integral(plan.graph, node):
        return plan.graph.stored[name].codes
    return plan.graph.constants[name]


def _product(plan: Plan, node: Node, kernel: np.ndarray) -> tuple[dict[int, Setting], bytes]:
    """Returns a product's settings about integers and bounds, and its numbers."""
    x, name, bias = node.inputs
    numbers = blobs.tagged(kernel) + blobs.plain(plan.graph.constants[bias])
    settings: dict[int, Setting] = {}
    if kernel.dtype == np.int8:
        scales = np.asarray(plan.graph.stored[name].scales, np.float32)
        inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
        numbers += blobs.plain(inverse) + blobs.plain(blobs.inverse_scale(plan.graph.grids[x]))
        settings[8] = 1 if node.attributes.get("groups", 1) > 1 else 2
    low, high = node.attributes.get("bounds", FREE)
    if (low, high) == (0, math.inf):
        settings[9] = 1
    elif (low, high) != FREE:
        settings |= {9: 3, 10: (blobs.finite(low), blobs.finite(high))}
    return settings, numbers
