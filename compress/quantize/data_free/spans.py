"""Which layers take the output channels of a product, unchanged but for their scale.

Read `spans` first. Every channel of every chain has a number. A value is `labelled` with numbers
along one axis where each entry is divided by s if its channel is, for any s > 0; all other values
must stay as they are. Whatever breaks this blocks the channels' chains.
"""

# C output channels, N inputs of a layer

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.quantize.data_free.chains import Chain
from compress.quantize.data_free.flat import Equation, Flat, constant, depends_on
from groundwork.traced import walk
from groundwork.traced.products import as_inputs
from groundwork.traced.walk import PRODUCTS, SAME

MOVES = ("reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "rev")
COMPARED = ("gt", "ge", "lt", "le", "eq", "ne")
REDUCED = ("reduce_sum", "reduce_max", "reduce_min")
WINDOWS = ("reduce_window_sum", "reduce_window_max", "reduce_window_min")
ADDED = "its channels are added to others"
SUMS = ("add", "add_any", "sub")
NOBODY = "nothing is multiplied by it"


class Label(NamedTuple):
    """The channels that lie along an axis of a value."""

    axis: int
    ids: np.ndarray  # [length of the axis]; −1 where an entry stays as it is


class Use(NamedTuple):
    """A chain whose product takes channels, and which."""

    chain: int
    ids: np.ndarray  # [N], channels of images; −1 for inputs that stay as they are


class Spans(NamedTuple):
    """The channels of chains, and the products that take them.

    Attributes:
      first: the number of the first channel of each chain.
      uses: one for each product that takes labelled channels.
      blocked: number of a chain → why its channels cannot be scaled.
    """

    first: list[int]
    uses: list[Use]
    blocked: dict[int, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Tour:
    """What is known on the way through the equations."""

    flat: Flat
    chains: Sequence[Chain]
    first: list[int]
    labels: dict[int, Label] = dataclasses.field(default_factory=dict)
    uses: list[Use] = dataclasses.field(default_factory=list)
    blocked: dict[int, str] = dataclasses.field(default_factory=dict)

    def block(self, ids: np.ndarray, reason: str) -> None:
        """Notes why the chains of channels cannot be scaled."""
        for chain in np.unique(np.searchsorted(self.first, ids[ids >= 0], "right") - 1):
            self.blocked.setdefault(int(chain), reason)

    def is_zero(self, value: int) -> bool:
        """Returns whether a value is the constant 0."""
        flat = self.flat
        if value in flat.data or value in flat.paths or depends_on(flat, value):
            return False
        return not np.any(np.asarray(constant(flat, value, {})))


def spans(flat: Flat, chains: Sequence[Chain]) -> Spans:
    """Returns which products take the channels of which chains.

    What lies between must be positively homogeneous in each channel: f(s x) = s f(x) for s > 0.
    These are ReLU and leaky ReLU, pooling by maximum or mean, products with what does not depend on
    the channel's scale (such as the gates of squeeze-and-excitation, and numbers), and changes of
    the axes. ReLU6, swish, sums with other channels and outputs of the network are not.
    """
    ends = np.cumsum([chain.channels for chain in chains])
    tour = _Tour(flat=flat, chains=chains, first=[0, *ends[:-1].tolist()])
    inside = {step.place for chain in chains for step in chain.steps}
    starts = {chain.place: number for number, chain in enumerate(chains)}
    lasts = {chain.end: number for number, chain in enumerate(chains)}
    for place, one in enumerate(flat.equations):
        if place not in inside:
            _meet(tour, one, starts.get(place))
        for value in one.outputs:
            if value in lasts:
                number = lasts[value]
                first = tour.first[number]
                ids = np.arange(first, first + chains[number].channels)
                tour.labels[value] = Label(chains[number].axis, ids)
    for value in flat.outputs:
        if value in tour.labels:
            tour.block(tour.labels[value].ids, "the network returns it")
    taken = np.concatenate([use.ids for use in tour.uses] or [np.zeros(0, int)])
    for number in range(len(chains)):
        if not np.isin(np.arange(tour.first[number], ends[number]), taken).any():
            tour.blocked.setdefault(number, NOBODY)
    return Spans(tour.first, tour.uses, tour.blocked)


def _meet(tour: _Tour, one: Equation, chain: int | None) -> None:
    """Labels the outputs of an equation, or blocks the chains of what it takes."""
    given = [tour.labels.get(value) for value in one.inputs]
    if not any(given):
        return
    made: list[Label] | str | None = f"it goes through {one.name}"
    if one.name in PRODUCTS:
        made = _product(tour, one, given, chain)
    elif one.name in RULES:
        ruled = RULES[one.name](tour, one, given)
        made = [ruled] if isinstance(ruled, Label) else ruled
    if isinstance(made, list):
        tour.labels.update(zip(one.outputs, made, strict=True))
    elif made:
        for label in filter(None, given):
            tour.block(label.ids, made)


def _product(
    tour: _Tour, one: Equation, given: Sequence[Label | None], chain: int | None
) -> str | None:
    """Notes a product that takes channels; returns the reason if it cannot be scaled."""
    if chain is None:
        return "what multiplies it is no kernel of its own"
    layer = tour.chains[chain].layer
    assert layer.layout is not None
    side = 1 - layer.layout.side
    label, shape = given[side], one.equation.invars[side].aval.shape
    if label is None:
        return "it is what a kernel multiplies"
    taken: Any = as_inputs(layer, _spread(label, shape))  # NumPy's arrays move as JAX's do
    moved = _along(taken)
    if moved is None or moved.axis != taken.ndim - 1:
        return "a product sums over another axis of it"
    tour.uses.append(Use(chain, moved.ids))
    return None


def _spread(label: Label, shape: tuple[int, ...]) -> Any:
    """Returns the channel of each entry."""
    ids = label.ids.reshape([-1 if n == label.axis else 1 for n in range(len(shape))])
    return np.broadcast_to(ids, shape)


def _along(ids: np.ndarray) -> Label | None:
    """Returns the only axis along which the channels of entries differ; the last if none does."""
    for axis in reversed(range(ids.ndim)):
        first = ids[tuple(slice(None) if n == axis else slice(0, 1) for n in range(ids.ndim))]
        if np.array_equal(np.broadcast_to(first, ids.shape), ids):
            return Label(axis, first.reshape(-1))
    return None


Rule = Callable[[_Tour, Equation, Sequence[Label | None]], Label | list[Label] | str | None]
"""→ label of the output, or of each; None if it stays as it is; or the reason why neither is so."""


def _same(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> Label | None:
    return given[0]


def _moved(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> Label | str:
    assert given[0] is not None
    ids = _spread(given[0], one.equation.invars[0].aval.shape).astype(np.int32)
    return _along(np.asarray(walk.bind(one.equation, [ids])[0])) or "its channels are mixed"


def _times(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> Label | str:
    shapes = [v.aval.shape for v in (*one.equation.invars, one.equation.outvars[0])]
    if given[1] is not None and (given[0] is not None or one.name == "div"):
        return f"it goes through {one.name} with others"
    side = 0 if given[1] is None else 1
    label = given[side]
    if label is None or shapes[side] != shapes[2]:
        return f"it goes through {one.name}"
    return label


def _alike(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> Label | str:
    """Of equations whose operands are the same channels, or 0."""
    shapes = [v.aval.shape for v in one.equation.invars]
    operands = [n for n, value in enumerate(one.inputs) if not tour.is_zero(value)]
    labels = [given[n] for n in operands]
    first = labels[0]
    if first is None or any(label is None for label in labels):
        if one.name not in SUMS:
            return f"{one.name} with a number other than 0 is not homogeneous"
        data = all(value in tour.flat.data for value in one.inputs)
        return ADDED if data else "a constant is added to it"
    if _are_same(labels) and len({shapes[n] for n in operands}) == 1:
        return first
    return ADDED if one.name in SUMS else f"it meets others in {one.name}"


def _compared(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> str | None:
    made = _alike(tour, one, given)
    return made if isinstance(made, str) else None


def _chosen(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> Label | str:
    labels = [given[n] for n, value in enumerate(one.inputs) if n > 0 and not tour.is_zero(value)]
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


def _reduced(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> Label | str:
    assert given[0] is not None
    axes = one.equation.params["axes"]
    if given[0].axis in axes:
        return f"its channels are taken together by {one.name}"
    return Label(given[0].axis - sum(axis < given[0].axis for axis in axes), given[0].ids)


def _windowed(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> Label | str:
    assert given[0] is not None
    params, axis = one.equation.params, given[0].axis
    size, stride = params["window_dimensions"][axis], params["window_strides"][axis]
    if (size, stride, params["padding"][axis]) != (1, 1, (0, 0)):
        return f"its channels are taken together by {one.name}"
    return given[0]


def _padded(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> Label | str:
    if given[0] is None or not tour.is_zero(one.inputs[1]):
        return "it is padded by another number than 0"
    low, high, inner = one.equation.params["padding_config"][given[0].axis]
    if min(low, high) < 0 or inner:
        return "its channels are padded in between"
    ids = np.pad(given[0].ids, (int(low), int(high)), constant_values=-1)
    return Label(given[0].axis, ids)


def _parted(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> list[Label]:
    assert given[0] is not None
    if one.equation.params["axis"] != given[0].axis:
        return [given[0]] * len(one.outputs)
    ends = np.cumsum(one.equation.params["sizes"])[:-1]
    return [Label(given[0].axis, ids) for ids in np.split(given[0].ids, ends)]


def _joined(tour: _Tour, one: Equation, given: Sequence[Label | None]) -> Label | str:
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
    **dict.fromkeys((*SAME, "neg", "abs"), _same),
    **dict.fromkeys(MOVES, _moved),
    **dict.fromkeys(("mul", "div"), _times),
    **dict.fromkeys(("max", "min", *SUMS), _alike),
    **dict.fromkeys(COMPARED, _compared),
    **dict.fromkeys(REDUCED, _reduced),
    **dict.fromkeys(WINDOWS, _windowed),
    "sign": lambda tour, one, given: None,
    "is_finite": lambda tour, one, given: None,
    "select_n": _chosen,
    "pad": _padded,
    "split": _parted,
    "concatenate": _joined,
}
