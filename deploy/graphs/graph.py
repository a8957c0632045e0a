"""The graph that writers of engines' files take. Read `Graph`, then `OPERATIONS`.

Images stay [B, H, W, C] and kernels [h, w, I, O] as in JAX; a writer turns them into its engine's
order. Every shape is known, the batch included. All floats are float32.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

NONE: Mapping[str, Any] = MappingProxyType({})


def _none() -> Any:
    return dataclasses.field(default_factory=lambda: NONE)


FREE = (-math.inf, math.inf)
"""Bounds that leave every value as it is; those of ReLU are (0, ∞), of ReLU6 (0, 6)."""

OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        # x, kernel [h, w, I / groups, O], bias [O] → [B, H', W', O]; the constants are the last two
        "conv": "strides (2), padding ((top, bottom), (left, right)), dilation (2), groups, bounds",
        # x [..., I], kernel [I, O], bias [O] → [..., O]; the last two are constants
        "dense": "bounds",
        # [..., M, K] and [..., K, N] → [..., M, N]; leading axes are equal
        "matmul": "",
        # two values whose shapes numpy broadcasts; either may be a constant
        "add": "bounds",
        "sub": "",
        "mul": "",
        "div": "",
        "max": "",
        "min": "",
        "pow": "",
        # one value, entry by entry
        "clip": "bounds",
        "sigmoid": "",
        "tanh": "",
        "exp": "",
        "log": "",
        "sqrt": "",
        "rsqrt": "",
        "erf": "",
        "neg": "",
        "abs": "",
        "sign": "",
        "cast": "dtype (a name of numpy's)",
        # condition (bool), where it holds, where not
        "where": "",
        # two values → bool
        "equal": "",
        "less": "",
        "greater": "",
        # windows of images [B, H, W, C]: the mean counts the zeros of the padding
        "max_pool": "window (2), strides (2), padding ((top, bottom), (left, right))",
        "average_pool": "window (2), strides (2), padding ((top, bottom), (left, right))",
        # reductions
        "mean": "axes (tuple), keepdims (bool)",
        "sum": "axes, keepdims",
        "reduce_max": "axes, keepdims",
        "softmax": "axis",
        # movements of entries
        "reshape": "",  # to the output's shape
        "broadcast": "",  # to the output's shape, of the same rank
        "transpose": "permutation",
        "concat": "axis",
        "pad": "pads (a pair for each axis), value",
        "slice": "begin, end, strides (a number for each axis; strides > 0)",
        # [B, H, W, C]: channels as [groups, C / groups], transposed
        "channel_shuffle": "groups",
        # table [N, D] (a constant), indices [...] (integers −N … N − 1; those below 0 count from
        # the end) → [..., D]
        "gather": "",
    }
)
"""Operation → its attributes. Inputs are explained above each; outputs are one value."""


class Value(NamedTuple):
    """What is known of an array: its shape and dtype (a name of numpy's)."""

    shape: tuple[int, ...]
    dtype: str = "float32"


class Grid(NamedTuple):
    """Where a value may lie: (k − zero) × scale for the integers k = −128 … 127.

    Engines' files have 8 bits. With more of them k is an int32, −2^(bits − 1) … 2^(bits − 1) − 1.
    """

    scale: float
    zero: int
    bits: int = 8

    @property
    def lowest(self) -> int:
        """Returns the least k."""
        return -(2 ** (self.bits - 1))

    @property
    def highest(self) -> int:
        """Returns the greatest k."""
        return 2 ** (self.bits - 1) - 1


class Stored(NamedTuple):
    """A kernel as integers: codes × scales are its entries. Codes are −127 … 127."""

    codes: np.ndarray  # int8, the kernel's shape
    scales: np.ndarray  # float32 [O], one for each index of the kernel's last axis


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """One operation.

    Attributes:
      operation: a key of `OPERATIONS`.
      inputs: names of values; constants are among them.
      output: the name of its value, which is the name of the operation in engines' files, too.
      attributes: as `OPERATIONS` says.
      layer: the path of the layer from which it came, as far as it is known.
    """

    operation: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = _none()
    layer: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graph:
    """Operations in the order in which they are computed.

    Attributes:
      inputs: names of the arguments; `input` if there is one.
      outputs: names of the results; `logits` if there is one, which is a node's output.
      nodes: each reads what stands before it.
      values: name → shape and dtype, of constants too.
      constants: name → array.
      grids: name → where this value lies in a network of integers; empty for one of floats. All
        float32 values that are no constants then have one.
      stored: name of a kernel → its integers. In a network of integers, all kernels of `conv` and
        `dense` have them, and `constants` hold codes × scales.
      structure: how the outputs, which all begin with the axis of the batch, make up what the
        network returned: `single`: it is the only one; `tuple`: they are its leaves in order;
        `stacked`: it is one array [number of outputs, B, …].
      lost: path of a kernel whose integers were given, but which `stored` has not → the reason.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    values: Mapping[str, Value]
    constants: Mapping[str, np.ndarray]
    grids: Mapping[str, Grid] = _none()
    stored: Mapping[str, Stored] = _none()
    structure: str = "single"
    lost: Mapping[str, str] = _none()


class Unsupported(ValueError):
    """An operation that a form of file has not; one line that names it and its layer."""

    def __init__(self, engine: str, node: Node, why: str = "") -> None:
        of = f" of {node.layer!r}" if node.layer else ""
        super().__init__(f"{engine} has no {node.operation}{of}{f': {why}' if why else ''}")


def readers(graph: Graph) -> dict[str, list[Node]]:
    """Returns for each value the nodes that read it, in order; none for a result alone."""
    found: dict[str, list[Node]] = {name: [] for name in graph.values}
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            found[name].append(node)
    return found


def live(graph: Graph) -> Graph:
    """Returns the graph without what no output needs."""
    needed, nodes = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in needed:
            nodes.append(node)
            needed.update(node.inputs)
    kept = needed.union(graph.inputs)
    return dataclasses.replace(
        graph,
        nodes=tuple(reversed(nodes)),
        values={name: value for name, value in graph.values.items() if name in kept},
        constants={name: array for name, array in graph.constants.items() if name in kept},
        grids={name: grid for name, grid in graph.grids.items() if name in kept},
        stored={name: stored for name, stored in graph.stored.items() if name in kept},
    )
