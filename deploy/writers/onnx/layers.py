"""Rules for what has kernels or windows: convolutions, dense layers and pooling."""

import numpy as np

from deploy.graphs.graph import Node, Unsupported
from deploy.writers.onnx import kernels
from deploy.writers.onnx.file import NCHW, Making, add, numbers, plain
from deploy.writers.onnx.values import codes, grid, order_of, real, settle, settle_codes, working

OIHW = (3, 2, 0, 1)  # the axes of [h, w, I, O]


def conv(making: Making, node: Node) -> None:
    """Adds a Conv."""
    value, kernel, _ = node.inputs
    options = node.attributes
    name = add(
        making,
        "Conv",
        [
            real(making, value, NCHW),
            kernels.kernel(making, kernel, OIHW),
            kernels.bias(making, node),
        ],
        working(making, node, NCHW),
        kernel_shape=list(making.graph.values[kernel].shape[:2]),
        strides=list(options["strides"]),
        dilations=list(options["dilation"]),
        group=options["groups"],
        pads=_pads(node),
    )
    settle(making, node, name, NCHW)


def _pads(node: Node) -> list[int]:
    (top, bottom), (left, right) = node.attributes["padding"]
    return [top, left, bottom, right]


def dense(making: Making, node: Node) -> None:
    """Adds a Gemm, of rows if the input has more axes; a Conv of 1 × 1 where it stands as NCHW."""
    value, kernel, _ = node.inputs
    shape = making.graph.values[value].shape
    bias = kernels.bias(making, node)
    if order_of(making, value) == NCHW:
        weights = kernels.kernel(making, kernel, (1, 0), (1, 1))
        inputs = [real(making, value), weights, bias]
        name = add(making, "Conv", inputs, working(making, node, NCHW), kernel_shape=[1, 1])
        settle(making, node, name, NCHW)
        return
    order = plain(len(shape))
    given, flat = real(making, value, order), len(shape) == 2
    if not flat:
        rows = numbers(making, (-1, shape[-1]), f"{node.output}.rows.shape")
        given = add(making, "Reshape", [given, rows], f"{node.output}.rows")
    weights = kernels.kernel(making, kernel, (1, 0), rows=kernels.rows(making, value))
    wanted = working(making, node, order, then=not flat)
    name = add(making, "Gemm", [given, weights, bias], wanted, transB=1)
    settle(making, node, name, order, None if flat else making.graph.values[node.output].shape)


def of_channels(making: Making, node: Node) -> bool:
    """Says whether a node adds to or multiplies images of integers by a constant per channel."""
    constants = [name for name in node.inputs if name in making.graph.constants]
    if node.output not in making.graph.grids or node.operation not in ("add", "mul"):
        return False
    shape = making.graph.values[node.output].shape
    if len(shape) != 4 or len(constants) != 1:
        return False
    array = making.graph.constants[constants[0]]
    (value,) = (name for name in node.inputs if name not in constants)
    whole = making.graph.values[value].shape == shape and bool(np.isfinite(array).all())
    return whole and array.size == shape[-1] > 1 and array.shape[-1] == shape[-1]


def channels(making: Making, node: Node) -> None:
    """Adds a Conv of one pixel and one channel for what `of_channels` finds.

    The engines have integers for it. A factor c is ±1 × |c|; beside a term, 127 × (1 / 127)
    multiplies, so that the term is rounded to 1 / 127 of the input's step.
    """
    value, name = sorted(node.inputs, key=lambda name: name in making.graph.constants)
    array = making.graph.constants[name].reshape(-1)
    if node.operation == "mul":
        codes_, scales = np.sign(array), np.where(array == 0, 1, np.abs(array))
    else:
        codes_, scales = np.full(array.shape, 127), np.full(array.shape, np.float32(1) / 127)
    kernel = codes_.astype(np.int8).reshape(-1, 1, 1, 1)
    inputs = [
        real(making, value, NCHW),
        kernels.dequantized(making, kernel, scales, f"{node.output}.kernel"),
    ]
    if node.operation == "add":
        units = np.float32(making.graph.grids[value].scale) * scales
        inputs.append(kernels.rounded(making, node, array, units))
    wanted, groups = working(making, node, NCHW), len(array)
    name = add(making, "Conv", inputs, wanted, kernel_shape=[1, 1], group=groups)
    settle(making, node, name, NCHW)


def max_pool(making: Making, node: Node) -> None:
    """Adds a MaxPool, of codes if the output has the grid of its input."""
    (value,), grids = node.inputs, making.graph.grids
    _check_padding(node)
    if node.output in grids and grids[node.output] == grids.get(value):
        inputs = [codes(making, value, NCHW)]
        name = add(making, "MaxPool", inputs, f"{node.output}.codes", **_window(node))
        settle_codes(making, node, name, NCHW)
    else:
        inputs = [real(making, value, NCHW)]
        name = add(making, "MaxPool", inputs, working(making, node, NCHW), **_window(node))
        settle(making, node, name, NCHW)


def average_pool(making: Making, node: Node) -> None:
    """Adds an AveragePool that counts the zeros of its padding.

    Integers are padded by a node of their own: OpenVINO's average takes the code 0 for padding.
    """
    _check_padding(node)
    (value,), window = node.inputs, _window(node)
    found, given = making.graph.grids.get(value), ""
    if found and any(window["pads"]):
        top, left, bottom, right = window.pop("pads")
        amounts = numbers(making, (0, 0, top, left, 0, 0, bottom, right), f"{node.output}.pads")
        names = grid(making, found, value)
        given = add(
            making, "Pad", [codes(making, value, NCHW), amounts, names[1]], f"{node.output}.padded"
        )
        given = add(making, "DequantizeLinear", [given, *names], f"{node.output}.padded")
    given = given or real(making, value, NCHW)
    wanted = working(making, node, NCHW)
    name = add(making, "AveragePool", [given], wanted, count_include_pad=1, **window)
    settle(making, node, name, NCHW)


def _window(node: Node) -> dict[str, list[int]]:
    return {
        "kernel_shape": list(node.attributes["window"]),
        "strides": list(node.attributes["strides"]),
        "pads": _pads(node),
    }


def _check_padding(node: Node) -> None:
    window, padding = node.attributes["window"], node.attributes["padding"]
    if any(max(pair) >= size for pair, size in zip(padding, window, strict=True)):
        raise Unsupported("ONNX", node, "its padding is as wide as its window")
