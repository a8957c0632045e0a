"""What ncnn's layers read and give, and how its files write numbers. Read `Layer` and `Plan`.

A value [B, …] is a blob without its batch: images [B, H, W, C] are [C, H, W], and what has another
number of axes keeps their order.
"""

# B batch, H W image, C channels

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from deploy.graphs.graph import Graph, Grid, Node, Unsupported, readers

Setting = int | float | tuple[int, ...] | tuple[float, ...]
FLOATS, CODES = 0x0, 0x000D4B38  # what stands before a layer's kernel in the file
MIXES = "it mixes the examples of a batch"
LARGEST = float(np.finfo(np.float32).max)


class Layer(NamedTuple):
    """One layer of ncnn.

    Attributes:
      kind: ncnn's name of what it does.
      inputs: names of the blobs that it reads.
      output: name of its blob.
      settings: ncnn's number of a setting → its value.
      numbers: its part of the file of numbers.
      name: its name in the file; empty for one that is made up.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    settings: Mapping[int, Setting]
    numbers: bytes = b""
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A graph, and what rules must know of other operations than their own.

    Attributes:
      graph: see `Graph`.
      flattened: values that keep the order C, H, W of an image of this shape, since the kernels of
        all products that read them are reordered instead.
      integers: outputs of convolutions that are given on as 8-bit integers.
    """

    graph: Graph
    flattened: Mapping[str, tuple[int, ...]]
    integers: frozenset[str]

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a value, the batch included."""
        return self.graph.values[name].shape


Layers = Iterator[Layer]
Rule = Callable[[Plan, Node], Layers]


def plan(graph: Graph) -> Plan:
    """Returns a graph with what its rules must know."""
    reading = readers(graph)
    flattened, integers = {}, set()
    for node in graph.nodes:
        after = reading[node.output]
        if node.output in graph.outputs or not after:
            continue
        if node.operation == "reshape":
            shape = graph.values[node.inputs[0]].shape
            is_flat = len(shape) == 4 and len(graph.values[node.output].shape) == 2
            if is_flat and all(reader.operation == "dense" for reader in after):
                flattened[node.output] = shape
        # The scale by which ncnn rounds here is the one by which all readers would.
        elif all(one.operation == "conv" and is_integral(graph, one) for one in (node, *after)):
            integers.add(node.output)
    return Plan(graph, flattened, frozenset(integers))


def check(graph: Graph, node: Node) -> None:
    """Raises Unsupported if an operation reads or gives what is not an array per example."""
    batch = graph.values[graph.inputs[0]].shape[0]
    for name in (*node.inputs, node.output):
        if name in graph.constants:
            continue
        shape, dtype = graph.values[name]
        if len(shape) > 5:
            raise Unsupported("ncnn", node, f"an example with {len(shape) - 1} axes")
        if shape[:1] != (batch,):
            raise Unsupported("ncnn", node, MIXES)
        if dtype != "float32" and not (node.operation == "gather" and name == node.inputs[1]):
            raise Unsupported("ncnn", node, f"for {dtype}")


def is_integral(graph: Graph, node: Node) -> bool:
    """Does ncnn compute this product with 8-bit integers?"""
    if node.operation not in ("conv", "dense") or node.inputs[1] not in graph.stored:
        return False
    if node.inputs[0] not in graph.grids:
        return False
    groups = node.attributes.get("groups", 1)
    *_, inputs, outputs = graph.values[node.inputs[1]].shape
    return groups == 1 or (inputs == 1 and groups == outputs)


def inverse_scale(grid: Grid) -> float:
    """Returns what ncnn multiplies a value by before it rounds: 127 / its grid's larger end."""
    return 127 / (max(128 + grid.zero, 127 - grid.zero) * grid.scale)


def order(rank: int) -> tuple[int, ...]:
    """Returns a value's axes in the order of its blob."""
    return (3, 1, 2) if rank == 4 else tuple(range(1, rank))


def blob(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of a value's blob; a number is a blob of one entry."""
    return tuple(shape[axis] for axis in order(len(shape))) or (1,)


def sizes(shape: tuple[int, ...]) -> dict[int, Setting]:
    """Returns the settings that say a blob's shape: width, height, depth, channels."""
    keys = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}[len(shape)]
    return dict(sorted(zip(keys, shape, strict=True)))


def tagged(array: np.ndarray) -> bytes:
    """Returns a kernel's numbers, which say themselves whether they are floats or codes."""
    tag, dtype = (CODES, np.int8) if array.dtype == np.int8 else (FLOATS, np.float32)
    data = np.ascontiguousarray(array, dtype).tobytes()
    return np.uint32(tag).tobytes() + data + b"\0" * (-len(data) % 4)


def plain(array: np.ndarray | float) -> bytes:
    """Returns other numbers."""
    return np.ascontiguousarray(array, np.float32).tobytes()


def permuted(source: str, output: str, permutation: tuple[int, ...]) -> Layer:
    """Returns the layer that transposes a blob's axes."""
    letters, kinds = _PERMUTATIONS[len(permutation)]
    wanted = "".join(letters[axis] for axis in reversed(permutation))
    return Layer("Permute", (source,), output, {0: kinds.split().index(wanted)})


def reshaped(source: str, output: str, shape: tuple[int, ...]) -> Layer:
    """Returns the layer that reads a blob's entries as another shape."""
    return Layer("Reshape", (source,), output, sizes(shape))


def bounded(source: str, output: str, bounds: tuple[float, float]) -> Layer:
    """Returns the layer that keeps entries within bounds."""
    if bounds == (0, math.inf):
        return Layer("ReLU", (source,), output, {})
    low, high = bounds
    return Layer("Clip", (source,), output, {0: finite(low), 1: finite(high)})


def finite(bound: float) -> float:
    """Returns a bound as ncnn can read it."""
    return float(np.clip(bound, -LARGEST, LARGEST))


def constant(plan: Plan, node: Node, name: str, output: str) -> Layers:
    """Gives out a constant, which is the same for all examples."""
    yield from shown(node, plan.graph.constants[name], len(plan.shape(node.output)), output)


def shown(node: Node, array: np.ndarray, rank: int, output: str) -> Layers:
    """Gives out an array for a node whose output has as many axes as `rank` says."""
    array = np.asarray(array, np.float32)
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if np.all(array == array[:1]):  # all examples have the same
        array = array[:1]
    if array.shape[0] != 1:
        raise Unsupported("ncnn", node, "with a constant for each example")
    array = array.transpose(0, *order(rank))[0]
    array = array.reshape(array.shape or (1,))
    yield Layer("MemoryData", (), output, sizes(array.shape), plain(array))


def place(plan: Plan, node: Node, axis: int) -> int:
    """Returns where an axis of a node's output stands in its blob."""
    rank = len(plan.shape(node.output))
    if axis % rank == 0:
        raise Unsupported("ncnn", node, MIXES)
    return order(rank).index(axis % rank)


# Axes as their letters stand in a blob's shape; the orders that ncnn numbers have the width first.
_PERMUTATIONS = {
    1: ("w", "w"),
    2: ("hw", "wh hw"),
    3: ("chw", "whc hwc wch cwh hcw chw"),
    4: (
        "cdhw",
        "whdc hwdc wdhc dwhc hdwc dhwc whcd hwcd wchd cwhd hcwd chwd "
        "wdch dwch wcdh cwdh dcwh cdwh hdcw dhcw hcdw chdw dchw cdhw",
    ),
}
