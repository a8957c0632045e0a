"""Rules of products for Core ML: conv, dense, matmul, gather."""

from typing import Any

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from deploy.graphs.graph import Graph, Node, Unsupported
from deploy.writers.coreml.values import bounded, first, kernel, last, word


def conv(graph: Graph, node: Node, x: Any, *_: str) -> Any:
    """A convolution with its bias and its bounds."""
    options = node.attributes
    (top, bottom), (left, right) = options["padding"]
    settings = dict(
        strides=list(options["strides"]),
        pad_type="custom",
        pad=[top, bottom, left, right],
        dilations=list(options["dilation"]),
        groups=int(options["groups"]),
    )
    return _convolution(graph, node, x, settings)


def dense(graph: Graph, node: Node, x: Any, *_: str) -> Any:
    """A product with a matrix, of rows or at every pixel, with its bias and its bounds."""
    if x.rank > 4:
        raise Unsupported("Core ML", node, f"of {x.rank} axes")
    if x.rank == 4:
        return _convolution(graph, node, x, {"pad_type": "valid"})
    rows, bias = kernel(graph, node, at_pixels=False), graph.constants[node.inputs[2]]
    return bounded(node, lambda name: mb.linear(x=x, weight=rows, bias=bias, name=name))


def matmul(graph: Graph, node: Node, *given: Any) -> Any:
    """Products of matrices, which are no images."""
    name = word(node.output)
    x, y = (
        graph.constants[value] if isinstance(value, str) else last(value, f"{name}_operand_{index}")
        for index, value in enumerate(given)
    )
    if len(graph.values[node.output].shape) != 4:
        return mb.matmul(x=x, y=y, name=name)
    return first(mb.matmul(x=x, y=y, name=f"{name}_in_order"), name)


def gather(graph: Graph, node: Node, table: Any, indices: Any) -> Any:
    """Rows of a table of constants."""
    if not isinstance(table, str) or isinstance(indices, str):
        raise Unsupported("Core ML", node, "from what is no table of constants")
    name = word(node.output)
    indices = last(indices, f"{name}_indices")
    rank = len(graph.values[node.output].shape)
    made = mb.gather(
        x=np.asarray(graph.constants[table]),
        indices=indices,
        axis=0,
        name=f"{name}_rows" if rank == 4 else name,
    )
    return first(made, name)


def _convolution(graph: Graph, node: Node, x: Any, settings: dict[str, Any]) -> Any:
    weight = kernel(graph, node, at_pixels=True)
    bias = graph.constants[node.inputs[2]]
    return bounded(node, lambda name: mb.conv(x=x, weight=weight, bias=bias, **settings, name=name))
