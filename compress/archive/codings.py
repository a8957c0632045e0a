"""Symbols as streams: all, or those that gaps name; one by one, or several as one."""

# N symbols of the array

import math
from collections.abc import Iterator

import numpy as np

from compress.archive.entries import LEVELS
from compress.coding import fields, huffman, sparse

GROUPED = (1 << 8, 1 << 12)  # joint symbols, at most, of groups that are tried


def candidates(
    symbols: np.ndarray, levels: int, fill: int | None, axes: int
) -> Iterator[tuple[int, int, list[bytes]]]:
    """The codings to choose from: of all symbols, then of those that are not `fill`.

    Args:
      symbols: [N] integers, 0 … levels − 1.
      levels: how many there may be.
      fill: the symbol that gaps may leave out; None: no gaps.
      axes: of the array.

    Yields:
      Bits of the gaps (0: all symbols), the group's size, the streams after the codebook.
    """
    data, group = _grouped(symbols, levels)
    yield 0, group, [data]
    kept = symbols != fill
    if fill is None or kept.mean() > 0.75:
        return
    for bits in widths(kept.mean(), axes):
        found = sparse.gaps(kept, bits)
        values = np.full(found.gaps.size, fill)
        values[found.kept] = symbols[kept]
        data, group = _grouped(values, levels)
        yield bits, group, [huffman.encode(found.gaps), data]


def widths(share: float, axes: int) -> list[int]:
    """Bits of gaps to try: the paper's, and those about the mean gap and above."""
    usual = sparse.CONVOLUTION_BITS if axes > 2 else sparse.DENSE_BITS
    mean = math.floor(-math.log2(share)) if share else usual
    return sorted({usual, *(min(max(mean + more, 1), 16) for more in range(1, 5))})


def _grouped(symbols: np.ndarray, levels: int) -> tuple[bytes, int]:
    """The shortest code of the symbols by groups, and the group's size."""
    fitting = {int(math.log(most, levels) + 1e-9) for most in GROUPED} if levels > 1 else set()
    found = []
    for group in sorted({1, *(size for size in fitting if 1 < size <= 16)}):
        filled = np.append(symbols, np.zeros(-symbols.size % group, symbols.dtype))
        digits = filled.reshape(-1, group).astype(np.int64)
        found.append((huffman.encode(digits @ levels ** np.arange(group)), group))
    return min(found, key=lambda coded: len(coded[0]))


def ungrouped(stream: bytes | memoryview, count: int, levels: int, group: int) -> np.ndarray:
    """[count] symbols of a stream by groups.

    Raises:
      ValueError: another number of symbols, or groups that are none.
    """
    groups = -(-count // group)
    if (declared := declared_count(stream)) != groups:
        raise ValueError(f"{declared} groups of symbols are declared, not {groups}")
    rest = huffman.decode(stream, groups)
    if group == 1:
        return rest
    rest = rest.astype(np.uint32)
    if not 0 < levels**group <= LEVELS:
        raise ValueError(f"{group} of {levels} symbols do not go together")
    out = np.empty((groups, group), np.uint8 if levels <= 256 else np.uint16)
    for place in range(group):
        out[:, place] = rest % levels
        rest = rest // levels
    if rest.any():
        raise ValueError(f"a group is beyond {levels} ** {group}")
    return out.ravel()[:count]


def declared_count(stream: bytes | memoryview) -> int:
    """How many symbols a stream of `huffman.encode` declares."""
    return fields.read_number(memoryview(stream), 0)[0]
