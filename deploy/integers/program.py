"""A graph of integers as a network that compiled code runs. Read `program` first.

Each node becomes what `deploy.integers.operations` does, with the same factors. Codes of 8 bits are
stored as uint8: 128 more than the graph's.
"""

# B batch of the graph, H W image, C O channels in and out

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from deploy.graphs.graph import FREE, Graph, Grid, Node, Unsupported, readers
from deploy.integers import fixed, tables
from deploy.integers.operations import ADDED_BITS
from groundwork.architectures.cpu import integers_nodes as made
from groundwork.architectures.cpu.integers_nodes import FLOAT, Factor, Network, Range, Weights

ENGINE = "int8"
NO_WEIGHTS: Weights = MappingProxyType({})
NO_PADDING = ((0, 0), (0, 0))


class Program(NamedTuple):
    """A network, the arrays of its nodes, and where the graph's outputs are."""

    network: Network
    weights: tuple[Weights, ...]
    outputs: tuple[int, ...]  # of each of the graph's outputs its place among the results


class Draft:
    """A network while it is made."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: list[made.Sizes] = []
        self.nodes: list[made.Node] = []
        self.weights: list[Weights] = []
        self.number: dict[str, int] = {}  # name of a value → its number
        self.grid: dict[int, Grid] = {}  # number → where it lies
        self.later: dict[str, Node] = {}  # output of a layer → the layer, part of a sum to come

    def value(self, sizes: tuple[int, int, int], grid: Grid | None) -> int:
        """Returns the number of a new value."""
        number = len(self.values)
        self.values.append((*sizes, FLOAT if grid is None else 8 if grid.bits == 8 else 32))
        if grid is not None:
            self.grid[number] = grid
        return number

    def add(
        self,
        work: made.Work,
        inputs: Sequence[int],
        sizes: tuple[int, int, int],
        grid: Grid,
        weights: Weights = NO_WEIGHTS,
    ) -> int:
        """Returns the number of what a new node makes."""
        number = self.value(sizes, grid)
        self.nodes.append(made.Node(work, tuple(inputs), number))
        self.weights.append(weights)
        return number

    def view(self, number: int, sizes: tuple[int, int, int]) -> int:
        """Returns a value as an image of other sizes."""
        if self.values[number][:3] == sizes:
            return number
        return self.add(made.View(), [number], sizes, self.grid[number])

    def moved(self, number: int, grid: Grid, bounds: Sequence[float] = FREE) -> int:
        """Returns a value on another grid, within bounds."""
        old = self.grid[number]
        if old == grid and tuple(bounds) == FREE:
            return number
        factor = _factor(_scale(old) / _scale(grid))
        work = made.Scale(_zero(old), factor, limits(grid, bounds))
        return self.add(work, [number], self.values[number][:3], grid)


def program(graph: Graph) -> Program:
    """Returns a graph with grids as a network.

    Raises:
      Unsupported: an operation has no compiled form, or mixes the examples of a batch; the error
        names the layer.
      ValueError: see `fixed.parameters`.
    """
    draft = Draft(graph)
    for name in graph.inputs:
        if graph.values[name].dtype != "float32":
            raise ValueError(f"{ENGINE} takes inputs of float32, not {graph.values[name].dtype}")
        draft.value(_sizes(graph, name), None)
    for place, name in enumerate(graph.inputs):
        grid = graph.grids[name]
        work = made.Round(float(np.float32(grid.scale)), limits(grid))
        scale = {"scale": np.asarray(grid.scale, np.float32)}
        draft.number[name] = draft.add(work, [place], _sizes(graph, name), grid, scale)
    reading = readers(graph)
    for node in graph.nodes:
        if node.operation in ("conv", "dense") and _waits(graph, node, reading[node.output]):
            draft.later[node.output] = node
            continue
        rule = RULES.get(node.operation)
        if rule is None:
            raise Unsupported(ENGINE, node)
        draft.number[node.output] = rule(draft, node)
    places, results = [], list[int]()
    views = {one.result: one.inputs[0] for one in draft.nodes if isinstance(one.work, made.View)}
    for name in graph.outputs:
        number = draft.number[name]
        while number in views:
            number = views[number]
        if number not in results:
            results.append(number)
        places.append(results.index(number))
    network = Network(tuple(draft.values), len(graph.inputs), tuple(results), tuple(draft.nodes))
    return Program(network, tuple(draft.weights), tuple(places))


def limits(grid: Grid, bounds: Sequence[float] = FREE) -> Range:
    """Returns the codes of zero and of both bounds, as they are stored."""
    low, high = fixed.code_bounds(bounds, grid)
    return Range(_zero(grid), low + _raise(grid), high + _raise(grid))


def _raise(grid: Grid) -> int:
    return 128 if grid.bits == 8 else 0


def _zero(grid: Grid) -> int:
    return grid.zero + _raise(grid)


def _scale(grid: Grid) -> float:
    return float(np.float32(grid.scale))


def _factor(real: float) -> Factor:
    found = fixed.factor(real)
    return Factor(int(found.mantissa), int(found.shift))


def _sizes(graph: Graph, name: str) -> tuple[int, int, int]:
    """Returns height, width and channels of a value."""
    shape = graph.values[name].shape
    if len(shape) == 4:
        return shape[1], shape[2], shape[3]
    return 1, math.prod(shape[1:-1]), shape[-1] if len(shape) > 1 else 1


def _waits(graph: Graph, node: Node, reading: Sequence[Node]) -> bool:
    """Returns whether a layer becomes part of the sum that alone reads it."""
    if len(reading) != 1 or reading[0].operation != "add" or node.output in graph.outputs:
        return False
    names = reading[0].inputs
    others = [name for name in names if name != node.output]
    if len(others) != 1 or others[0] in graph.constants:
        return False
    if graph.values[others[0]].shape != graph.values[node.output].shape:
        return False
    if others[0] in graph.inputs:
        return True
    place = {one.output: at for at, one in enumerate(graph.nodes)}
    return place[others[0]] < place[node.output]  # the later one of two layers


def _product(draft: Draft, node: Node, ends: Node | None = None) -> int:
    """A convolution or a dense layer; with `ends` a sum, too."""
    graph = draft.graph
    x, result = draft.number[node.inputs[0]], (ends or node).output
    if draft.grid[x].bits != 8:
        bits = draft.grid[x].bits
        raise Unsupported(ENGINE, node, f"its input has {bits} bits: give it a grid of 8")
    codes, scales, bias = fixed.parameters(graph, node)
    own, grid = graph.grids[node.output], graph.grids[result]
    factors = fixed.factor(_scale(draft.grid[x]) * scales / _scale(own))
    if node.operation == "dense":
        *_, wide = draft.values[x][:3]
        count = math.prod(draft.values[x][:2]) * wide // len(codes)
        x = draft.view(x, (1, count, len(codes)))
        codes, sizes = codes[None, None], (1, count, codes.shape[-1])
    else:
        sizes = _sizes(graph, node.output)
    options = node.attributes
    (top, bottom), (before, after) = options.get("padding", NO_PADDING)
    work = made.Product(
        kernel=codes.shape,
        groups=options.get("groups", 1),
        strides=tuple(options.get("strides", (1, 1))),
        padding=((int(top), int(bottom)), (int(before), int(after))),
        dilation=tuple(options.get("dilation", (1, 1))),
        zero=_zero(draft.grid[x]),
        left=bool(np.any(factors.shift > 0)),
        range=limits(own, options.get("bounds", FREE)),
    )
    inputs = [x]
    if ends is not None:
        (other,) = (name for name in ends.inputs if name != node.output)
        number = draft.view(draft.number[other], sizes)
        bounds = ends.attributes.get("bounds", FREE)
        work = work._replace(sum=_sum_of(own, draft.grid[number], 1, grid, bounds))
        inputs.append(number)
    weights = {
        "kernel": codes,
        "bias": bias,
        "mantissa": factors.mantissa.astype(np.int32),
        "shift": factors.shift.astype(np.int32),
    }
    return draft.view(draft.add(work, inputs, sizes, grid, weights), _sizes(graph, result))


def _sum_of(own: Grid, other: Grid, sign: int, grid: Grid, bounds: Sequence[float]) -> made.Sum:
    """Returns the sum of two values, as `operations._sum_of_two` has it."""
    extra = [one.bits - 8 for one in (own, other)]
    scales = [_scale(one) * 2**bits for one, bits in zip((own, other), extra, strict=True)]
    common = 2 * max(scales)
    return made.Sum(
        own_zero=_zero(own),
        own_shift=ADDED_BITS - extra[0],
        other_zero=_zero(other),
        other_shift=ADDED_BITS - extra[1],
        sign=sign,
        own=_factor(scales[0] / common),
        other=_factor(scales[1] / common),
        whole=_factor(common / 2**ADDED_BITS / _scale(grid)),
        range=limits(grid, bounds),
    )


def _sum(draft: Draft, node: Node) -> int:
    graph = draft.graph
    for name in node.inputs:
        if name in draft.later:
            return _product(draft, draft.later[name], node)
    shapes = {graph.values[name].shape for name in node.inputs}
    if any(name in graph.constants for name in node.inputs) or len(shapes) != 1:
        raise Unsupported(ENGINE, node, "one of its operands is a constant, or is repeated")
    one, two = (draft.number[name] for name in node.inputs)
    sign, grid = 1 if node.operation == "add" else -1, graph.grids[node.output]
    bounds = node.attributes.get("bounds", FREE)
    work = _sum_of(draft.grid[one], draft.grid[two], sign, grid, bounds)
    return draft.add(work, [one, two], _sizes(graph, node.output), grid)


def _clip(draft: Draft, node: Node) -> int:
    grid = draft.graph.grids[node.output]
    return draft.moved(draft.number[node.inputs[0]], grid, node.attributes["bounds"])


def _table(draft: Draft, node: Node) -> int:
    x, grid = draft.number[node.inputs[0]], draft.graph.grids[node.output]
    if draft.grid[x].bits != 8 or grid.bits != 8:
        raise Unsupported(ENGINE, node, "it needs values of 8 bits")
    codes = np.arange(fixed.LOWEST, fixed.HIGHEST + 1).astype(np.int8)
    found = tables.looked_up(node.operation, codes, draft.grid[x], grid)
    table = {"table": (found.astype(np.int64) + 128).astype(np.uint8)}
    return draft.add(made.Table(), [x], draft.values[x][:3], grid, table)


def _pool(draft: Draft, node: Node) -> int:
    x, options = draft.number[node.inputs[0]], node.attributes
    grid, average = draft.grid[x], node.operation == "average_pool"
    (top, _), (left, _) = options["padding"]
    work = made.Pool(
        average=average,
        window=tuple(options["window"]),
        strides=tuple(options["strides"]),
        before=(int(top), int(left)),
        fill=_zero(grid) if average else limits(grid).low,
        range=limits(grid),
    )
    pooled = draft.add(work, [x], _sizes(draft.graph, node.output), grid)
    return draft.moved(pooled, draft.graph.grids[node.output])


def _total(draft: Draft, node: Node) -> int:
    graph, x = draft.graph, draft.number[node.inputs[0]]
    shape, axes = graph.values[node.inputs[0]].shape, tuple(node.attributes["axes"])
    if len(shape) != 4 or axes != (1, 2):
        raise Unsupported(ENGINE, node, f"over the axes {axes} of {len(shape)}")
    count = shape[1] * shape[2] if node.operation == "mean" else 1
    grid = graph.grids[node.output]
    factor = _factor(_scale(draft.grid[x]) / count / _scale(grid))
    bounds = node.attributes.get("bounds", FREE)
    work = made.Total(_zero(draft.grid[x]), factor, limits(grid, bounds))
    return draft.add(work, [x], (1, 1, shape[3]), grid)


def _reshape(draft: Draft, node: Node) -> int:
    shape = draft.graph.values[node.output].shape
    if shape[:1] != draft.graph.values[node.inputs[0]].shape[:1]:
        raise Unsupported(ENGINE, node, "it moves the axis of the batch")
    number = draft.moved(draft.number[node.inputs[0]], draft.graph.grids[node.output])
    return draft.view(number, _sizes(draft.graph, node.output))


def _concat(draft: Draft, node: Node) -> int:
    graph, grid = draft.graph, draft.graph.grids[node.output]
    rank = len(graph.values[node.output].shape)
    constant = any(name in graph.constants for name in node.inputs)
    if node.attributes["axis"] not in (rank - 1, -1) or constant:
        raise Unsupported(ENGINE, node, "of another axis than channels, or with constants")
    parts = [draft.moved(draft.number[name], grid) for name in node.inputs]
    return draft.add(made.Join(), parts, _sizes(graph, node.output), grid)


def _pick(draft: Draft, node: Node, axes: list[tuple[int, int, int, int]], fill: float) -> int:
    """Rows, columns and channels of a value, or a value among others."""
    grid = draft.graph.grids[node.output]
    x = draft.moved(draft.number[node.inputs[0]], grid)
    batch, *rest = axes
    size = draft.graph.values[node.inputs[0]].shape[0]
    if batch != (0, 1, 0, size) or not 1 <= len(rest) <= 3:
        raise Unsupported(ENGINE, node, "it changes the axis of the batch, or has too many axes")
    rows, columns, channels = [(0, 1, 0, 1)] * (3 - len(rest)) + rest
    code = int(fixed.quantized(np.float32(fill), grid)) + _raise(grid)
    work = made.Pick(rows, columns, channels, code)
    return draft.add(work, [x], _sizes(draft.graph, node.output), grid)


def _slice(draft: Draft, node: Node) -> int:
    options, shape = node.attributes, draft.graph.values[node.output].shape
    axes = zip(options["begin"], options["strides"], [0] * len(shape), shape, strict=True)
    return _pick(draft, node, [tuple(map(int, axis)) for axis in axes], 0.0)  # type: ignore[misc]


def _pad(draft: Draft, node: Node) -> int:
    shape, pads = draft.graph.values[node.inputs[0]].shape, node.attributes["pads"]
    axes = [(0, 1, int(low), size) for (low, _), size in zip(pads, shape, strict=True)]
    if any(min(pair) < 0 for pair in pads):
        raise Unsupported(ENGINE, node, "it cuts")
    return _pick(draft, node, axes, node.attributes["value"])


def _shuffle(draft: Draft, node: Node) -> int:
    grid = draft.graph.grids[node.output]
    x = draft.moved(draft.number[node.inputs[0]], grid)
    return draft.add(made.Shuffle(node.attributes["groups"]), [x], draft.values[x][:3], grid)


Rule = Callable[[Draft, Node], int]
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": _product,
        "dense": _product,
        "add": _sum,
        "sub": _sum,
        "clip": _clip,
        **dict.fromkeys(tables.FUNCTIONS, _table),
        "max_pool": _pool,
        "average_pool": _pool,
        "mean": _total,
        "sum": _total,
        "reshape": _reshape,
        "concat": _concat,
        "pad": _pad,
        "slice": _slice,
        "channel_shuffle": _shuffle,
    }
)
