"""Rules for Core ML of what is computed entry by entry."""

from typing import Any

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from deploy.graphs.graph import Graph, Node, Unsupported
from deploy.writers.coreml.values import Rule, bounded, clipped, operand, order, word

TINY = float(np.finfo(np.float32).tiny)  # is added before logarithms and roots, by default 1e-12


def of_two(make: Any) -> Rule:
    """Returns the rule of an operation of two values, of which one may be a constant."""

    def rule(graph: Graph, node: Node, *given: Any) -> Any:
        x, y = (operand(graph, node, value) for value in given)
        if len({one.rank for one in (x, y) if not isinstance(one, np.ndarray)}) > 1:
            raise Unsupported("Core ML", node, "of values with different numbers of axes")
        return bounded(node, lambda name: make(x=x, y=y, name=name))

    return rule


def of_one(make: Any, **options: Any) -> Rule:
    """Returns the rule of an operation of one value."""

    def rule(graph: Graph, node: Node, x: Any) -> Any:
        return make(x=x, name=word(node.output), **options)

    return rule


def negative(graph: Graph, node: Node, x: Any) -> Any:
    """A product with −1."""
    return mb.mul(x=x, y=np.float32(-1), name=word(node.output))


def clip(graph: Graph, node: Node, x: Any) -> Any:
    """Bounds."""
    low, high = node.attributes["bounds"]
    return clipped(x, low, high, word(node.output))


def cast(graph: Graph, node: Node, x: Any) -> Any:
    """Another type."""
    names = {"float32": "fp32", "int32": "int32", "bool": "bool"}
    if node.attributes["dtype"] not in names:
        raise Unsupported("Core ML", node, f"to {node.attributes['dtype']}")
    return mb.cast(x=x, dtype=names[node.attributes["dtype"]], name=word(node.output))


def where(graph: Graph, node: Node, *given: Any) -> Any:
    """A choice; the operands are repeated until they have the output's shape."""
    shape = graph.values[node.output].shape
    sizes, whole = [shape[axis] for axis in order(len(shape))], []
    for place, value in enumerate(given):
        x = operand(graph, node, value)
        if isinstance(x, np.ndarray):
            x = np.ascontiguousarray(np.broadcast_to(x, sizes))
        elif x.rank != len(sizes):
            raise Unsupported("Core ML", node, "of values with different numbers of axes")
        elif list(x.shape) != sizes:
            repeats = [size // own for size, own in zip(sizes, x.shape, strict=True)]
            x = mb.tile(x=x, reps=repeats, name=f"{word(node.output)}_operand_{place}")
        whole.append(x)
    condition, a, b = whole
    return mb.select(cond=condition, a=a, b=b, name=word(node.output))
