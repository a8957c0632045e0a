"""The places of the entries of a sparse array, as small numbers: relative indices."""

# N positions of the array, E stored entries, with fillers

from typing import Any, NamedTuple

import numpy as np

CONVOLUTION_BITS, DENSE_BITS = 8, 5  # of Han et al.


class Gaps(NamedTuple):
    """Gaps of the entries to store. Their values are 0 where `kept` is False."""

    gaps: np.ndarray  # [E] uint8 or uint16: positions skipped before each entry
    kept: np.ndarray  # [E] bool: True for a position of the mask, False for a filler


def gaps(mask: Any, bits: int) -> Gaps:
    """Returns the number of positions skipped before each entry, with fillers in long gaps.

    A filler is an entry whose value is 0. It ends a span of 2^bits positions without any entry, so
    that all gaps are below 2^bits. Nothing is stored after the last entry.

    Args:
      mask: bool, any shape, read in C order; True = stored.
      bits: 1 … 16.

    Raises:
      ValueError: the mask is not bool, or the bits are outside their range.

    Source: Han, Mao & Dally, arXiv:1510.00149, Section 2 and Figure 2: 8 bits for convolutions, 5
    for dense layers. Departs: the difference of two indices is never 0, and one less is stored. The
    first difference counts from index −1, so that index 0 can be stored too.

    Example:
        >>> from compress import sparse
        >>> mask = np.array([True, False, False, True] + 5 * [False] + [True])
        >>> found = sparse.gaps(mask, bits=2)  # gaps are below 4
        >>> found.gaps.tolist(), found.kept.tolist()
        ([0, 2, 3, 1], [True, True, False, True])
    """
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"the mask is {mask.dtype}, not bool")
    span = _span(bits)
    skipped = np.diff(np.flatnonzero(mask), prepend=-1) - 1
    fillers = skipped // span
    ends = np.cumsum(fillers + 1) - 1  # places of the kept ones among the entries
    entries = int(ends[-1]) + 1 if ends.size else 0
    stored = np.full(entries, span - 1, np.uint8 if bits <= 8 else np.uint16)
    stored[ends] = skipped % span
    kept = np.zeros(entries, bool)
    kept[ends] = True
    return Gaps(stored, kept)


def positions(gaps: Any, bits: int, size: int) -> np.ndarray:
    """Returns the positions [E] int64 of the entries, rising, with those of fillers.

    Args:
      gaps: [E] integers, 0 … 2^bits − 1.
      bits: 1 … 16.
      size: N, of the whole array, within which all entries must lie.

    Raises:
      ValueError: the gaps are not integers on one axis or out of range, or an entry lies beyond the
        size.

    Example:
        >>> from compress import sparse
        >>> sparse.positions([0, 2, 3, 1], bits=2, size=10).tolist()  # a step more than each gap
        [0, 3, 7, 9]
    """
    gaps, span = np.asarray(gaps), _span(bits)
    if gaps.ndim != 1 or (gaps.size and gaps.dtype.kind not in "iu"):
        raise ValueError(f"gaps are {gaps.dtype} {gaps.shape}, not integers on one axis")
    if not gaps.size:
        return np.zeros(0, np.int64)
    if gaps.min() < 0 or gaps.max() >= span:
        raise ValueError(f"gaps {gaps.min()}…{gaps.max()} are not within 0…{span - 1}")
    at = np.cumsum(gaps, dtype=np.int64) + np.arange(gaps.size)
    if at[-1] >= size:
        raise ValueError(f"the last entry lies at {at[-1]}, beyond {size} positions")
    return at


def _span(bits: int) -> int:
    if not 1 <= bits <= 16:
        raise ValueError(f"{bits} bits are outside 1…16")
    return 1 << bits
