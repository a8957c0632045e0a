"""Rules that leave out what changes nothing, and write the rest in one way. Read `RULES`."""

from collections.abc import Mapping, Sequence

from deploy.graphs.arithmetic import (
    BINARY,
    NEUTRAL,
    REWRITTEN,
    UNARY,
    as_choice,
    as_clip,
    as_number,
    before_reshape,
    chosen,
    clips,
    compacted,
    neutral,
    without_broadcast,
)
from deploy.graphs.draft import Draft, Rule
from deploy.graphs.graph import FREE, Node
from deploy.graphs.rules.moves import joined, padded, reshaped, sliced, transposed

Counts = Mapping[str, int]


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
        "cast": [is_same, as_number, before_reshape],
        "clip": [is_same, clips, before_reshape],
        "concat": [single],
        "where": [chosen],
        **{operation: [over_nothing] for operation in ("sum", "mean", "reduce_max")},
    }
    for operation in UNARY:
        table.setdefault(operation, [before_reshape])
    for operation in (*BINARY, *REWRITTEN):
        rules: list[Rule] = [without_broadcast, compacted]
        rules = [neutral, *rules] if operation in NEUTRAL else rules
        rules += [as_clip] if operation in ("max", "min") else [before_reshape]
        table[operation] = rules
    return table


RULES: Mapping[str, Sequence[Rule]] = _table()

LATE: Mapping[str, Sequence[Rule]] = {
    "slice": [part],
    **{operation: [as_choice] for operation in (*REWRITTEN, "not")},
}
"""Rules that would hide what `recognise` looks for, if they came before it."""
