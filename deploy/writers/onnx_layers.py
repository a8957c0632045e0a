"""Rules for what has kernels or windows: convolutions, dense layers and pooling."""

import numpy as np

from deploy.graphs.graph import Node, Unsupported
from deploy.writers.onnx_file import NCHW, Making, Order, add, numbers, once, plain
from deploy.writers.onnx_values import codes, grid, order_of, real, settle, settle_codes, working

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
            _kernel(making, kernel, OIHW),
            _bias(making, node),
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
    bias = _bias(making, node)
    if order_of(making, value) == NCHW:
        weights = _kernel(making, kernel, (1, 0), (1, 1))
        inputs = [real(making, value), weights, bias]
        name = add(making, "Conv", inputs, working(making, node, NCHW), kernel_shape=[1, 1])
        settle(making, node, name, NCHW)
        return
    order = plain(len(shape))
    given, flat = real(making, value, order), len(shape) == 2
    if not flat:
        rows = numbers(making, (-1, shape[-1]), f"{node.output}.rows.shape")
        given = add(making, "Reshape", [given, rows], f"{node.output}.rows")
    weights = _kernel(making, kernel, (1, 0), rows=_rows(making, value))
    wanted = working(making, node, order, then=not flat)
    name = add(making, "Gemm", [given, weights, bias], wanted, transB=1)
    settle(making, node, name, order, None if flat else making.graph.values[node.output].shape)


def absorbed(making: Making, node: Node) -> bool:
    """Says whether a reshape of images to [B, H · W · C] needs no transpose.

    That holds if dense layers alone read it: their kernels' rows then stand in the images' order.
    """
    (value,) = node.inputs
    given, shape = making.graph.values[value].shape, making.graph.values[node.output].shape
    alone = node.output not in making.graph.outputs and all(
        reader.operation == "dense" and reader.inputs[1] != node.output
        for reader in making.graph.nodes
        if node.output in reader.inputs
    )
    order = order_of(making, value)
    return (
        alone
        and order[0] == 0
        and order != plain(len(order))
        and shape == (given[0], int(np.prod(given[1:])))
    )


def _rows(making: Making, value: str) -> np.ndarray | None:
    """Returns which rows of a kernel stand where for a flattened value; None as they are."""
    source = next((n for n in making.graph.nodes if n.output == value), None)
    if source is None or source.operation != "reshape" or not absorbed(making, source):
        return None
    given = making.graph.values[source.inputs[0]].shape
    entries = np.arange(int(np.prod(given[1:]))).reshape((1, *given[1:]))
    return entries.transpose(order_of(making, source.inputs[0])).reshape(-1)


def _kernel(
    making: Making,
    kernel: str,
    order: Order,
    window: tuple[int, ...] = (),
    rows: np.ndarray | None = None,
) -> str:
    """Returns the name of a kernel, outputs first; of integers, through DequantizeLinear.

    Args:
      making: what is being written.
      kernel: a constant of the graph.
      order: which of its axes stands where.
      window: further axes at the end.
      rows: which row of the first axis stands where.
    """

    def arranged(array: np.ndarray) -> np.ndarray:
        array = (array if rows is None else array[rows]).transpose(order)
        return array.reshape(array.shape + window)

    form = "" if rows is None else ".rows"
    stored = making.graph.stored.get(kernel)
    if stored is None or not making.graph.grids:
        suffix = "x".join(map(str, order + window))
        name = f"{kernel}.{suffix}{form}"
        return once(making, name, lambda: arranged(making.graph.constants[kernel]))
    name = f"{kernel}.{len(order + window)}d{form}"
    if name in making.names:
        return name
    inputs = [
        once(making, f"{name}.codes", lambda: arranged(stored.codes)),
        once(making, f"{kernel}.scales", lambda: stored.scales),
        once(making, f"{kernel}.zeros", lambda: np.zeros(len(stored.scales), np.int8)),
    ]
    return add(making, "DequantizeLinear", inputs, name, axis=0)


def _bias(making: Making, node: Node) -> str:
    """Returns the name of a bias; of integers, as multiples of the product's own scale."""
    value, kernel, bias = node.inputs
    stored, grid = making.graph.stored.get(kernel), making.graph.grids.get(value)
    if stored is None or grid is None:
        return real(making, bias)
    scales = (np.float32(grid.scale) * stored.scales).astype(np.float32)
    units = np.rint(making.graph.constants[bias].astype(np.float64) / scales)
    if np.abs(units).max(initial=0) >= 2**31:
        raise Unsupported("ONNX", node, "its bias exceeds 32 bits in the units of its kernel")
    inputs = [
        once(making, f"{node.output}.bias.codes", lambda: units.astype(np.int32)),
        once(making, f"{node.output}.bias.scales", lambda: scales),
        once(making, f"{node.output}.bias.zeros", lambda: np.zeros(len(scales), np.int32)),
    ]
    return add(making, "DequantizeLinear", inputs, f"{node.output}.bias", axis=0)


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
