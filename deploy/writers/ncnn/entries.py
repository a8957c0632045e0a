"""Rules of what is computed entry by entry, a graph's node → layers of ncnn."""

import numpy as np

from deploy.graphs.graph import FREE, Node, Unsupported
from deploy.writers.ncnn import blobs
from deploy.writers.ncnn.blobs import LARGEST, Layer, Layers, Plan, Rule

BINARY = {"add": 0, "sub": 1, "mul": 2, "div": 3, "max": 4, "min": 5, "pow": 6}
UNARY = {"abs": 0, "neg": 1, "sqrt": 5, "rsqrt": 6, "exp": 7, "log": 8, "sign": 20}
REVERSED = {1: 7, 3: 8, 6: 9}  # with the number first
POWERS = {2.0: 4, 0.5: 5, -0.5: 6, -1.0: 15}  # operations of one value


def binary(plan: Plan, node: Node) -> Layers:
    """Two values; a constant is a blob of its own, or a number of the layer."""
    bounds = node.attributes.get("bounds", FREE)
    output = node.output if bounds == FREE else f"{node.output}/unbounded"
    kind = BINARY[node.operation]
    fixed = [index for index, name in enumerate(node.inputs) if name in plan.graph.constants]
    if len(fixed) == 2:
        raise Unsupported("ncnn", node, "of two constants")
    number = _number(plan, node, fixed)
    if number is not None:
        (of,) = (name for name in node.inputs if name not in plan.graph.constants)
        yield from _with_number(node, of, output, number, reverse=fixed == [0])
    elif node.operation == "pow":  # ncnn computes exp(y log x), which has no x ≤ 0
        raise Unsupported("ncnn", node, "with an exponent that is no constant number")
    else:
        names = list(node.inputs)
        for index in fixed:
            names[index] = f"{node.output}/operand_{index}"
            yield from blobs.constant(plan, node, node.inputs[index], names[index])
        if not fixed and len({len(plan.shape(name)) for name in names}) > 1:
            raise Unsupported("ncnn", node, "of values with different numbers of axes")
        yield Layer("BinaryOp", tuple(names), output, {0: kind})
    if bounds != FREE:
        yield blobs.bounded(output, node.output, bounds)


def entrywise(kind: str, operation: int | None = None) -> Rule:
    """Returns the rule of a layer that computes entry by entry."""

    def rule(plan: Plan, node: Node) -> Layers:
        settings = {} if operation is None else {0: operation}
        yield Layer(kind, node.inputs, node.output, settings)

    return rule


def clip(plan: Plan, node: Node) -> Layers:
    """Bounds."""
    yield blobs.bounded(node.inputs[0], node.output, tuple(node.attributes["bounds"]))


def softmax(plan: Plan, node: Node) -> Layers:
    """One axis."""
    axis = blobs.place(plan, node, node.attributes["axis"])
    yield Layer("Softmax", node.inputs, node.output, {0: axis, 1: 1})


def where(plan: Plan, node: Node) -> Layers:
    """A choice that is the same for all examples: a sum of products with 1 and 0.

    Of constants the part that is chosen is a constant itself, which may be infinite; of others
    what is not chosen must be finite.
    """
    condition, *cases = node.inputs
    chosen = plan.graph.constants.get(condition)
    if chosen is None:
        raise Unsupported("ncnn", node, "by a condition that is computed")
    shape, parts = plan.shape(node.output), list[str]()
    for kept, name in zip((chosen, ~chosen.astype(bool)), cases, strict=True):
        part = f"{node.output}/case_{len(parts)}"
        if name in plan.graph.constants:
            array = np.where(kept, plan.graph.constants[name], np.float32(0))
            yield from blobs.shown(node, np.clip(array, -LARGEST, LARGEST), len(shape), part)
        elif plan.shape(name) != shape:
            raise Unsupported("ncnn", node, "of values with different shapes")
        else:
            yield from blobs.shown(node, np.asarray(kept, np.float32), len(shape), f"{part}/kept")
            yield Layer("BinaryOp", (name, f"{part}/kept"), part, {0: BINARY["mul"]})
        parts.append(part)
    yield Layer("BinaryOp", tuple(parts), node.output, {0: BINARY["add"]})


def _number(plan: Plan, node: Node, fixed: list[int]) -> float | None:
    """Returns the number that an operand is, if it is one and the other has the output's shape."""
    if not fixed:
        return None
    array = plan.graph.constants[node.inputs[fixed[0]]]
    other = node.inputs[1 - fixed[0]]
    is_number = array.size and (array == array.flat[0]).all()
    is_number &= plan.shape(other) == plan.shape(node.output) and np.isfinite(array.flat[0])
    return float(array.flat[0]) if is_number else None


def _with_number(node: Node, of: str, output: str, number: float, reverse: bool) -> Layers:
    kind = BINARY[node.operation]
    if node.operation == "pow" and not reverse:
        if number not in POWERS:
            raise Unsupported("ncnn", node, f"with the exponent {number:g}")
        yield Layer("UnaryOp", (of,), output, {0: POWERS[number]})
        return
    if node.operation == "pow" and number <= 0:
        raise Unsupported("ncnn", node, f"of {number:g}")
    kind = REVERSED.get(kind, kind) if reverse else kind
    yield Layer("BinaryOp", (of,), output, {0: kind, 1: 1, 2: blobs.finite(number)})
