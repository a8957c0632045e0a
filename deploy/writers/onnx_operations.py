"""A rule for each operation of the graph: which nodes of ONNX compute it, and in which order."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import helper

from deploy.graphs.graph import Node
from deploy.writers import onnx_layers
from deploy.writers.onnx_file import (
    NCHW,
    SHIFT,
    Making,
    Order,
    add,
    arranged,
    constant,
    numbers,
    ordered,
    plain,
)
from deploy.writers.onnx_values import (
    codes,
    grid,
    order_of,
    real,
    settle,
    settle_codes,
    uniform,
    working,
)

Rule = Callable[[Making, Node], None]


def common_order(making: Making, node: Node) -> Order:
    """Returns the order in which a node that works entry by entry finds most of its operands."""
    shape = making.graph.values[node.output].shape
    best = plain(len(shape))
    for name in node.inputs:
        given = making.graph.values[name].shape
        if name not in making.graph.constants and len(given) == len(shape):
            order = order_of(making, name)
            if given == shape:
                return order
            best = order
    return best


def operand(making: Making, node: Node, name: str, order: Order) -> str:
    """Returns an operand in an order, with leading axes of 1 if its rank is lower."""
    shape = making.graph.values[name].shape
    if name in making.graph.constants:
        exact = making.graph.grids and node.operation in ("add", "mul") and _one(making, name)
        return uniform(making, name) if exact else real(making, name, order)
    if len(shape) == len(order):
        return real(making, name, order)
    found = real(making, name, plain(len(shape)))
    if order == plain(len(order)):
        return found
    full = (1,) * (len(order) - len(shape)) + shape
    target = numbers(making, full, f"{name}.shape")
    found = add(making, "Reshape", [found, target], f"{name}.operand")
    return arranged(making, found, full, order, f"{name}.operand")


def _one(making: Making, name: str) -> bool:
    array = making.graph.constants[name]
    return array.dtype == np.float32 and array.size > 0 and bool((array == array.flat[0]).all())


def _entries(operation: str) -> Rule:
    def rule(making: Making, node: Node) -> None:
        order = common_order(making, node)
        inputs = [operand(making, node, name, order) for name in node.inputs]
        settle(making, node, add(making, operation, inputs, working(making, node, order)), order)

    return rule


def _clip(making: Making, node: Node) -> None:
    order, (value,) = order_of(making, node.inputs[0]), node.inputs
    grids = making.graph.grids
    if node.output not in grids:
        settle(making, node, real(making, value), order)
    elif grids[node.output] == grids.get(value):
        settle_codes(making, node, codes(making, value), order)
    else:
        settle(making, node, _clipped(making, node), order)


def _clipped(making: Making, node: Node) -> str:
    """Adds a Clip on the input's own grid, to its last points that are not inside the bounds.

    The output's grid cuts the rest. Without it, onnxruntime would drop the input's grid, and
    OpenVINO fails where that of a concatenation is followed by another one.
    """
    (value,) = node.inputs
    found = making.graph.grids[value]
    low, high = np.asarray(node.attributes["bounds"], np.float32) / np.float32(found.scale)
    ends = np.clip([np.floor(low), np.ceil(high)], -512, 512) + found.zero + SHIFT
    limits = [
        constant(making, np.array(np.clip(end, 0, 255), np.uint8), f"{node.output}.{which}")
        for which, end in zip(("from", "to"), ends, strict=True)
    ]
    name = add(making, "Clip", [codes(making, value), *limits], f"{node.output}.clipped")
    return add(
        making, "DequantizeLinear", [name, *grid(making, found, value)], f"{node.output}.clipped"
    )


def _rsqrt(making: Making, node: Node) -> None:
    (value,) = node.inputs
    root = add(making, "Sqrt", [real(making, value)], f"{node.output}.root")
    order = order_of(making, value)
    settle(making, node, add(making, "Reciprocal", [root], working(making, node, order)), order)


def _cast(making: Making, node: Node) -> None:
    to = helper.np_dtype_to_tensor_dtype(np.dtype(node.attributes["dtype"]))
    order = order_of(making, node.inputs[0])
    inputs = [real(making, node.inputs[0])]
    settle(making, node, add(making, "Cast", inputs, working(making, node, order), to=to), order)


def _softmax(making: Making, node: Node) -> None:
    order, (value,) = order_of(making, node.inputs[0]), node.inputs
    axis = order.index(node.attributes["axis"] % len(order))
    name = add(making, "Softmax", [real(making, value)], working(making, node, order), axis=axis)
    settle(making, node, name, order)


def _matmul(making: Making, node: Node) -> None:
    order = plain(len(making.graph.values[node.output].shape))
    inputs = [real(making, name, order) for name in node.inputs]
    settle(making, node, add(making, "MatMul", inputs, working(making, node, order)), order)


def _reduce(operation: str) -> Rule:
    def rule(making: Making, node: Node) -> None:
        (value,), keep = node.inputs, node.attributes["keepdims"]
        shape, order = making.graph.values[value].shape, order_of(making, value)
        gone = {axis % len(shape) for axis in node.attributes["axes"]}
        after = order if keep else _without(order, gone)
        if operation == "ReduceMean" and order == NCHW and gone == {1, 2}:
            name = add(
                making, "GlobalAveragePool", [real(making, value)],
                working(making, node, after, then=not keep),
            )  # fmt: skip
            settle(making, node, name, after, None if keep else (shape[0], shape[3]))
            return
        axes = sorted(order.index(axis) for axis in gone)
        inputs, attributes = [real(making, value)], {"axes": axes}
        if operation == "ReduceSum":  # which takes them as an input from opset 13
            inputs, attributes = [*inputs, numbers(making, axes, f"{node.output}.axes")], {}
        wanted = working(making, node, after)
        name = add(making, operation, inputs, wanted, keepdims=int(keep), **attributes)
        settle(making, node, name, after)

    return rule


def _without(order: Order, gone: set[int]) -> Order:
    left = [axis for axis in order if axis not in gone]
    return tuple(sorted(left).index(axis) for axis in left)


def move(making: Making, node: Node, order: Order, make: Callable[[list[str], str], str]) -> None:
    """Adds a movement of entries: of codes if all values share a grid, else of floats.

    Args:
      making: what is being written.
      node: of the graph.
      order: in which it takes its inputs and leaves its output.
      make: adds the nodes for names of inputs and a wanted name; it returns the name.
    """
    grids = making.graph.grids
    values = [name for name in node.inputs if name in grids]
    if node.output in grids and {grids[name] for name in values} == {grids[node.output]}:
        name = make([codes(making, name, order) for name in values], f"{node.output}.codes")
        settle_codes(making, node, name, order)
    else:
        inputs = [real(making, name, order) for name in node.inputs]
        settle(making, node, make(inputs, working(making, node, order)), order)


def _reshape(making: Making, node: Node) -> None:
    (value,), shape = node.inputs, making.graph.values[node.output].shape
    target = numbers(making, shape, f"{node.output}.shape")
    given = plain(len(making.graph.values[value].shape))
    after = plain(len(shape))
    if onnx_layers.absorbed(making, node):
        given = order_of(making, value)
    reshape = lambda name, wanted: add(making, "Reshape", [name, target], wanted)  # noqa: E731
    grids = making.graph.grids
    if node.output in grids and grids[node.output] == grids.get(value):
        moved = reshape(codes(making, value, given), f"{node.output}.codes")
        settle_codes(making, node, moved, after)
    else:
        moved = reshape(real(making, value, given), working(making, node, after))
        settle(making, node, moved, after)


def _transpose(making: Making, node: Node) -> None:
    (value,), held = node.inputs, making.held[node.inputs[0]]
    permutation = node.attributes["permutation"]
    order = tuple(permutation.index(axis) for axis in held.order)
    grids = making.graph.grids
    if grids.get(value) == grids.get(node.output):  # nothing moves before somebody reads it
        making.held[node.output] = held._replace(order=order)
    else:
        settle(making, node, real(making, value), order)


def _concat(making: Making, node: Node) -> None:
    order = next((order_of(making, n) for n in node.inputs if n in making.held), None)
    order = order or plain(len(making.graph.values[node.output].shape))
    axis = order.index(node.attributes["axis"] % len(order))
    move(making, node, order, lambda i, wanted: add(making, "Concat", i, wanted, axis=axis))


def _pad(making: Making, node: Node) -> None:
    order, (value,) = order_of(making, node.inputs[0]), node.inputs
    pads = ordered(node.attributes["pads"], order)
    found = making.graph.grids.get(node.output)
    amounts = [low for low, _ in pads] + [high for _, high in pads]

    def make(inputs: list[str], wanted: str) -> str:
        filling: Any = np.array(node.attributes["value"], making.graph.values[value].dtype)
        if wanted.endswith(".codes") and found:
            code = np.rint(filling / np.float32(found.scale)) + found.zero + SHIFT
            filling = np.array(np.clip(code, 0, 255), np.uint8)
        extra = [
            numbers(making, amounts, f"{node.output}.pads"),
            constant(making, filling, f"{node.output}.value"),
        ]
        return add(making, "Pad", [*inputs, *extra], wanted)

    move(making, node, order, make)


def _slice(making: Making, node: Node) -> None:
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
        columns = dict(
            starts=[c[1] for c in cut], ends=[c[2] for c in cut],
            axes=[c[0] for c in cut], steps=[c[3] for c in cut],
        )  # fmt: skip
        extra = [numbers(making, v, f"{node.output}.{name}") for name, v in columns.items()]
        return add(making, "Slice", [*inputs, *extra], wanted)

    move(making, node, order, make)


def _broadcast(making: Making, node: Node) -> None:
    order = order_of(making, node.inputs[0])
    shape = ordered(making.graph.values[node.output].shape, order)
    target = numbers(making, shape, f"{node.output}.shape")
    move(making, node, order, lambda i, wanted: add(making, "Expand", [*i, target], wanted))


def _channel_shuffle(making: Making, node: Node) -> None:
    """Adds a Gather of channels, which is faster than a transpose of five axes.

    Codes are gathered with one axis of pixels: OpenVINO's integers with two come out wrong.
    """
    order, groups = order_of(making, node.inputs[0]), node.attributes["groups"]
    shape = ordered(making.graph.values[node.output].shape, order)
    axis = order.index(len(order) - 1)
    source = np.arange(shape[axis]).reshape(groups, -1).T.reshape(-1)

    def make(inputs: list[str], wanted: str) -> str:
        indices = numbers(making, source, f"{node.output}.channels")
        if node.output not in making.graph.grids:
            return add(making, "Gather", [*inputs, indices], wanted, axis=axis)
        joined = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
        target = numbers(making, joined, f"{wanted}.joined.shape")
        name = add(making, "Reshape", [*inputs, target], f"{wanted}.joined")
        name = add(making, "Gather", [name, indices], f"{wanted}.gathered", axis=1)
        return add(making, "Reshape", [name, numbers(making, shape, f"{wanted}.shape")], wanted)

    move(making, node, order, make)


def _gather(making: Making, node: Node) -> None:
    table, indices = node.inputs
    order = plain(len(making.graph.values[node.output].shape))
    inputs = [
        real(making, table),
        real(making, indices, plain(len(making.graph.values[indices].shape))),
    ]
    settle(making, node, add(making, "Gather", inputs, working(making, node, order)), order)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": onnx_layers.conv,
        "dense": onnx_layers.dense,
        "matmul": _matmul,
        "add": _entries("Add"),
        "sub": _entries("Sub"),
        "mul": _entries("Mul"),
        "div": _entries("Div"),
        "max": _entries("Max"),
        "min": _entries("Min"),
        "pow": _entries("Pow"),
        "clip": _clip,
        "sigmoid": _entries("Sigmoid"),
        "tanh": _entries("Tanh"),
        "exp": _entries("Exp"),
        "log": _entries("Log"),
        "sqrt": _entries("Sqrt"),
        "rsqrt": _rsqrt,
        "erf": _entries("Erf"),
        "neg": _entries("Neg"),
        "abs": _entries("Abs"),
        "sign": _entries("Sign"),
        "cast": _cast,
        "where": _entries("Where"),
        "equal": _entries("Equal"),
        "less": _entries("Less"),
        "greater": _entries("Greater"),
        "max_pool": onnx_layers.max_pool,
        "average_pool": onnx_layers.average_pool,
        "mean": _reduce("ReduceMean"),
        "sum": _reduce("ReduceSum"),
        "reduce_max": _reduce("ReduceMax"),
        "softmax": _softmax,
        "reshape": _reshape,
        "broadcast": _broadcast,
        "transpose": _transpose,
        "concat": _concat,
        "pad": _pad,
        "slice": _slice,
        "channel_shuffle": _channel_shuffle,
        "gather": _gather,
    }
)
"""Operation → its rule; one for each of `OPERATIONS`."""
