"""What each kind of layer costs, by hand."""

# k window, i inputs, o outputs, side of the outputs

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Cost(NamedTuple):
    parameters: int
    multiply_adds: int = 0


class Table(NamedTuple):
    """A network's layers, from its paper, and the totals that are published or pinned."""

    layers: list[Cost]
    parameters: int
    multiply_adds: int
    section: Mapping[str, Any] = MappingProxyType({})  # of `model`, beside the name
    classes: int = 1000


def conv(k, i, o, side, groups=1, bias=False):
    """`k` and `side` are numbers, or (height, width)."""
    high, wide = (k, k) if isinstance(k, int) else k
    rows, columns = (side, side) if isinstance(side, int) else side
    weights = high * wide * (i // groups) * o
    return Cost(weights + bias * o, weights * rows * columns)


def norm(channels):
    return Cost(2 * channels)


def dense(i, o, bias=True):
    return Cost(i * o + bias * o, i * o)
