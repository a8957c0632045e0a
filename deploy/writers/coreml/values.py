"""What the rules of Core ML's programs share: names, orders of axes, operands, kernels, bounds."""

import math
import re
from collections.abc import Callable
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from deploy.graphs.graph import FREE, Graph, Node

TARGET = ct.target.iOS16
Rule = Callable[..., Any]
"""(graph, node, an operand for each of its inputs) → the program's value.

An operand is a value of the program, or the name of a constant.
"""


def word(name: str) -> str:
    """Returns a name as Core ML allows it."""
    changed = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return changed if changed[:1].isalpha() else f"v_{changed}"


def order(rank: int) -> tuple[int, ...]:
    """Returns a value's axes in the order in which the program has them."""
    return (0, 3, 1, 2) if rank == 4 else tuple(range(rank))


def first(x: Any, name: str) -> Any:
    """Returns an image with its channels first, and anything else as it is."""
    return mb.transpose(x=x, perm=[0, 3, 1, 2], name=name) if x.rank == 4 else x


def last(x: Any, name: str) -> Any:
    """Returns an image with its channels last, and anything else as it is."""
    return mb.transpose(x=x, perm=[0, 2, 3, 1], name=name) if x.rank == 4 else x


def operand(graph: Graph, node: Node, given: Any) -> Any:
    """Returns a value of the program; a constant has as many axes as the output then."""
    if not isinstance(given, str):
        return given
    array, rank = graph.constants[given], len(graph.values[node.output].shape)
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return np.ascontiguousarray(array.transpose(order(rank)))


def kernel(graph: Graph, node: Node, at_pixels: bool) -> Any:
    """Returns a kernel, output channels first; as codes and scales if the graph has them.

    Args:
      graph: see `Graph`.
      node: `conv` or `dense`.
      at_pixels: whether it is that of a convolution, [O, I, h, w].
    """
    name = node.inputs[1]

    def turned(array: np.ndarray) -> np.ndarray:
        image = array if array.ndim == 4 else array[None, None]
        image = image.transpose(3, 2, 0, 1)
        return np.ascontiguousarray(image if at_pixels else image[:, :, 0, 0])

    if name not in graph.stored:
        return turned(graph.constants[name])
    return mb.constexpr_affine_dequantize(
        quantized_data=turned(graph.stored[name].codes),
        zero_point=np.int8(0),
        scale=np.asarray(graph.stored[name].scales, np.float32),
        axis=np.int32(0),
        name=f"{word(node.output)}_kernel",
    )


def bounded(node: Node, make: Callable[[str], Any]) -> Any:
    """Returns what `make` makes under a name, within the node's bounds."""
    low, high = node.attributes.get("bounds", FREE)
    name = word(node.output)
    if (low, high) == FREE:
        return make(name)
    return clipped(make(f"{name}_unbounded"), low, high, name)


def clipped(x: Any, low: float, high: float, name: str) -> Any:
    """Returns a value within bounds."""
    if (low, high) == (0, math.inf):
        return mb.relu(x=x, name=name)
    largest = np.finfo(np.float32).max
    low, high = np.clip([low, high], -largest, largest)
    return mb.clip(x=x, alpha=np.float32(low), beta=np.float32(high), name=name)
