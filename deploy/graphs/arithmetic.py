"""Rules for what is computed entry by entry: what changes nothing, bounds, choices, channels.

`tidy` has them in its table.
"""

import math
from collections.abc import Mapping

import numpy as np

from deploy.graphs.draft import Draft
from deploy.graphs.graph import Node
from deploy.graphs.rules.entries import binary, small
from deploy.graphs.rules.moves import reshaped

Counts = Mapping[str, int]
UNARY = ["clip", "sigmoid", "tanh", "exp", "log", "sqrt", "rsqrt", "erf", "neg", "abs", "sign"]
BINARY = ["add", "sub", "mul", "div", "max", "min", "pow", "equal", "less", "greater"]
NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0, "max": -math.inf, "min": math.inf}
REWRITTEN = ["ne", "le", "ge", "and", "or"]
"""Operations on two values that are none of `graph.OPERATIONS`: see `chosen` and `as_choice`."""
OPPOSITE = {"ge": "less", "le": "greater", "ne": "equal"}


def neutral(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A sum with 0, a product with 1 and their like."""
    left, right = node.inputs
    if node.attributes:  # bounds
        return None
    for constant, other in ((right, left), (left, right)):
        is_right = constant == right
        value = draft.uniform(constant)
        same = draft.shape(other) == draft.shape(node.output)
        if (
            same
            and value == NEUTRAL[node.operation]
            and (is_right or node.operation in ("add", "mul"))
        ):
            return other
    return None


def without_broadcast(draft: Draft, node: Node, counts: Counts) -> str | None:
    """An operation on two values of which one is repeated before, as the operation does itself."""
    inputs = list(node.inputs)
    for place, name in enumerate(inputs):
        before = draft.made_by(name, "broadcast")
        if before is not None:
            inputs[place] = before.inputs[0]
    try:
        fits = np.broadcast_shapes(*map(draft.shape, inputs)) == draft.shape(node.output)
    except ValueError:
        fits = False
    if not fits or tuple(inputs) == node.inputs:
        return None
    shape, dtype = draft.shape(node.output), draft.dtype(node.output)
    return draft.add(node.operation, inputs, shape, dtype, node.layer, **node.attributes)


def compacted(draft: Draft, node: Node, counts: Counts) -> str | None:
    """An operation beside a constant whose entries repeat."""
    left, right = node.inputs
    shape = draft.shape(node.output)
    inputs = (small(draft, left, right, shape), small(draft, right, left, shape))
    if inputs == node.inputs:
        return None
    return draft.add(
        node.operation, inputs, shape, draft.dtype(node.output), node.layer, **node.attributes
    )


def as_clip(draft: Draft, node: Node, counts: Counts) -> str | None:
    """The larger or the smaller of a value and a number."""
    for name, constant in (node.inputs, node.inputs[::-1]):
        value = draft.uniform(constant)
        fits = draft.shape(name) == draft.shape(node.output)
        if value is None or not fits or draft.dtype(name) != "float32" or math.isnan(value):
            continue
        bounds = (value, math.inf) if node.operation == "max" else (-math.inf, value)
        return draft.add("clip", [name], draft.shape(name), layer=node.layer, bounds=bounds)
    return None


def clips(draft: Draft, node: Node, counts: Counts) -> str | None:
    """Bounds of bounds."""
    before = draft.made_by(node.inputs[0], "clip")
    if before is None:
        return None
    (low, high), (least, most) = before.attributes["bounds"], node.attributes["bounds"]
    bounds = (min(max(low, least), most), max(min(high, most), least))
    shape = draft.shape(node.output)
    return draft.add("clip", before.inputs, shape, layer=node.layer, bounds=bounds)


def chosen(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A choice by a comparison or a combination that is no operation: others choose alike."""
    condition, yes, no = node.inputs
    shape, dtype = draft.shape(node.output), draft.dtype(node.output)
    before = draft.made_by(condition, "not", "and", "or", "ge", "le", "ne")
    if before is None:
        return None

    def choose(by: str, first: str, second: str) -> str:
        return draft.add("where", [by, first, second], shape, dtype, node.layer)

    match before.operation:
        case "not":
            return choose(before.inputs[0], no, yes)
        case "and":
            return choose(before.inputs[0], choose(before.inputs[1], yes, no), no)
        case "or":
            return choose(before.inputs[0], yes, choose(before.inputs[1], yes, no))
    left, right = before.inputs
    if before.operation == "ne" and left == right and draft.shape(no) == shape:
        return no  # it asks what is no number
    return choose(binary(draft, OPPOSITE[before.operation], left, right, "bool"), no, yes)


def as_choice(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A condition that is no operation, and that others than choices read, as a choice itself."""
    left, right = (*node.inputs, *node.inputs)[:2]
    if draft.dtype(node.output) != "bool" or draft.dtype(left) != draft.dtype(right):
        return None
    yes, no = (draft.constant(np.asarray(truth)) for truth in (True, False))
    match node.operation:
        case "not":
            cases = (left, no, yes)
        case "and":
            cases = (left, right, no)
        case "or":
            cases = (left, yes, right)
        case operation:
            cases = (binary(draft, OPPOSITE[operation], left, right, "bool"), no, yes)
    return draft.add("where", cases, draft.shape(node.output), "bool", node.layer)


def as_number(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A condition that is no operation as numbers: 1 where it holds, else 0."""
    (condition,), dtype = node.inputs, draft.dtype(node.output)
    if draft.made_by(condition, "not", "and", "or", "ge", "le", "ne") is None or dtype == "bool":
        return None
    yes, no = (draft.constant(np.asarray(number, dtype)) for number in (1, 0))
    return draft.add("where", [condition, yes, no], draft.shape(node.output), dtype, node.layer)


def before_reshape(draft: Draft, node: Node, counts: Counts) -> str | None:
    """An operation on channels that are split into groups: it is one on the channels."""
    places = [n for n, name in enumerate(node.inputs) if name not in draft.constants]
    split = draft.made_by(node.inputs[places[0]], "reshape") if len(places) == 1 else None
    if split is None:
        return None
    (name,), shape = split.inputs, draft.shape(split.output)
    first, dtype = draft.shape(name), draft.dtype(node.output)
    above = len(first) - 1
    if len(shape) <= len(first) or shape[:above] != first[:above]:
        return None
    inputs: list[str] = []
    for n, given in enumerate(node.inputs):
        array = draft.array(given)
        if n == places[0] or array is None:
            inputs.append(name)
            continue
        if array.ndim > len(shape) - above or draft.shape(node.output) != shape:
            return None
        tail = np.broadcast_to(array, shape[above:]).reshape(first[-1:])
        inputs.append(draft.constant(tail, draft.constants[given].source))
    made = draft.add(node.operation, inputs, first, dtype, node.layer, **node.attributes)
    return reshaped(draft, made, shape)
