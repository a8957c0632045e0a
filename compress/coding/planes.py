"""Symbols of the kept entries of a matrix as bits: signs, then sizes. Read `code`.

A symbol is a sign and a size m ≥ 0. Its bits are the sign (a one if positive); then, for j = 1, 2
and so on until it has not, whether m + 1 has more than j binary digits; then the digits of m + 1
after the first. What can only have one value is left out: the sign if only one is possible, and
whether m + 1 has more digits than the largest. A *plane* is one of these bits of all symbols that
have it, and is coded before the next one is, symbol by symbol in the order of the matrix. Within it
the chance of a one is (5 k + 2) / (5 n + 4), where k of the n bits coded before in the same context
were ones. The context is the sign, and

- of signs and lengths, how the neighbours lean: the sum of those bits in the same plane that are
  known, as 1 or −1, in earlier rows of the column (`WEIGHTS`), at most 3 either way. Symbols that
  have fewer digits than a plane asks about count as −1.
- of digits, their number, and the digits before: all of up to 3, of more their number alone.
"""

# E symbols, D distances

from typing import NamedTuple

import numpy as np

from compress.coding import places
from compress.coding.places import Coder
from compress.coding.rans import PRECISION

WEIGHTS = (2, 2, 1, 1, 1)  # one row before, a lag before, on both sides of that, and two lags
LEAN = 3
BEGIN, STEP = 2, 5
_DIGITS = 3  # after the first, which contexts know


class Sizes(NamedTuple):
    """How many sizes there are of each sign, 0 where a sign does not occur."""

    negative: int
    positive: int

    @property
    def digits(self) -> tuple[int, int]:
        """The most digits of m + 1 after the first, of each sign."""
        return max(self.negative.bit_length() - 1, 0), max(self.positive.bit_length() - 1, 0)

    @property
    def bits(self) -> int:
        """The most that a symbol has."""
        return int(min(self) > 0) + 2 * max(self.digits)


class Field(NamedTuple):
    """Where the symbols are."""

    at: np.ndarray  # [E] int64, places in the matrix, rising
    size: int  # of the matrix
    columns: int
    lag: int  # as in `places.code`


class Symbols(NamedTuple):
    """Signs [E] bool, True = positive, and sizes [E] int64."""

    positive: np.ndarray
    sizes: np.ndarray


def code(coder: Coder, lanes: int, field: Field, sizes: Sizes, known: Symbols | None) -> Symbols:
    """Codes symbols, and returns them.

    Args:
      coder: with at least these lanes.
      lanes: that take turns among the symbols of a plane.
      field: of the symbols.
      sizes: which are possible.
      known: what is written; None: they are read.
    """
    count = field.at.size
    lean = _Lean(field)
    positive = np.full(count, sizes.positive > 0)
    if min(sizes) > 0:
        bits = None if known is None else known.positive
        positive = _plane(coder, lanes, np.zeros(count, np.int64), bits, lean, np.arange(count))
    side = positive.astype(np.int64)
    most = np.array(sizes.digits)[side]
    wanted = known.sizes + 1 if known else None
    digits = np.zeros(count, np.int64)
    for level in range(max(sizes.digits)):
        who = np.flatnonzero((digits == level) & (most > level))
        lean.begin(digits < level)
        bits = None if wanted is None else wanted[who] >> (level + 1) > 0
        digits[who] += _plane(coder, lanes, side[who], bits, lean, who)
    values = np.ones(count, np.int64)
    for level in range(max(sizes.digits)):
        who = np.flatnonzero(digits > level)
        left = digits[who] - 1 - level
        before = values[who] if level <= _DIGITS else np.full(who.size, 1 << level)
        contexts = (side[who] * 32 + digits[who]) * (2 << 16) + before
        bits = None if wanted is None else (wanted[who] >> left & 1).astype(bool)
        values[who] = 2 * values[who] + _plane(coder, lanes, contexts, bits)
    return Symbols(positive, values - 1)


class _Lean:
    """The bits of a plane that are known, by their places: 1, −1, or 0 for none."""

    def __init__(self, field: Field) -> None:
        lag, self.at = field.lag, field.at
        distances = (1, lag, lag - 1, lag + 1, 2 * lag) if lag else (1,)
        self.shifts = -field.columns * np.array(distances)
        self.weights = np.array(WEIGHTS[: len(distances)])
        self.before = (
            int(-self.shifts.min()) if field.at.size else 0
        )  # room for the neighbours of the first rows
        self.bits = np.zeros(self.before + field.size, np.int8)

    def begin(self, shorter: np.ndarray) -> None:
        """Begins a plane of lengths. `shorter` [E] bool are the symbols that do not take part."""
        self.bits[self.before + self.at] = -shorter.astype(np.int8)

    def of(self, who: np.ndarray) -> np.ndarray:
        """Returns [n] −3 … 3, of n symbols."""
        near = self.bits.take(self.before + self.at[who][:, None] + self.shifts)
        return np.minimum(np.maximum(near @ self.weights, -LEAN), LEAN)

    def set(self, who: np.ndarray, bits: np.ndarray) -> None:
        """Notes bits [n] of the n symbols."""
        self.bits[self.before + self.at[who]] = 2 * bits.astype(np.int8) - 1


def _plane(
    coder: Coder,
    lanes: int,
    contexts: np.ndarray,
    bits: np.ndarray | None,
    lean: _Lean | None = None,
    who: np.ndarray | None = None,
) -> np.ndarray:
    """Codes one bit of [n] symbols, `who` of all, and returns [n] bool."""
    kinds, contexts = np.unique(contexts, return_inverse=True)
    if lean is not None:
        contexts = contexts * (2 * LEAN + 1) + LEAN
    ones = np.full((2 * LEAN + 1 if lean else 1) * kinds.size, BEGIN)
    total = 2 * ones
    coded = np.empty(contexts.size, bool)
    for first in range(0, contexts.size, lanes):
        part = slice(first, first + lanes)
        at = contexts[part]
        if lean is not None and who is not None:
            at = at + lean.of(who[part])
        chances = places.bounded((ones[at] << PRECISION) // total[at])
        found = coder.code(chances, None if bits is None else bits[part])
        np.add.at(total, at, STEP)
        np.add.at(ones, at[found], STEP)
        if lean is not None and who is not None:
            lean.set(who[part], found)
        coded[part] = found
    return coded
