"""A graph of floats as one of integers, by the grids of its layers' inputs alone.

A compressed network (`compress.form`) rounds the inputs of its layers to 8 bits, and nothing else.
What lies between (a sum before its ReLU, the logits) has no grid there. It becomes an integer of up
to 24 bits, on a grid that spans all that the value can be, so that it loses nothing that 8 bits
later would show.
"""

# B batch of the graph, O outputs of a layer

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from deploy.graphs.graph import FREE, Graph, Grid, Node, Unsupported, readers

ENGINE = "int8"
WIDE = 24  # bits of what no grid was given for
ROOM = 30  # bits that sums of them over pixels have
ALIKE = ("reshape", "max_pool", "slice", "channel_shuffle")
"""Operations whose results are entries of their input: rounded before or after, they are equal."""
SAME = (*ALIKE, "pad", "average_pool", "clip")
"""Operations whose results lie where their input lies."""

Span = tuple[float, float]


def with_layer_grids(graph: Graph, grids: Mapping[str, Grid]) -> Graph:
    """Returns a graph of integers.

    Args:
      graph: without grids, whose kernels all have integers.
      grids: path of each layer → grid of its inputs, of 8 bits.

    Raises:
      ValueError: a layer has no grid; an input of the network has none; an operation has no bounds
        by those of its inputs (`Unsupported`).
    """
    graph = _separated(graph, grids)
    found = {
        node.inputs[0]: grids[node.layer]
        for node in graph.nodes
        if node.operation in ("conv", "dense")
    }
    reading = readers(graph)
    for node in reversed(graph.nodes):
        first = node.inputs[0]
        alike = node.operation in ALIKE or (node.operation == "pad" and not _fill(node))
        if alike and node.output in found and len(reading[first]) == 1:
            found.setdefault(first, found[node.output])
    for name in graph.inputs:
        if name not in found:
            raise ValueError(f"the network's input {name!r} is no layer's: it has no grid")
    return dataclasses.replace(graph, grids=_with_wide(graph, found, reading))


def _fill(node: Node) -> float:
    return float(node.attributes.get("value", 0.0))


def _separated(graph: Graph, grids: Mapping[str, Grid]) -> Graph:
    """Returns the graph with a value of its own for each grid on which layers take one."""
    nodes: list[Node] = []
    values = dict(graph.values)
    wanted: dict[str, list[Grid]] = {}
    for node in graph.nodes:
        if node.operation in ("conv", "dense"):
            if node.layer not in grids:
                raise ValueError(f"the inputs of layer {node.layer!r} have no grid")
            known = wanted.setdefault(node.inputs[0], [])
            if grids[node.layer] not in known:
                known.append(grids[node.layer])
    for node in graph.nodes:
        if node.operation in ("conv", "dense") and len(wanted[node.inputs[0]]) > 1:
            first, *rest = node.inputs
            place = wanted[first].index(grids[node.layer])
            name = f"{first}/grid_{place}"
            if name not in values:
                if first in graph.inputs:
                    raise ValueError(f"layers take the input {first!r} on several grids")
                values[name] = graph.values[first]
                nodes.append(
                    Node(
                        operation="clip",
                        inputs=(first,),
                        output=name,
                        attributes={"bounds": FREE},
                        layer=node.layer,
                    )
                )
            node = dataclasses.replace(node, inputs=(name, *rest))
        nodes.append(node)
    return dataclasses.replace(graph, nodes=tuple(nodes), values=values)


def _with_wide(
    graph: Graph, found: Mapping[str, Grid], reading: Mapping[str, Sequence[Node]]
) -> dict[str, Grid]:
    """Returns the grids of all values, those that are missing by what the values can be."""
    grids, spans = dict(found), {name: _span(grid) for name, grid in found.items()}
    for node in graph.nodes:
        name = node.output
        if name in grids:
            continue
        given = [_of(graph, spans, one) for one in node.inputs]
        if node.operation in SAME and not _fill(node):
            grids[name], spans[name] = grids[node.inputs[0]], _bounded(given[0], node)
            continue
        low, high = _bounded(_reach(graph, node, given), node)
        spans[name] = min(low, 0.0), max(high, 0.0)
        bits = _bits(graph, reading, name)
        largest = max(-spans[name][0], spans[name][1]) or 1.0
        scale = np.float32(largest * (1 + 2.0**-20) / (2 ** (bits - 1) - 1))
        grids[name] = Grid(float(scale), 0, bits)
    return grids


def _span(grid: Grid) -> Span:
    return (grid.lowest - grid.zero) * grid.scale, (grid.highest - grid.zero) * grid.scale


def _of(graph: Graph, spans: Mapping[str, Span], name: str) -> Span:
    if name in spans:
        return spans[name]
    array = graph.constants[name]
    return float(np.min(array, initial=0)), float(np.max(array, initial=0))


def _bits(graph: Graph, reading: Mapping[str, Sequence[Node]], name: str) -> int:
    """Returns the most bits for a value, with which all that is added up of it has room."""
    most = WIDE
    for node in reading[name]:
        shape, count = graph.values[name].shape, 1
        if node.operation in ("mean", "sum"):
            count = math.prod(shape[axis] for axis in node.attributes["axes"])
        elif node.operation == "average_pool":
            count = math.prod(node.attributes["window"])
        most = min(most, max(9, ROOM + 1 - max(count - 1, 1).bit_length()))
        if node.operation in SAME:
            most = min(most, _bits(graph, reading, node.output))
    return most


def _bounded(span: Span, node: Node) -> Span:
    low, high = node.attributes.get("bounds", FREE)
    return min(max(span[0], low), high), max(min(span[1], high), low)


def _reach(graph: Graph, node: Node, given: Sequence[Span]) -> Span:
    """Returns between which numbers a value lies, whatever the network is given."""
    (low, high), *rest = given
    match node.operation:
        case "conv" | "dense":
            kernel = np.asarray(graph.constants[node.inputs[1]], np.float64)
            bias = np.asarray(graph.constants[node.inputs[2]], np.float64)
            axes = tuple(range(kernel.ndim - 1))
            up, down = np.maximum(kernel, 0).sum(axes), np.minimum(kernel, 0).sum(axes)
            return (
                float((up * low + down * high + bias).min()),
                float((up * high + down * low + bias).max()),
            )
        case "add":
            return low + rest[0][0], high + rest[0][1]
        case "sub":
            return low - rest[0][1], high - rest[0][0]
        case "sum":
            shape = graph.values[node.inputs[0]].shape
            count = math.prod(shape[axis] for axis in node.attributes["axes"])
            return low * count, high * count
        case "mean" | "clip" | "concat" | "pad":
            lows, highs = zip(*given, strict=True)
            return min(*lows, _fill(node), 0.0), max(*highs, _fill(node), 0.0)
    raise Unsupported(ENGINE, node, "load the file without compute='int8'")
