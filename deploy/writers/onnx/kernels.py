"""Kernels and biases of the file: floats, or integers behind DequantizeLinear."""

import numpy as np

from deploy.graphs.graph import Node, Unsupported
from deploy.writers.onnx.file import Making, Order, add, constant, once, plain
from deploy.writers.onnx.values import order_of, real


def kernel(
    making: Making,
    name: str,
    order: Order,
    window: tuple[int, ...] = (),
    rows: np.ndarray | None = None,
) -> str:
    """Returns the name of a kernel, outputs first; of integers, through DequantizeLinear.

    Args:
      making: what is being written.
      name: of the constant in the graph.
      order: which of its axes stands where.
      window: further axes at the end.
      rows: which row of the first axis stands where.
    """

    def arranged(array: np.ndarray) -> np.ndarray:
        array = (array if rows is None else array[rows]).transpose(order)
        return array.reshape(array.shape + window)

    form = "" if rows is None else ".rows"
    stored = making.graph.stored.get(name)
    if stored is None or not making.graph.grids:
        suffix = "x".join(map(str, order + window))
        array = making.graph.constants[name]
        return once(making, f"{name}.{suffix}{form}", lambda: arranged(array))
    wanted = f"{name}.{len(order + window)}d{form}"
    if wanted in making.names:
        return wanted
    return dequantized(making, arranged(stored.codes), stored.scales, wanted)


def bias(making: Making, node: Node) -> str:
    """Returns the name of a layer's bias; of integers, as multiples of the product's own scale."""
    value, kernel, name = node.inputs
    stored, grid = making.graph.stored.get(kernel), making.graph.grids.get(value)
    if stored is None or grid is None:
        return real(making, name)
    array = making.graph.constants[name]
    return rounded(making, node, array, np.float32(grid.scale) * stored.scales)


def rounded(making: Making, node: Node, array: np.ndarray, scales: np.ndarray) -> str:
    """Returns the name of a bias as int32 multiples of scales [O]."""
    units = np.rint(array.astype(np.float64) / scales)
    if np.abs(units).max(initial=0) >= 2**31:
        raise Unsupported("ONNX", node, "its bias exceeds 32 bits in the units of its kernel")
    return dequantized(making, units.astype(np.int32), scales, f"{node.output}.bias")


def dequantized(making: Making, codes: np.ndarray, scales: np.ndarray, wanted: str) -> str:
    """Adds integers whose first axis has the scales."""
    parts = {"codes": codes, "scales": scales, "zeros": np.zeros(len(scales), codes.dtype)}
    names = [constant(making, array, f"{wanted}.{name}") for name, array in parts.items()]
    return add(making, "DequantizeLinear", names, wanted, axis=0)


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


def rows(making: Making, value: str) -> np.ndarray | None:
    """Returns which rows of a kernel stand where for a flattened value; None as they are."""
    source = next((n for n in making.graph.nodes if n.output == value), None)
    if source is None or source.operation != "reshape" or not absorbed(making, source):
        return None
    given = making.graph.values[source.inputs[0]].shape
    entries = np.arange(int(np.prod(given[1:]))).reshape((1, *given[1:]))
    return entries.transpose(order_of(making, source.inputs[0])).reshape(-1)
