"""Operations on entries, reductions and products of two values as operators of TensorFlow Lite."""

from collections.abc import Callable, Mapping
from typing import Any

from deploy.graphs.graph import FREE, Grid, Node, Unsupported
from deploy.writers.tflite.draft import Draft, Kind, Options
from deploy.writers.tflite.file import TYPES, Tensor

Rule = Callable[[Draft, Node], Tensor]
ITS_OWN: Mapping[str, Grid] = {
    "sigmoid": Grid(1 / 256, -128),
    "softmax": Grid(1 / 256, -128),
    "tanh": Grid(1 / 128, 0),
}
"""The one grid on which the int8 kernel of an operation gives its results."""


def unary(code: str, table: str | None, integers: bool = False) -> Rule:
    """Returns the rule of a function of one value; without an int8 kernel it is one of floats."""

    def rule(draft: Draft, node: Node) -> Tensor:
        grid = draft.grid(node.output)
        integer = integers and ITS_OWN.get(node.operation, grid) == grid
        x = draft.value(node.inputs[0]) if integer else draft.on(node.inputs[0], None)
        options: Options | None = None if table is None else (table, {})
        kind: Kind = grid if integer else None
        if grid is None:
            kind = draft.graph.values[node.output].dtype
        return draft.add(code, [x], node.output, x.shape, kind, options)

    return rule


def rescaling(code: str, table: str) -> Rule:
    """Returns the rule of an operation with a factor for each operand, and maybe an activation."""

    def rule(draft: Draft, node: Node) -> Tensor:
        value, grid = draft.graph.values[node.output], draft.grid(node.output)
        given = [draft.operand(node, name) for name in node.inputs]
        if grid is not None and max(x.grid.scale for x in given if x.grid) >= 256 * grid.scale:
            given, grid = [draft.on(name, None) for name in node.inputs], None  # kernels err
        activation, left = draft.fused(node.attributes.get("bounds", FREE), grid)
        options = (table, {"fusedActivationFunction": activation})
        kind = grid or value.dtype
        result = draft.add(code, given, node.output, value.shape, kind, options)
        return draft.bounded(result, left, node.output)

    return rule


def choosing(code: str, table: str) -> Rule:
    """Returns the rule of an operation whose operands all lie on the grid of the result."""

    def rule(draft: Draft, node: Node) -> Tensor:
        value, grid = draft.graph.values[node.output], draft.grid(node.output)
        given = [draft.on(name, grid) for name in node.inputs]
        return draft.add(code, given, node.output, value.shape, grid or value.dtype, (table, {}))

    return rule


def of_floats(code: str, table: str) -> Rule:
    """Returns the rule of an operation of two values without an int8 kernel."""

    def rule(draft: Draft, node: Node) -> Tensor:
        value = draft.graph.values[node.output]
        given = [draft.on(name, None) for name in node.inputs]
        return draft.add(code, given, node.output, value.shape, value.dtype, (table, {}))

    return rule


def clip(draft: Draft, node: Node) -> Tensor:
    """Bounds: an operator that moves values to a grid keeps those at which the grid ends."""
    bounds, grid = node.attributes["bounds"], draft.grid(node.output)
    x = draft.on(node.inputs[0], grid)
    code = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"}.get(draft.fused(bounds, None)[0])
    if grid is None and code is not None and x.dtype == "float32":
        return draft.add(code, [x], node.output, x.shape, x.dtype)
    return draft.bounded(x, bounds, node.output)


def reduction(code: str, same: bool = False, integers: bool = True) -> Rule:
    """Returns the rule of a reduction.

    Args:
      code: the operator.
      same: whether results lie on the input's grid.
      integers: whether its int8 kernels can be trusted: LiteRT's reference kernel of sums is wrong.
    """

    def rule(draft: Draft, node: Node) -> Tensor:
        value, options = draft.graph.values[node.output], node.attributes
        x = draft.value(node.inputs[0]) if integers else draft.on(node.inputs[0], None)
        kind: Kind = value.dtype
        if x.grid is not None:
            kind = x.grid if same else draft.grid(node.output)
        fields = {"keepDims": bool(options["keepdims"])}
        inputs = [x, draft.ints(options["axes"])]
        return draft.add(code, inputs, node.output, value.shape, kind, ("ReducerOptions", fields))

    return rule


def softmax(draft: Draft, node: Node) -> Tensor:
    """A softmax over the last axis, to which another one is brought for it."""
    grid, axis = draft.grid(node.output), node.attributes["axis"]
    integer = grid == ITS_OWN["softmax"]
    x = draft.value(node.inputs[0]) if integer else draft.on(node.inputs[0], None)
    rank, kind = len(x.shape), grid if integer else None
    order = list(range(rank))
    order[axis % rank], order[-1] = order[-1], order[axis % rank]
    options: Options = ("SoftmaxOptions", {"beta": 1.0})
    if order == sorted(order):
        return draft.add("SOFTMAX", [x], node.output, x.shape, kind, options)
    turned = transposed(draft, node.output + "/turned", x, order)
    result = draft.add("SOFTMAX", [turned], node.output + "/turned", turned.shape, kind, options)
    return transposed(draft, node.output, result, order)


def transposed(draft: Draft, name: str, x: Tensor, order: Any) -> Tensor:
    """Returns a tensor with its axes in another order, on the same grid."""
    shape = [x.shape[axis] for axis in order]
    kind = x.grid or x.dtype
    return draft.add(
        "TRANSPOSE", [x, draft.ints(order)], name, shape, kind, ("TransposeOptions", {})
    )


def matmul(draft: Draft, node: Node) -> Tensor:
    """A product of matrices."""
    value, grid = draft.graph.values[node.output], draft.grid(node.output)
    given = [draft.operand(node, name) for name in node.inputs]
    options: Options = ("BatchMatMulOptions", {})
    return draft.add("BATCH_MATMUL", given, node.output, value.shape, grid or value.dtype, options)


def where(draft: Draft, node: Node) -> Tensor:
    """A choice by a condition."""
    value, grid = draft.graph.values[node.output], draft.grid(node.output)
    given = [draft.on(node.inputs[0], None), *(draft.on(name, grid) for name in node.inputs[1:])]
    kind = grid or value.dtype
    return draft.add("SELECT_V2", given, node.output, value.shape, kind, ("SelectV2Options", {}))


def cast(draft: Draft, node: Node) -> Tensor:
    """Another dtype."""
    x, dtype = draft.on(node.inputs[0], None), node.attributes["dtype"]
    if x.dtype not in TYPES or dtype not in TYPES:
        raise Unsupported("litert", node, f"from {x.dtype} to {dtype}")
    fields = {"inDataType": TYPES[x.dtype], "outDataType": TYPES[dtype]}
    return draft.add("CAST", [x], node.output, x.shape, dtype, ("CastOptions", fields))


def sign(draft: Draft, node: Node) -> Tensor:
    """The sign, as floats: its int8 kernel does not exist."""
    x = draft.on(node.inputs[0], None)
    if x.dtype not in ("float32", "int32"):
        raise Unsupported("litert", node, f"of {x.dtype}")
    return draft.add("SIGN", [x], node.output, x.shape, x.dtype, ("SignOptions", {}))
