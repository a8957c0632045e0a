"""Rules for arrays of more than four axes: axes of a single entry are left out. Read `RULES`.

Engines have few operations for so many axes, and what stands beside each other with and without
such an axis is not seen as one.
"""

from collections.abc import Mapping, Sequence

from deploy.graphs.arithmetic import BINARY, UNARY
from deploy.graphs.draft import Draft, Rule
from deploy.graphs.graph import Node
from deploy.graphs.rules.moves import reshaped, transposed

Counts = Mapping[str, int]
FEW = 4
ENTRIES = (*UNARY, *BINARY, "where")


def of_entries(draft: Draft, node: Node, counts: Counts) -> str | None:
    """An operation entry by entry."""
    shape = draft.shape(node.output)
    kept = [axis for axis, size in enumerate(shape) if size != 1]
    if len(shape) <= FEW or len(kept) == len(shape):
        return None
    inputs = []
    for name in node.inputs:
        own = draft.shape(name)
        whole = (1,) * (len(shape) - len(own)) + own
        inputs.append(reshaped(draft, name, [whole[axis] for axis in kept] if own else ()))
    sizes, dtype = [shape[axis] for axis in kept], draft.dtype(node.output)
    made = draft.add(node.operation, inputs, sizes, dtype, node.layer, **node.attributes)
    return reshaped(draft, made, shape)


def of_reduction(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A reduction over other axes."""
    (name,), axes = node.inputs, node.attributes["axes"]
    shape = draft.shape(name)
    kept = [axis for axis, size in enumerate(shape) if size != 1 or axis in axes]
    if len(shape) <= FEW or len(kept) == len(shape):
        return None
    options = {"axes": tuple(map(kept.index, axes)), "keepdims": node.attributes["keepdims"]}
    source = reshaped(draft, name, [shape[axis] for axis in kept])
    sizes = [1 if axis in axes else shape[axis] for axis in kept]
    if not options["keepdims"]:
        sizes = [shape[axis] for axis in kept if axis not in axes]
    dtype = draft.dtype(node.output)
    made = draft.add(node.operation, [source], sizes, dtype, node.layer, **options)
    return reshaped(draft, made, draft.shape(node.output))


def of_transpose(draft: Draft, node: Node, counts: Counts) -> str | None:
    """Another order of axes."""
    (name,), order = node.inputs, node.attributes["permutation"]
    shape = draft.shape(name)
    kept = [axis for axis, size in enumerate(shape) if size != 1]
    if len(shape) <= FEW or len(kept) == len(shape):
        return None
    source = reshaped(draft, name, [shape[axis] for axis in kept])
    moved = transposed(draft, source, [kept.index(axis) for axis in order if axis in kept])
    return reshaped(draft, moved, draft.shape(node.output))


RULES: Mapping[str, Sequence[Rule]] = {
    **{operation: [of_entries] for operation in ENTRIES},
    **{operation: [of_reduction] for operation in ("sum", "mean", "reduce_max")},
    "transpose": [of_transpose],
}
