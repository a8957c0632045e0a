"""What a network of integers is made of. Read `Network`, then `Node` and the kinds of `Work`."""

# H W image, C O channels in and out

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

FLOAT = -32
BITS: Mapping[int, Any] = MappingProxyType({8: np.uint8, 32: np.int32, FLOAT: np.float32})
Sizes = tuple[int, int, int, int]  # height, width, channels, and bits: a key of `BITS`
Weights = Mapping[str, np.ndarray]


class Factor(NamedTuple):
    """The real number mantissa / 2³¹ · 2^shift."""

    mantissa: int  # 0, or 2³⁰ … 2³¹ − 1
    shift: int  # −31 … 31; above 0 the integer is shifted first, and stays within 32 bits


class Range(NamedTuple):
    """Codes: that of zero, the lowest and the highest."""

    zero: int
    low: int
    high: int


class Sum(NamedTuple):
    """own × own factor ± other × other factor, times the factor of the whole, is the result.

    Each operand is ((code − zero) << shift) before its factor.
    """

    own_zero: int
    own_shift: int
    other_zero: int
    other_shift: int
    sign: int
    own: Factor
    other: Factor
    whole: Factor
    range: Range


class Round(NamedTuple):
    """Floats to codes of 8 bits: x / scale, to the nearest integer, halves to even, plus zero."""

    scale: float  # of float32
    range: Range


class Product(NamedTuple):
    """A convolution of codes of 8 bits; a dense layer is one of images of 1 × 1 pixels.

    Its weights are `kernel` [h, w, C / groups, O] int8, `bias` [O] int32, and `mantissa` and
    `shift` [O] int32, which bring the sums to the range. A second input is added then.
    """

    kernel: tuple[int, int, int, int]  # h, w, C / groups, O
    groups: int
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    zero: int  # of the input
    left: bool  # is any shift above 0?
    range: Range
    sum: Sum | None = None

    @property
    def is_deep(self) -> bool:
        """Has each channel a kernel of its own?"""
        return self.kernel[2] == 1 and self.kernel[3] == self.groups


class Scale(NamedTuple):
    """(code − zero) × factor, on a range."""

    zero: int
    factor: Factor
    range: Range


class Table(NamedTuple):
    """A code of 8 bits for each code; the weight is `table` [256] uint8."""


class View(NamedTuple):
    """The same codes as an image of other sizes."""


class Join(NamedTuple):
    """Channels of several values side by side."""


class Pool(NamedTuple):
    """The largest codes of windows, or their means, halves away from zero."""

    average: bool
    window: tuple[int, int]
    strides: tuple[int, int]
    before: tuple[int, int]  # rows and columns of padding, above and to the left
    fill: int  # the code of the padding
    range: Range


class Total(NamedTuple):
    """The sum over all pixels of code − zero, times a factor, on a range."""

    zero: int
    factor: Factor
    range: Range


class Pick(NamedTuple):
    """Some rows, columns and channels of an image, among others that are filled with a code.

    Of each axis: the first one taken, the stride, how many are filled before it, and how many are
    taken.
    """

    rows: tuple[int, int, int, int]
    columns: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]
    fill: int


class Shuffle(NamedTuple):
    """Channels as [groups, C / groups], transposed."""

    groups: int


Work = Round | Product | Scale | Table | View | Join | Pool | Total | Pick | Shuffle | Sum


class Node(NamedTuple):
    """What makes one value."""

    work: Work
    inputs: tuple[int, ...]
    result: int


class Network(NamedTuple):
    """Values, of which the first ones are given, and the nodes that make the others, in order.

    Sizes lack the batch. Results are values that nodes other than a `View` make, each once.
    """

    values: tuple[Sizes, ...]
    given: int
    results: tuple[int, ...]
    nodes: tuple[Node, ...]
