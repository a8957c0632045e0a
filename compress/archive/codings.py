"""Streams of symbols: of all of them or of those that gaps name, one by one, in groups, or by what
is near them."""

# N symbols of the array

import math
from collections.abc import Iterator

import numpy as np

from compress.archive.entries import LEVELS, Entry
from compress.coding import adaptive, fields, huffman, sparse

GROUPED = (1 << 8, 1 << 12)  # the most joint symbols of the groups that are tried
LEAST_ADAPTIVE = 64  # entries of the smallest array that is coded by what is near each of them
LEAST_BYTES = 48  # of another coding, from which on that is tried


def candidates(
    symbols: np.ndarray, levels: int, fill: int | None, axes: int
) -> Iterator[tuple[int, int, list[bytes]]]:
    """Yields the codings to choose from: of all symbols, then of those that are not `fill`.

    Args:
      symbols: [N] integers, 0 … levels − 1.
      levels: the number of possible symbols.
      fill: the symbol that gaps may leave out. If it is None, there are no gaps.
      axes: the number of axes of the array.

    Yields:
      The bits of the gaps (0 for all symbols), the size of the groups, and the streams that follow
      the codebook.
    """
    data, group = _grouped(symbols, levels)
    yield 0, group, [data]
    kept = symbols != fill
    if fill is None or kept.mean() > 0.75:
        return
    for bits in widths(kept.mean(), axes):
        index = sparse.gaps(kept, bits)
        values = np.full(index.gaps.size, fill)
        values[index.kept] = symbols[kept]
        data, group = _grouped(values, levels)
        yield bits, group, [huffman.encode(index.gaps), data]


def in_context(symbols: np.ndarray, levels: int, zero: int | None, least: int) -> Iterator[bytes]:
    """Yields the code of an array by what is near each symbol, where it may be the shortest.

    Args:
      symbols: integers of the array's shape, in the order of what they stand for.
      levels: the number of possible symbols.
      zero: the symbol that stands for zero, if any entry is zero.
      least: the bytes of the shortest of the other codings.
    """
    worth = symbols.size >= LEAST_ADAPTIVE and least > LEAST_BYTES
    if worth and adaptive.promises(symbols, levels, zero, least):
        yield adaptive.encode(symbols, levels, zero)


def from_context(entry: Entry, table: np.ndarray, stream: bytes | memoryview) -> np.ndarray:
    """Returns the symbols of an array, in its shape, that `in_context` has coded.

    Args:
      entry: of the array.
      table: its palette without zero, or its scales.
      stream: the code.

    Raises:
      ValueError: the stream does not fit the entry.
    """
    scaled = entry.form == "scaled"
    levels = entry.levels if scaled else table.size + entry.bits
    zero = -entry.lowest if scaled else rising(table)[1]
    symbols = adaptive.decode(stream, entry.shape, levels, zero if entry.bits else None)
    return symbols.reshape(entry.shape)


def rising(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the order of values as numbers, -0.0 before 0.0; and how many come before 0.0."""
    if values.dtype.kind in "bu":
        return np.argsort(values, kind="stable"), 0
    signed = values.view(f"i{values.dtype.itemsize}")
    if values.dtype.kind == "i":
        return np.argsort(signed, kind="stable"), int(np.sum(signed < 0))
    keys = np.where(signed < 0, np.iinfo(signed.dtype).min - signed - 1, signed)
    return np.argsort(keys, kind="stable"), int(np.sum(signed < 0))


def widths(share: float, axes: int) -> list[int]:
    """Returns the bits of gaps to try: the paper's, and those near the mean gap and above it."""
    usual = sparse.CONVOLUTION_BITS if axes > 2 else sparse.DENSE_BITS
    mean = math.floor(-math.log2(share)) if share else usual
    return sorted({usual, *(min(max(mean + more, 1), 16) for more in range(1, 5))})


def _grouped(symbols: np.ndarray, levels: int) -> tuple[bytes, int]:
    """Returns the shortest code of the symbols in groups, and the size of its groups."""
    fitting = {int(math.log(most, levels) + 1e-9) for most in GROUPED} if levels > 1 else set()
    codes = []
    for group in sorted({1, *(size for size in fitting if 1 < size <= 16)}):
        filled = np.append(symbols, np.zeros(-symbols.size % group, symbols.dtype))
        digits = filled.reshape(-1, group).astype(np.int64)
        codes.append((huffman.encode(digits @ levels ** np.arange(group)), group))
    return min(codes, key=lambda code: len(code[0]))


def ungrouped(stream: bytes | memoryview, count: int, levels: int, group: int) -> np.ndarray:
    """Returns the [count] symbols of a stream of groups.

    Raises:
      ValueError: the stream has another number of symbols, or symbols that are not groups.
    """
    groups = -(-count // group)
    if (declared := declared_count(stream)) != groups:
        raise ValueError(f"{declared} groups of symbols are declared, not {groups}")
    joint = huffman.decode(stream, groups)
    if group == 1:
        return joint
    joint = joint.astype(np.uint32)
    if not 0 < levels**group <= LEVELS:
        raise ValueError(f"{group} of {levels} symbols do not go together")
    symbols = np.empty((groups, group), np.uint8 if levels <= 256 else np.uint16)
    for place in range(group):
        symbols[:, place] = joint % levels
        joint = joint // levels
    if joint.any():
        raise ValueError(f"a group is beyond {levels} ** {group}")
    return symbols.ravel()[:count]


def declared_count(stream: bytes | memoryview) -> int:
    """Returns the number of symbols that a stream of `huffman.encode` declares."""
    return fields.read_number(memoryview(stream), 0)[0]
