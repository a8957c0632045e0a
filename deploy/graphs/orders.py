"""Rules that move transposes towards the outputs, where two of them meet and end each other.

Networks that keep channels first (Equinox, Haiku's `data_format`) then compute with channels last,
as all images of a graph are. Read `RULES`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deploy.graphs.draft import Draft, Rule
from deploy.graphs.graph import Node
from deploy.graphs.ones import ENTRIES
from deploy.graphs.rules.moves import reshaped, transposed

Counts = Mapping[str, int]


def of_entries(draft: Draft, node: Node, counts: Counts) -> str | None:
    """An operation entry by entry on transposed values and constants."""
    shape = draft.shape(node.output)
    order = _shared(draft, node.inputs)
    if order is None or len(order) != len(shape):
        return None
    back = list(np.argsort(order))
    inputs = []
    for name in node.inputs:
        if name in draft.constants:
            own = draft.shape(name)
            whole = reshaped(draft, name, (1,) * (len(shape) - len(own)) + own) if own else name
            inputs.append(transposed(draft, whole, back) if own else name)
        else:
            inputs.append(draft.nodes[name].inputs[0])
    sizes, dtype = [shape[axis] for axis in back], draft.dtype(node.output)
    made = draft.add(node.operation, inputs, sizes, dtype, node.layer, **node.attributes)
    return transposed(draft, made, order)


def of_axes(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A concatenation, margins, a part, or a softmax of transposed values."""
    order = _shared(draft, node.inputs)
    if order is None or any(name in draft.constants for name in node.inputs):
        return None
    back, shape = list(map(int, np.argsort(order))), draft.shape(node.output)
    options: dict[str, Any] = {}
    for key, value in node.attributes.items():
        if key == "axis":
            options[key] = order[value]
        else:
            options[key] = value if key == "value" else tuple(value[axis] for axis in back)
    inputs = [draft.nodes[name].inputs[0] for name in node.inputs]
    sizes, dtype = [shape[axis] for axis in back], draft.dtype(node.output)
    return transposed(
        draft, draft.add(node.operation, inputs, sizes, dtype, node.layer, **options), order
    )


def of_reduction(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A reduction of a transposed value."""
    order = _shared(draft, node.inputs)
    if order is None:
        return None
    (name,), axes, keepdims = node.inputs, node.attributes["axes"], node.attributes["keepdims"]
    source = draft.nodes[name].inputs[0]
    reduced = tuple(sorted(order[axis] for axis in axes))
    left = [axis for axis in range(len(order)) if keepdims or axis not in reduced]
    shape = draft.shape(source)
    sizes = [1 if axis in reduced else shape[axis] for axis in left]
    options: dict[str, Any] = {"axes": reduced, "keepdims": keepdims}
    made = draft.add(
        node.operation, [source], sizes, draft.dtype(node.output), node.layer, **options
    )
    return transposed(draft, made, [left.index(axis) for axis in order if axis in left])


def of_rows(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A dense layer of vectors that were images in another order: its kernel's rows are moved."""
    x, kernel, bias = node.inputs
    flat = draft.made_by(x, "reshape")
    turned = draft.made_by(flat.inputs[0], "transpose") if flat else None
    if flat is None or turned is None or len(draft.shape(x)) != 2:
        return None
    order, shape = turned.attributes["permutation"], draft.shape(turned.output)
    if order[0] != 0 or shape[0] != draft.shape(x)[0]:
        return None
    back = [int(axis) - 1 for axis in np.argsort(order)[1:]]
    rows, columns = draft.shape(kernel)
    apart = reshaped(draft, kernel, (*shape[1:], columns))
    moved = reshaped(draft, transposed(draft, apart, [*back, len(back)]), (rows, columns))
    source = reshaped(draft, turned.inputs[0], draft.shape(x), flat.layer)
    return draft.add(
        "dense",
        [source, moved, bias],
        draft.shape(node.output),
        layer=node.layer,
        **node.attributes,
    )


def of_product(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A dense layer along another axis than the last: the others stay in their own order."""
    x, *parameters = node.inputs
    turned = draft.made_by(x, "transpose")
    if turned is None:
        return None
    *first, inner = turned.attributes["permutation"]
    if first == sorted(first):
        return None
    moved = transposed(draft, turned.inputs[0], [*sorted(first), inner])
    shape = [*draft.shape(moved)[:-1], draft.shape(node.output)[-1]]
    made = draft.add("dense", [moved, *parameters], shape, layer=node.layer, **node.attributes)
    return transposed(draft, made, [*map(sorted(first).index, first), len(first)])


def _shared(draft: Draft, inputs: Sequence[str]) -> tuple[int, ...] | None:
    """Returns the order in which all inputs that are no constants were transposed."""
    found = [draft.made_by(name, "transpose") for name in inputs if name not in draft.constants]
    orders = {node.attributes["permutation"] if node else None for node in found}
    return orders.pop() if len(orders) == 1 else None


RULES: Mapping[str, Sequence[Rule]] = {
    **{operation: [of_entries] for operation in ENTRIES},
    **{operation: [of_axes] for operation in ("concat", "pad", "slice", "softmax")},
    **{operation: [of_reduction] for operation in ("sum", "mean", "reduce_max")},
    "dense": [of_rows, of_product],
}
