"""Rules for movements of entries: of codes, if a value and its inputs share a grid."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from deploy.graphs.graph import Node
from deploy.writers.onnx.file import Making, Order, add, constant, numbers, ordered, plain
from deploy.writers.onnx.kernels import absorbed
from deploy.writers.onnx.values import (
    codes,
    codes_of,
    order_of,
    real,
    settle,
    settle_codes,
    working,
)


def move(making: Making, node: Node, order: Order, make: Callable[[list[str], str], str]) -> None:
    """Adds a movement of entries: of codes if all values share a grid, else of floats.

    Args:
      making: what is being written.
      node: of the graph.
      order: in which it takes its inputs and leaves its output.
      make: adds the nodes for names of inputs and a wanted name; it returns the name.
    """
    grids = making.graph.grids
    found = {grids[name] for name in node.inputs if name in grids}
    if node.output in grids and found == {grids[node.output]}:
        inputs = [_codes(making, node, name, order) for name in node.inputs]
        settle_codes(making, node, make(inputs, f"{node.output}.codes"), order)
    else:
        inputs = [real(making, name, order) for name in node.inputs]
        settle(making, node, make(inputs, working(making, node, order)), order)


def _codes(making: Making, node: Node, name: str, order: Order) -> str:
    """Returns the name of a value's codes in an order; a constant gets those of the result."""
    if name not in making.graph.constants:
        return codes(making, name, order)
    moved = making.graph.constants[name].transpose(order)
    return constant(making, codes_of(moved, making.graph.grids[node.output]), f"{name}.codes")


def reshape(making: Making, node: Node) -> None:
    """Adds a Reshape, after a transpose where the input stands in another order."""
    (value,), shape = node.inputs, making.graph.values[node.output].shape
    target = numbers(making, shape, f"{node.output}.shape")
    given = plain(len(making.graph.values[value].shape))
    after = plain(len(shape))
    if absorbed(making, node):
        given = order_of(making, value)
    reshape = lambda name, wanted: add(making, "Reshape", [name, target], wanted)  # noqa: E731
    grids = making.graph.grids
    if node.output in grids and grids[node.output] == grids.get(value):
        moved = reshape(codes(making, value, given), f"{node.output}.codes")
        settle_codes(making, node, moved, after)
    else:
        moved = reshape(real(making, value, given), working(making, node, after))
        settle(making, node, moved, after)


def transpose(making: Making, node: Node) -> None:
    """Says in which order the value now stands; nothing moves before somebody reads it."""
    (value,), held = node.inputs, making.held[node.inputs[0]]
    permutation = node.attributes["permutation"]
    order = tuple(permutation.index(axis) for axis in held.order)
    grids = making.graph.grids
    if grids.get(value) == grids.get(node.output):
        making.held[node.output] = held._replace(order=order)
    else:
        settle(making, node, real(making, value), order)


def concat(making: Making, node: Node) -> None:
    """Adds a Concat."""
    order = next((order_of(making, n) for n in node.inputs if n in making.held), None)
    order = order or plain(len(making.graph.values[node.output].shape))
    axis = order.index(node.attributes["axis"] % len(order))
    move(making, node, order, lambda i, wanted: add(making, "Concat", i, wanted, axis=axis))


def pad(making: Making, node: Node) -> None:
    """Adds a Pad."""
    order, (value,) = order_of(making, node.inputs[0]), node.inputs
    pads = ordered(node.attributes["pads"], order)
    found = making.graph.grids.get(node.output)
    amounts = [low for low, _ in pads] + [high for _, high in pads]

    def make(inputs: list[str], wanted: str) -> str:
        filling: Any = np.array(node.attributes["value"], making.graph.values[value].dtype)
        if wanted.endswith(".codes") and found:
            filling = codes_of(filling, found)
        extra = [
            numbers(making, amounts, f"{node.output}.pads"),
            constant(making, filling, f"{node.output}.value"),
        ]
        return add(making, "Pad", [*inputs, *extra], wanted)

    move(making, node, order, make)


def slice(making: Making, node: Node) -> None:
    """Adds a Slice of the axes that are cut."""
    order = order_of(making, node.inputs[0])
    shape = making.graph.values[node.inputs[0]].shape
    options = node.attributes
    cut = [
        (place, options["begin"][axis], options["end"][axis], options["strides"][axis])
        for place, axis in enumerate(order)
        if (options["begin"][axis], options["end"][axis], options["strides"][axis])
        != (0, shape[axis], 1)
    ]

    def make(inputs: list[str], wanted: str) -> str:
        if not cut:  # OpenVINO reads no Slice of no axes
            return add(making, "Identity", inputs, wanted)
        columns = dict(
            starts=[c[1] for c in cut], ends=[c[2] for c in cut],
            axes=[c[0] for c in cut], steps=[c[3] for c in cut],
        )  # fmt: skip
        extra = [numbers(making, v, f"{node.output}.{name}") for name, v in columns.items()]
        return add(making, "Slice", [*inputs, *extra], wanted)

    move(making, node, order, make)


def broadcast(making: Making, node: Node) -> None:
    """Adds an Expand."""
    order = order_of(making, node.inputs[0])
    shape = ordered(making.graph.values[node.output].shape, order)
    target = numbers(making, shape, f"{node.output}.shape")
    move(making, node, order, lambda i, wanted: add(making, "Expand", [*i, target], wanted))


def channel_shuffle(making: Making, node: Node) -> None:
    """Adds a Gather of channels, which is faster than a transpose of five axes.

    The pixels are one axis meanwhile: OpenVINO gathers the channels of images wrongly where a
    convolution reads them.
    """
    order, groups = order_of(making, node.inputs[0]), node.attributes["groups"]
    shape = ordered(making.graph.values[node.output].shape, order)
    axis = order.index(len(order) - 1)
    source = np.arange(shape[axis]).reshape(groups, -1).T.reshape(-1)

    def make(inputs: list[str], wanted: str) -> str:
        indices = numbers(making, source.tolist(), f"{node.output}.channels")
        joined = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
        target = numbers(making, joined, f"{wanted}.joined.shape")
        name = add(making, "Reshape", [*inputs, target], f"{wanted}.joined")
        name = add(making, "Gather", [name, indices], f"{wanted}.gathered", axis=1)
        return add(making, "Reshape", [name, numbers(making, shape, f"{wanted}.shape")], wanted)

    move(making, node, order, make)


def gather(making: Making, node: Node) -> None:
    """Adds a Gather of rows: of the table's codes if the output has a grid."""
    table, indices = node.inputs
    order = plain(len(making.graph.values[node.output].shape))
    places = real(making, indices, plain(len(making.graph.values[indices].shape)))
    found = making.graph.grids.get(node.output)
    if found:
        rows = codes_of(making.graph.constants[table], found)
        inputs = [constant(making, rows, f"{table}.codes"), places]
        settle_codes(making, node, add(making, "Gather", inputs, f"{node.output}.codes"), order)
    else:
        inputs = [real(making, table), places]
        settle(making, node, add(making, "Gather", inputs, working(making, node, order)), order)
