"""An ONNX file in the making: nodes, constants and where each value of the graph stands in it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from deploy.graphs.graph import Graph, Grid

Order = tuple[int, ...]
"""Which axis of a value stands where in the file: NCHW is (0, 3, 1, 2)."""

NCHW: Order = (0, 3, 1, 2)
SHIFT = 128  # codes of a grid are −128 … 127, those of the file 0 … 255


class Held(NamedTuple):
    """Where a value stands: as floats (or what its dtype is), or as codes of its grid."""

    order: Order
    real: str = ""
    codes: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Making:
    """What has been written so far; every function of the writer adds to it.

    Attributes:
      graph: what is to be written.
      nodes: of the file, in their order.
      constants: name → tensor.
      held: value of the graph → where it stands.
      moved: (value, order, whether as codes) → name of what was written for a reader of it.
      grids: grid → names of its scale and zero.
    """

    graph: Graph
    nodes: list[onnx.NodeProto] = dataclasses.field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = dataclasses.field(default_factory=dict)
    held: dict[str, Held] = dataclasses.field(default_factory=dict)
    moved: dict[tuple[str, Order, bool], str] = dataclasses.field(default_factory=dict)
    grids: dict[Grid, list[str]] = dataclasses.field(default_factory=dict)
    names: set[str] = dataclasses.field(default_factory=set)


def named(making: Making, wanted: str) -> str:
    """Returns a name that the file has not yet: the one that is wanted, or with a number."""
    name, count = wanted, 1
    while name in making.names:
        count += 1
        name = f"{wanted}_{count}"
    making.names.add(name)
    return name


def add(
    making: Making, operation: str, inputs: Sequence[str], wanted: str, **attributes: Any
) -> str:
    """Adds a node of one output and returns the output's name."""
    output = named(making, wanted)
    node = helper.make_node(operation, list(inputs), [output], name=output, **attributes)
    making.nodes.append(node)
    return output


def constant(making: Making, array: np.ndarray, wanted: str) -> str:
    """Adds a constant and returns its name."""
    name = named(making, wanted)
    making.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
    return name


def once(making: Making, wanted: str, array: Callable[[], np.ndarray]) -> str:
    """Returns the constant of this name, which is made if the file has none."""
    return wanted if wanted in making.constants else constant(making, array(), wanted)


def numbers(making: Making, values: Sequence[int], wanted: str) -> str:
    """Adds a vector of int64, as shapes and axes are."""
    return constant(making, np.asarray(values, np.int64), wanted)


def plain(rank: int) -> Order:
    """Returns the order in which nothing has been moved."""
    return tuple(range(rank))


def ordered(shape: Sequence[Any], order: Order) -> tuple[Any, ...]:
    """Returns what stands for each axis of a value in the order of the file."""
    return tuple(shape[axis] for axis in order)


def arranged(making: Making, name: str, held: tuple[int, ...], target: Order, wanted: str) -> str:
    """Adds what brings a value to another order: a reshape if that moves no entry.

    Args:
      making: what is being written.
      name: of the value in the file.
      held: its shape there.
      target: which of these axes stands where.
      wanted: name of the result.
    """
    if target == plain(len(target)):
        return name
    long = [axis for axis in target if held[axis] != 1]
    if long == sorted(long):
        shape = numbers(making, ordered(held, target), f"{wanted}.shape")
        return add(making, "Reshape", [name, shape], wanted)
    return add(making, "Transpose", [name], wanted, perm=list(target))


def between(given: Order, wanted: Order) -> Order:
    """Returns which axis of a value that stands in one order stands where in another."""
    return tuple(given.index(axis) for axis in wanted)
