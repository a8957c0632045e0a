"""Where the entries of a sparse array lie, as small numbers: relative indices."""

# N positions of the array, E entries that are stored, fillers included

from typing import Any, NamedTuple

import numpy as np

CONVOLUTION_BITS, DENSE_BITS = 8, 5  # of Han et al.


class Gaps(NamedTuple):
    """The values to store are those of the mask's positions, with a 0 where `kept` is False."""

    gaps: np.ndarray  # [E] uint8 or uint16, positions left out before each entry
    kept: np.ndarray  # [E] bool, False: a filler


def gaps(mask: Any, bits: int) -> Gaps:
    """How many positions are left out before each entry; a filler wherever 2^bits would be.

    A filler is an entry whose value is 0: it ends a span of 2^bits positions without any entry,
    so that all gaps lie below 2^bits. After the last entry nothing is stored.

    Args:
      mask: bool, any shape, read in C order; True = stored.
      bits: 1 … 16.

    Raises:
      ValueError: a mask that is not bool, bits outside their range.

    Source: Han, Mao & Dally, arXiv:1510.00149, Section 2 and Figure 2: 8 bits for convolutions, 5
    for dense layers. Departs: stored is the difference of two indices less 1, for it is never 0;
    the first entry's counts from index −1, so that index 0 can be stored too.
    """
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"the mask is {mask.dtype}, not bool")
    span = _span(bits)
    skipped = np.diff(np.flatnonzero(mask), prepend=-1) - 1
    fillers = skipped // span
    ends = np.cumsum(fillers + 1) - 1  # of the entries, where the kept ones are
    entries = int(ends[-1]) + 1 if ends.size else 0
    stored = np.full(entries, span - 1, np.uint8 if bits <= 8 else np.uint16)
    stored[ends] = skipped % span
    kept = np.zeros(entries, bool)
    kept[ends] = True
    return Gaps(stored, kept)


def positions(gaps: Any, bits: int, size: int) -> np.ndarray:
    """[E] int64, rising: where the entries lie, fillers included.

    Args:
      gaps: [E] integers, 0 … 2^bits − 1.
      bits: 1 … 16.
      size: N, of the whole array; all entries must lie within.

    Raises:
      ValueError: gaps that are not integers on one axis or out of range, entries beyond the size.
    """
    found, span = np.asarray(gaps), _span(bits)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(f"gaps are {found.dtype} {found.shape}, not integers on one axis")
    if not found.size:
        return np.zeros(0, np.int64)
    if found.min() < 0 or found.max() >= span:
        raise ValueError(f"gaps {found.min()}…{found.max()} are not within 0…{span - 1}")
    at = np.cumsum(found, dtype=np.int64) + np.arange(found.size)
    if at[-1] >= size:
        raise ValueError(f"the last entry lies at {at[-1]}, beyond {size} positions")
    return at


def _span(bits: int) -> int:
    if not 1 <= bits <= 16:
        raise ValueError(f"{bits} bits are outside 1…16")
    return 1 << bits
