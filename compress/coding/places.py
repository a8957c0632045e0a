"""How likely each entry of a matrix is kept, given those before it. Read `code`.

The odds of a one are the odds of the whole matrix so far, times three factors: of the row so far,
of the column so far, and of which entries near by in earlier rows are ones. A factor is (k + a) /
(e + a), where k of the entries that it speaks for were ones, and e is the number that would have
been expected without it. So it begins with 1, and its inertia a says how slowly it leaves it: it is
the mean of a gamma distribution of shape a, once k ones were seen.
Everything is an integer: counts, expected ones and chances in 1/65,536, factors in 1/4,096, of
which they are at least one.
"""

# R rows, C columns

from typing import NamedTuple, Protocol

import numpy as np

from compress.coding.rans import ONE, PRECISION

FACTOR = 12  # bits of a factor's fraction
LEAST = 8  # the least chance of either bit, in 1/65,536
NEAR = 2 << PRECISION  # the inertia of neighbours
INERTIA = 16  # powers of two that those of rows and columns are among, from 1 on
BEGIN = (1, 9)  # ones and zeros that the matrix begins with, in halves
_MOST = 1 << 40  # of odds
_LARGEST = _MOST >> FACTOR  # of the product of two factors


class Coder(Protocol):
    """A `rans.Writer`, which is given bits, or a `rans.Reader`, which gives them."""

    def code(self, chances: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
        """Returns [n] bool, with [n] chances of a one in 1/65,536."""
        ...


class Likeness(NamedTuple):
    """How entries depend on each other."""

    lag: int  # two rows at this distance may be alike, as two next to each other may; 0 = none
    row: int  # log₂ of the inertia of rows
    column: int


def code(
    coder: Coder, kept: np.ndarray, known: bool, stride: int, likeness: Likeness
) -> np.ndarray:
    """Codes a matrix row by row, column by column of each lane, and returns [R, C] chances.

    Args:
      coder: with at least ⌈C / stride⌉ lanes.
      kept: [R, C] bool, what is written, or what is filled.
      known: whether it is written.
      stride: columns of a lane, which are next to each other.
      likeness: of its entries.
    """
    rows, columns = kept.shape
    ones, zeros = BEGIN
    column_ones = np.full(columns, ONE << likeness.column)
    column_expected = column_ones.copy()
    near_ones = np.full(16, NEAR)
    near_expected = near_ones.copy()
    every = np.empty(kept.shape, np.uint16)
    for row in range(rows):
        bits, chances = kept[row], np.empty(columns, np.int64)
        near = _near(kept, row, likeness.lag)
        by_column = _factors(column_ones, column_expected)
        by_near = _factors(near_ones, near_expected)[near]
        factors = np.minimum(by_column * by_near, _LARGEST)  # in 1 / 2^24
        row_ones = row_expected = ONE << likeness.row
        for first in range(min(stride, columns)):
            part = slice(first, None, stride)
            by_row = max((row_ones << FACTOR) // row_expected, 1)
            odds = min((ones << PRECISION) // zeros * by_row >> FACTOR, _MOST >> PRECISION)
            scaled = factors[part] * odds >> 2 * FACTOR  # odds in 1 / 2^16
            chance = bounded((scaled << PRECISION) // (scaled + ONE))
            chances[part] = chance
            coded = coder.code(chance, bits[part] if known else None)
            if not known:
                bits[part] = coded
            count = int(np.count_nonzero(coded))
            ones, zeros = ones + 2 * count, zeros + 2 * (chance.size - count)
            row_ones += count << PRECISION
            row_expected += (int(chance.sum()) << FACTOR) // by_row
        scaled = chances << FACTOR
        column_expected += scaled // by_column
        np.add.at(near_expected, near, scaled // by_near)
        column_ones[bits] += ONE
        np.add.at(near_ones, near[bits], ONE)
        every[row] = chances
    return every


def _factors(ones: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns factors. Larger ones than their product may be change nothing but would overflow."""
    return np.minimum(np.maximum((ones << FACTOR) // expected, 1), _LARGEST)


def bounded(chances: np.ndarray) -> np.ndarray:
    """Returns the chances within those that a coder takes. (`np.clip` takes longer.)"""
    return np.minimum(np.maximum(chances, LEAST), ONE - LEAST)


def _near(kept: np.ndarray, row: int, lag: int) -> np.ndarray:
    """Returns [C], which of four kinds of earlier entries in the column are ones, as 4 bits."""
    near = np.zeros(kept.shape[1], np.int64)
    for bit, distances in enumerate(((1,), (lag,), (lag - 1, lag + 1), (2 * lag,))):
        if bit and not lag:
            break
        for distance in distances:
            if 0 < distance <= row:
                near |= kept[row - distance].astype(np.int64) << bit
    return near
