"""Rules that leave out what changes nothing, and write the rest in one way. Read `RULES`."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from deploy.graphs.draft import Draft, Rule
from deploy.graphs.graph import FREE, Node
from deploy.graphs.rules.entries import binary, small
from deploy.graphs.rules.moves import joined, padded, reshaped, sliced, transposed

Counts = Mapping[str, int]
UNARY = ["clip", "sigmoid", "tanh", "exp", "log", "sqrt", "rsqrt", "erf", "neg", "abs", "sign"]
BINARY = ["add", "sub", "mul", "div", "max", "min", "pow", "equal", "less", "greater"]
BINARY += ["ne", "le", "ge", "and", "or"]
NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0, "max": -math.inf, "min": math.inf}


def is_same(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A movement that moves nothing."""
    name = node.inputs[0]
    same = draft.shape(name) == draft.shape(node.output)
    options = node.attributes
    match node.operation:
        case "transpose":
            same = options["permutation"] == tuple(range(len(options["permutation"])))
        case "cast":
            same = draft.dtype(name) == options["dtype"]
        case "clip":
            same = options["bounds"] == FREE
    return name if same else None


def reshapes(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A reshape of a reshape."""
    before = draft.made_by(node.inputs[0], "reshape")
    shape = draft.shape(node.output)
    return reshaped(draft, before.inputs[0], shape, node.layer) if before else None


def keeps_dimensions(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A reshape that gives a reduction its axes back, if nothing reads it without them."""
    before = draft.made_by(node.inputs[0], "sum", "mean", "reduce_max")
    if before is None or before.attributes["keepdims"] or counts.get(before.output, 1) != 1:
        return None
    shape, axes = draft.shape(before.inputs[0]), before.attributes["axes"]
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    if kept != draft.shape(node.output):
        return None
    dtype = draft.dtype(node.output)
    return draft.add(
        before.operation, before.inputs, kept, dtype, before.layer, axes=axes, keepdims=True
    )


def over_nothing(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A reduction of single entries."""
    (name,), axes = node.inputs, node.attributes["axes"]
    if any(draft.shape(name)[axis] != 1 for axis in axes):
        return None
    return reshaped(draft, name, draft.shape(node.output), node.layer)


def transposes(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A transpose of a transpose, or of axes of which all but one have a single entry."""
    order, (name,) = node.attributes["permutation"], node.inputs
    before = draft.made_by(name, "transpose")
    if before is not None:
        first = before.attributes["permutation"]
        return transposed(draft, before.inputs[0], [first[axis] for axis in order], node.layer)
    moved = [axis for axis in order if draft.shape(name)[axis] != 1]
    return (
        reshaped(draft, name, draft.shape(node.output), node.layer)
        if moved == sorted(moved)
        else None
    )


def slices(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A slice of a slice."""
    begin, strides = node.attributes["begin"], node.attributes["strides"]
    before = draft.made_by(node.inputs[0], "slice")
    if before is None:
        return None
    first, steps = before.attributes["begin"], before.attributes["strides"]
    every = [s * t for s, t in zip(strides, steps, strict=True)]
    low = [f + b * t for f, b, t in zip(first, begin, steps, strict=True)]
    sizes = draft.shape(node.output)
    high = [b + (n - 1) * s + 1 for b, n, s in zip(low, sizes, every, strict=True)]
    return sliced(draft, before.inputs[0], low, high, every)


def part(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A slice of one part of a concatenation."""
    begin, end, strides = (node.attributes[key] for key in ("begin", "end", "strides"))
    before, place = draft.made_by(node.inputs[0], "concat"), 0
    if before is None:
        return None
    axis = before.attributes["axis"]
    for name in before.inputs:
        size = draft.shape(name)[axis]
        if place <= begin[axis] and end[axis] <= place + size:
            low = [b - place * (n == axis) for n, b in enumerate(begin)]
            high = [e - place * (n == axis) for n, e in enumerate(end)]
            return sliced(draft, name, low, high, strides)
        place += size
    return None


def pads(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A pad of a pad with the same number."""
    before = draft.made_by(node.inputs[0], "pad")
    if before is None or before.attributes["value"] != node.attributes["value"]:
        return None
    both = zip(node.attributes["pads"], before.attributes["pads"], strict=True)
    margins = [(a + c, b + d) for (a, b), (c, d) in both]
    return padded(draft, before.inputs[0], margins, node.attributes["value"], node.layer)


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

    opposite = {"ge": "less", "le": "greater", "ne": "equal"}
    match before.operation:
        case "not":
            return choose(before.inputs[0], no, yes)
        case "and":
            return choose(before.inputs[0], choose(before.inputs[1], yes, no), no)
        case "or":
            return choose(before.inputs[0], yes, choose(before.inputs[1], yes, no))
    left, right = before.inputs
    return choose(binary(draft, opposite[before.operation], left, right, "bool"), no, yes)


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


def single(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A concatenation of one value."""
    return joined(draft, node.inputs, node.attributes["axis"]) if len(node.inputs) == 1 else None


def _table() -> Mapping[str, Sequence[Rule]]:
    table: dict[str, list[Rule]] = {
        "reshape": [is_same, reshapes, keeps_dimensions],
        "transpose": [is_same, transposes],
        "broadcast": [is_same],
        "slice": [is_same, slices],
        "pad": [is_same, pads],
        "cast": [is_same, before_reshape],
        "clip": [is_same, clips, before_reshape],
        "concat": [single],
        "where": [chosen],
        **{operation: [over_nothing] for operation in ("sum", "mean", "reduce_max")},
    }
    for operation in UNARY:
        table.setdefault(operation, [before_reshape])
    for operation in BINARY:
        rules: list[Rule] = [without_broadcast, compacted]
        rules = [neutral, *rules] if operation in NEUTRAL else rules
        rules += [as_clip] if operation in ("max", "min") else [before_reshape]
        table[operation] = rules
    return table


RULES: Mapping[str, Sequence[Rule]] = _table()

LATE: Mapping[str, Sequence[Rule]] = {"slice": [part]}
"""Rules that would hide what `recognise` looks for, if they came before it."""
