"""Which layers take the output channels of a product, unchanged but for their scale.

Read `spans` first. Every channel of every chain has a number. A value is `labelled` with numbers
along one axis where each entry is divided by s if its channel is, for any s > 0; all other values
must stay as they are. Whatever breaks this blocks the channels' chains.
"""

# C output channels, N inputs of a layer

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.quantize.data_free.chains import Chain
from compress.quantize.data_free.flat import Equation, Flat
from compress.quantize.data_free.homogeneity import RULES, Label, along, spread
from groundwork.traced.products import as_inputs
from groundwork.traced.walk import PRODUCTS

NOBODY = "nothing is multiplied by it"


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


def spans(flat: Flat, chains: Sequence[Chain]) -> Spans:
    """Returns which products take the channels of which chains.

    What lies between must be positively homogeneous in each channel: f(s x) = s f(x) for s > 0.
    These are ReLU and leaky ReLU, pooling by maximum or mean, products with what does not depend on
    the channel's scale (such as the gates of squeeze-and-excitation, and numbers), and changes of
    the axes. ReLU6, swish, sums with other channels and outputs of the network are not.
    """
    ends = np.cumsum([chain.channels for chain in chains])
    starting = [int(end) - chain.channels for end, chain in zip(ends, chains, strict=True)]
    tour = _Tour(flat=flat, chains=chains, first=starting)
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
        ruled = RULES[one.name](tour.flat, one, given)
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
    taken: Any = as_inputs(layer, spread(label, shape))  # NumPy's arrays move as JAX's do
    moved = along(taken)
    if moved is None or moved.axis != taken.ndim - 1:
        return "a product sums over another axis of it"
    tour.uses.append(Use(chain, moved.ids))
    return None
