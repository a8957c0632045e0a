"""A graph as text of 80 columns, and what its operations cost. Read `table`."""

import math
from collections.abc import Sequence

from deploy.graphs.graph import Graph, Node

WIDTH = 80
HEADER = ("operation", "name", "output", "multiply-adds", "parameters")


def table(graph: Graph) -> str:
    """Returns a line for each operation, and the totals, in lines of at most 80 columns.

    Multiply-adds are those of one batch, as `groundwork.traced.macs` counts them. Parameters are
    entries of constants, those of folded layers; a constant counts where it is first read. What a
    line has no room for of a name stands in further lines.
    """
    costs = list(zip(_macs(graph), _parameters(graph), strict=True))
    rows = [
        (node.operation, node.output, _shape(graph, node), *map(_number, cost))
        for node, cost in zip(graph.nodes, costs, strict=True)
    ]
    totals = [_number(sum(cost[place] for cost in costs)) for place in (0, 1)]
    rows.append(("total", f"{len(graph.nodes)} operations", "", *totals))
    sizes = [max(len(row[column]) for row in (HEADER, *rows)) for column in range(len(HEADER))]
    sizes[1] = min(sizes[1], max(8, WIDTH - sum(sizes) + sizes[1] - 2 * (len(HEADER) - 1)))
    lines = [*_lines(HEADER, sizes), "─" * (sum(sizes) + 2 * (len(HEADER) - 1))]
    for row in rows:
        lines += _lines(row, sizes)
    return "\n".join(line.rstrip() for line in lines)


def _macs(graph: Graph) -> list[int]:
    """Returns the multiply-adds of each operation; only products have some."""
    return [multiply_adds(graph, node) for node in graph.nodes]


def _parameters(graph: Graph) -> list[int]:
    """Returns the entries of the constants that each operation is the first to read."""
    seen: set[str] = set()
    found = []
    for node in graph.nodes:
        names = {name for name in node.inputs if name in graph.constants} - seen
        found.append(sum(graph.constants[name].size for name in names))
        seen |= names
    return found


def multiply_adds(graph: Graph, node: Node) -> int:
    """Returns the multiply-adds of an operation of a graph."""
    outputs = math.prod(graph.values[node.output].shape)
    match node.operation:
        case "conv":
            return outputs * math.prod(graph.values[node.inputs[1]].shape[:3])
        case "dense":
            return outputs * graph.values[node.inputs[1]].shape[0]
        case "matmul":
            return outputs * graph.values[node.inputs[0]].shape[-1]
    return 0


def _shape(graph: Graph, node: Node) -> str:
    return "×".join(map(str, graph.values[node.output].shape))


def _number(count: int) -> str:
    return f"{count:,}" if count else ""


def _lines(row: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """Returns a row; its name may go on in further lines."""
    name, lines = row[1], []
    while len(name) > sizes[1]:
        place = name.rfind("/", 0, sizes[1]) + 1 or sizes[1]
        lines.append(name[:place])
        name = name[place:]
    parts = [*lines, name]
    first = [row[0], parts[0], *row[2:]]
    aligned = [cell.ljust(n) for cell, n in zip(first[:3], sizes[:3], strict=True)]
    aligned += [cell.rjust(n) for cell, n in zip(first[3:], sizes[3:], strict=True)]
    below = [" " * (sizes[0] + 2) + part for part in parts[1:]]
    return ["  ".join(aligned), *below]
