"""How equations treat channels that are scaled. Read `Label` and `RULES` first.

Rules follow a label through what is positively homogeneous in each channel, f(s x) = s f(x) for
s > 0, and name what is not.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.quantize.data_free.flat import Equation, Flat, hands_on, is_zero
from groundwork.traced import walk
from groundwork.traced.walk import SAME

MOVES = ("reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "rev")
COMPARED = ("gt", "ge", "lt", "le", "eq", "ne")
REDUCED = ("reduce_sum", "reduce_max", "reduce_min")
WINDOWS = ("reduce_window_sum", "reduce_window_max", "reduce_window_min")
ADDED = "its channels are added to others"
SUMS = ("add", "add_any", "sub")


class Label(NamedTuple):
    """The channels that lie along an axis of a value."""

    axis: int
    ids: np.ndarray  # [length of the axis]; −1 where an entry stays as it is


def spread(label: Label, shape: tuple[int, ...]) -> Any:
    """Returns the channel of each entry."""
    ids = label.ids.reshape([-1 if n == label.axis else 1 for n in range(len(shape))])
    return np.broadcast_to(ids, shape)


def along(ids: np.ndarray) -> Label | None:
    """Returns the only axis along which the channels of entries differ; the last if none does."""
    for axis in reversed(range(ids.ndim)):
        first = ids[tuple(slice(None) if n == axis else slice(0, 1) for n in range(ids.ndim))]
        if np.array_equal(np.broadcast_to(first, ids.shape), ids):
            return Label(axis, first.reshape(-1))
    return None


Rule = Callable[[Flat, Equation, Sequence[Label | None]], Label | list[Label] | str | None]
"""→ label of the output, or of each; None if it stays as it is; or the reason why neither is so."""


def _same(flat: Flat, one: Equation, given: Sequence[Label | None]) -> Label | None:
    return given[0]


def _handed_on(flat: Flat, one: Equation, given: Sequence[Label | None]) -> Label | str | None:
    return given[0] if hands_on(one) else f"it goes through {one.name}, which rounds"


def _moved(flat: Flat, one: Equation, given: Sequence[Label | None]) -> Label | str:
    assert given[0] is not None
    ids = spread(given[0], one.equation.invars[0].aval.shape).astype(np.int32)
    return along(np.asarray(walk.bind(one.equation, [ids])[0])) or "its channels are mixed"


def _times(flat: Flat, one: Equation, given: Sequence[Label | None]) -> Label | str:
    shapes = [v.aval.shape for v in (*one.equation.invars, one.equation.outvars[0])]
    if given[1] is not None and (given[0] is not None or one.name == "div"):
        return f"it goes through {one.name} with others"
    side = 0 if given[1] is None else 1
    label = given[side]
    if label is None or shapes[side] != shapes[2]:
        return f"it goes through {one.name}"
    return label


def _alike(flat: Flat, one: Equation, given: Sequence[Label | None]) -> Label | str:
    """Of equations whose operands are the same channels, or 0."""
    shapes = [v.aval.shape for v in one.equation.invars]
    operands = [n for n, value in enumerate(one.inputs) if not is_zero(flat, value)]
    labels = [given[n] for n in operands]
    first = labels[0]
    if first is None or any(label is None for label in labels):
        if one.name not in SUMS:
            return f"{one.name} with a number other than 0 is not homogeneous"
        data = all(value in flat.data for value in one.inputs)
        return ADDED if data else "a constant is added to it"
    if _are_same(labels) and len({shapes[n] for n in operands}) == 1:
        return first
    return ADDED if one.name in SUMS else f"it meets others in {one.name}"


def _compared(flat: Flat, one: Equation, given: Sequence[Label | None]) -> str | None:
    made = _alike(flat, one, given)
    return made if isinstance(made, str) else None


def _chosen(flat: Flat, one: Equation, given: Sequence[Label | None]) -> Label | str:
    labels = [given[n] for n, value in enumerate(one.inputs) if n > 0 and not is_zero(flat, value)]
    if given[0] is not None or not _are_same(labels):
        return "it meets others in select_n"
    return labels[0] or "it meets others in select_n"


def _are_same(labels: Sequence[Label | None]) -> bool:
    """Returns whether labels are those of the same channels along the same axis."""
    first, *others = labels
    return first is not None and all(
        label is not None and label.axis == first.axis and np.array_equal(label.ids, first.ids)
        for label in others
    )


def _reduced(flat: Flat, one: Equation, given: Sequence[Label | None]) -> Label | str:
    assert given[0] is not None
    axes = one.equation.params["axes"]
    if given[0].axis in axes:
        return f"its channels are taken together by {one.name}"
    return Label(given[0].axis - sum(axis < given[0].axis for axis in axes), given[0].ids)


def _windowed(flat: Flat, one: Equation, given: Sequence[Label | None]) -> Label | str:
    assert given[0] is not None
    params, axis = one.equation.params, given[0].axis
    size, stride = params["window_dimensions"][axis], params["window_strides"][axis]
    if (size, stride, params["padding"][axis]) != (1, 1, (0, 0)):
        return f"its channels are taken together by {one.name}"
    return given[0]


def _padded(flat: Flat, one: Equation, given: Sequence[Label | None]) -> Label | str:
    if given[0] is None or not is_zero(flat, one.inputs[1]):
        return "it is padded by another number than 0"
    low, high, inner = one.equation.params["padding_config"][given[0].axis]
    if min(low, high) < 0 or inner:
        return "its channels are padded in between"
    ids = np.pad(given[0].ids, (int(low), int(high)), constant_values=-1)
    return Label(given[0].axis, ids)


def _parted(flat: Flat, one: Equation, given: Sequence[Label | None]) -> list[Label]:
    assert given[0] is not None
    if one.equation.params["axis"] != given[0].axis:
        return [given[0]] * len(one.outputs)
    ends = np.cumsum(one.equation.params["sizes"])[:-1]
    return [Label(given[0].axis, ids) for ids in np.split(given[0].ids, ends)]


def _joined(flat: Flat, one: Equation, given: Sequence[Label | None]) -> Label | str:
    axis = one.equation.params["dimension"]
    if any(label is not None and label.axis != axis for label in given):
        return "it is joined to others along another axis"
    sizes = [v.aval.shape[axis] for v in one.equation.invars]
    parts = [
        np.full(size, -1) if label is None else label.ids
        for label, size in zip(given, sizes, strict=True)
    ]
    return Label(axis, np.concatenate(parts))


RULES: dict[str, Rule] = {
    **dict.fromkeys(SAME, _handed_on),
    **dict.fromkeys(("neg", "abs"), _same),
    **dict.fromkeys(MOVES, _moved),
    **dict.fromkeys(("mul", "div"), _times),
    **dict.fromkeys(("max", "min", *SUMS), _alike),
    **dict.fromkeys(COMPARED, _compared),
    **dict.fromkeys(REDUCED, _reduced),
    **dict.fromkeys(WINDOWS, _windowed),
    "sign": lambda flat, one, given: None,
    "is_finite": lambda flat, one, given: None,
    "select_n": _chosen,
    "pad": _padded,
    "split": _parted,
    "concatenate": _joined,
}
