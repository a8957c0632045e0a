"""Rules that find operations in the equations that compute them. Read `RULES`."""

import math
from collections.abc import Mapping, Sequence

from deploy.graphs import pooling
from deploy.graphs.draft import Draft, Rule
from deploy.graphs.graph import Node

Counts = Mapping[str, int]


def mean(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A sum that is divided by the number of its entries, or multiplied by its inverse."""
    name, value = node.inputs[0], draft.uniform(node.inputs[1])
    if node.operation == "mul" and value is None:
        name, value = node.inputs[1], draft.uniform(node.inputs[0])
    total = draft.made_by(name, "sum")
    if total is None or not value or draft.shape(name) != draft.shape(node.output):
        return None
    shape, axes = draft.shape(total.inputs[0]), total.attributes["axes"]
    entries = math.prod(shape[axis] for axis in axes)
    if not math.isclose(value if node.operation == "div" else 1 / value, entries, rel_tol=1e-6):
        return None
    return draft.add("mean", total.inputs, draft.shape(name), layer=total.layer, **total.attributes)


def softmax(draft: Draft, node: Node, counts: Counts) -> str | None:
    """exp(x − max x) divided by its sum over one axis."""
    exp, total = draft.made_by(node.inputs[0], "exp"), draft.made_by(node.inputs[1], "sum")
    if exp is None or total is None or total.inputs != (exp.output,):
        return None
    shifted = draft.made_by(exp.inputs[0], "sub")
    if shifted is None or len(total.attributes["axes"]) != 1 or not total.attributes["keepdims"]:
        return None
    most = draft.made_by(shifted.inputs[1], "reduce_max")
    if most is None or most.attributes != total.attributes or most.inputs[0] != shifted.inputs[0]:
        return None
    shape, axis = draft.shape(node.output), total.attributes["axes"][0]
    return draft.add("softmax", most.inputs, shape, layer=node.layer, axis=axis)


def _by_sign(draft: Draft, node: Node) -> tuple[str, str, str] | None:
    """Returns (x, what is taken where it is positive, what where it is negative) of a choice.

    At 0 it may be either.
    """
    condition, yes, no = node.inputs
    sign = draft.made_by(condition, "less", "greater", "le", "ge")
    if sign is None or draft.uniform(sign.inputs[1]) != 0 or draft.dtype(node.output) != "float32":
        return None
    above, below = (no, yes) if sign.operation in ("less", "le") else (yes, no)
    x = sign.inputs[0]
    return (x, above, below) if draft.shape(x) == draft.shape(node.output) else None


def half(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A value where it is positive (or negative), else 0: bounds."""
    found = _by_sign(draft, node)
    if found is None:
        return None
    x, above, below = found
    for given, other, bounds in (
        (above, below, (0.0, math.inf)),
        (below, above, (-math.inf, 0.0)),
    ):
        if given == x and draft.uniform(other) == 0:
            return draft.add("clip", [x], draft.shape(x), layer=node.layer, bounds=bounds)
    return None


def exponential(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A value where it is positive, else a (exp x − 1), with x = 0 where it is positive: a sum."""
    found = _by_sign(draft, node)
    if found is None or found[1] != found[0]:
        return None
    x, _, below = found
    product = draft.made_by(below, "mul")
    name = below
    if product is not None:
        name = next((n for n in product.inputs if draft.uniform(n) is None), "")
    less = draft.made_by(name, "sub")
    exp = draft.made_by(less.inputs[0], "exp") if less else None
    clip = draft.made_by(exp.inputs[0], "clip") if exp else None
    if less is None or draft.uniform(less.inputs[1]) != 1 or clip is None:
        return None
    if clip.inputs != (x,) or clip.attributes["bounds"] != (-math.inf, 0):
        return None
    shape = draft.shape(x)
    positive = draft.add("clip", [x], shape, layer=node.layer, bounds=(0.0, math.inf))
    return draft.add("add", [positive, below], shape, layer=node.layer)


def leaky(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A value where it is positive, else its product with a number of 0 … 1: the larger of both."""
    found = _by_sign(draft, node)
    product = draft.made_by(found[2], "mul") if found else None
    if found is None or product is None or found[1] != found[0]:
        return None
    whole, _, part = found
    if whole not in product.inputs:
        return None
    slope = product.inputs[0] if product.inputs[1] == whole else product.inputs[1]
    value = draft.uniform(slope)
    if value is None or not 0 <= value <= 1:
        return None
    return draft.add("max", [whole, part], draft.shape(node.output), layer=node.layer)


def shuffle(draft: Draft, node: Node, counts: Counts) -> str | None:
    """Channels of images as groups, transposed, as channels again."""
    turned = draft.made_by(node.inputs[0], "transpose")
    apart = turned and draft.made_by(turned.inputs[0], "reshape")
    if turned is None or apart is None:
        return None
    shape, grouped = draft.shape(node.output), draft.shape(apart.output)
    fits = draft.shape(apart.inputs[0]) == shape and grouped[:-2] == shape[:-1]
    if not fits or len(shape) != 4 or turned.attributes["permutation"] != (0, 1, 2, 4, 3):
        return None
    return draft.add("channel_shuffle", apart.inputs, shape, layer=node.layer, groups=grouped[-2])


def from_the_end(draft: Draft, node: Node, counts: Counts) -> str | None:
    """A look-up at places to which N is added where they are below 0, as `gather` itself does."""
    table, places = node.inputs
    choice = draft.made_by(places, "where")
    if choice is None:
        return None
    condition, wrapped, given = choice.inputs
    below, moved = draft.made_by(condition, "less"), draft.made_by(wrapped, "add")
    if below is None or moved is None or below.inputs[0] != given or given not in moved.inputs:
        return None
    added = next((name for name in moved.inputs if name != given), "")
    rows = draft.shape(table)[0]
    if draft.uniform(below.inputs[1]) != 0 or not added or draft.uniform(added) != rows:
        return None
    return draft.add("gather", [table, given], draft.shape(node.output), layer=node.layer)


WINDOWS: Mapping[str, Sequence[Rule]] = {
    "where": [pooling.larger],
    "max": [pooling.windows],
    "add": [pooling.windows],
    "reshape": [shuffle],
}
"""What comes first: other rules might replace what these look for."""

RULES: Mapping[str, Sequence[Rule]] = {
    "max_pool": [pooling.merged, pooling.padded_before, pooling.last_twice],
    "sum_pool": [pooling.merged, pooling.padded_before],
    "average_pool": [pooling.padded_before],
    "conv": [pooling.padded_before],
    "div": [pooling.average, mean, softmax],
    "mul": [pooling.average, mean],
    "where": [half, leaky, exponential],
    "gather": [from_the_end],
}
