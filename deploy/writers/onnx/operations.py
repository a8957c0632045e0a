"""A rule for each operation of the graph: which nodes of ONNX compute it, and in which order."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from onnx import helper

from deploy.graphs.graph import Node
from deploy.writers.onnx import layers, moves
from deploy.writers.onnx.file import (
    NCHW,
    SHIFT,
    Making,
    Order,
    add,
    arranged,
    constant,
    numbers,
    plain,
)
from deploy.writers.onnx.values import (
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
        if exact:
            return uniform(making, name, float(making.graph.constants[name].flat[0]))
        return real(making, name, order)
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
        if layers.of_channels(making, node):
            layers.channels(making, node)
            return
        order = common_order(making, node)
        inputs = [operand(making, node, name, order) for name in node.inputs]
        settle(making, node, add(making, operation, inputs, working(making, node, order)), order)

    return rule


def _where(making: Making, node: Node) -> None:
    """Adds a Where; of conditions, for which onnxruntime has none, (c and a) or (not c and b)."""
    if making.graph.values[node.output].dtype != "bool":
        _entries("Where")(making, node)
        return
    order, name = common_order(making, node), node.output
    condition, yes, no = (operand(making, node, one, order) for one in node.inputs)
    first = add(making, "And", [condition, yes], f"{name}.yes")
    other = add(making, "And", [add(making, "Not", [condition], f"{name}.not"), no], f"{name}.no")
    settle(making, node, add(making, "Or", [first, other], working(making, node, order)), order)


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

    The output's grid cuts the rest; between the two grids 1 multiplies, as integers can. Without
    the Clip, onnxruntime would drop the input's grid, and OpenVINO fails where that of a
    concatenation is followed by another one.
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
    names = grid(making, found, value)
    name = add(making, "DequantizeLinear", [name, *names], f"{node.output}.clipped")
    return add(making, "Mul", [name, uniform(making, "one", 1.0)], f"{node.output}.computed")


def _neg(making: Making, node: Node) -> None:
    order, (value,) = order_of(making, node.inputs[0]), node.inputs
    wanted = working(making, node, order)
    if node.output in making.graph.grids:  # the engines multiply integers and negate floats
        inputs = [real(making, value), uniform(making, "minus_one", -1.0)]
        settle(making, node, add(making, "Mul", inputs, wanted), order)
    else:
        settle(making, node, add(making, "Neg", [real(making, value)], wanted), order)


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


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": layers.conv,
        "dense": layers.dense,
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
        "neg": _neg,
        "abs": _entries("Abs"),
        "sign": _entries("Sign"),
        "cast": _cast,
        "where": _where,
        "equal": _entries("Equal"),
        "less": _entries("Less"),
        "greater": _entries("Greater"),
        "max_pool": layers.max_pool,
        "average_pool": layers.average_pool,
        "mean": _reduce("ReduceMean"),
        "sum": _reduce("ReduceSum"),
        "reduce_max": _reduce("ReduceMax"),
        "softmax": _softmax,
        "reshape": moves.reshape,
        "broadcast": moves.broadcast,
        "transpose": moves.transpose,
        "concat": moves.concat,
        "pad": moves.pad,
        "slice": moves.slice,
        "channel_shuffle": moves.channel_shuffle,
        "gather": moves.gather,
    }
)
"""Operation → its rule; one for each of `OPERATIONS`."""
