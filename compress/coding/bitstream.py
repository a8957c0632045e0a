"""Code words one after another in bits: written, and read at many places at once.

Bits are counted from the highest of the first byte. To read word after word would cost an
interpreter's step a symbol. `read` steps through many blocks of symbols side by side, where an
index says at which bit each begins. `follow` needs none: it finds how far a word would
reach from *every* bit of a piece, then doubles these jumps until they leave the piece. The first
makes thousands of calls of numpy however few the blocks, the second is slower for every bit.
"""

# N symbols, S blocks side by side, T bits that one look into a table resolves

from typing import NamedTuple

import numpy as np

from compress.coding.code_lengths import LIMIT, Code

BLOCK, BLOCKS = 4096, 2048  # symbols of the smallest block, the most blocks: part of the format
TABLE = 16  # bits; longer words are rare and take another way
_PIECE = 512  # 32-bit words that `follow` takes at once
_ROWS = 64  # symbols of every block that are gathered before they are put in order
_SHIFTS = np.arange(32, dtype=np.uint64)
_ALL = np.uint64(64)


def block(count: int) -> int:
    """Symbols of each block of so many: 4096, doubled until there are at most 2048 blocks."""
    size = BLOCK
    while count > size * BLOCKS:
        size *= 2
    return size


def write(symbols: np.ndarray, code: Code, bits: int) -> tuple[bytes, np.ndarray]:
    """The words of [N] symbols, `bits` in all, as bytes; and the bit where each block begins.

    Words are joined by pairs to items of at most 64 bits. An item lies in one 64-bit word of the
    output or in two; what begins in the same word is put together by one `or`.
    """
    join = 1 << (64 // int(code.lengths.max())).bit_length() - 1
    out, at, starts = np.zeros(bits // 64 + 2, np.uint64), 0, []
    for first in range(0, symbols.size, 8 * BLOCK):
        items, lengths = _items(symbols[first : first + 8 * BLOCK], code, join)
        ends = at + np.cumsum(lengths)
        begins = ends - lengths
        starts.append(begins[:: BLOCK // join])
        items <<= (64 - lengths).view(np.uint64)
        shift = (begins & 63).view(np.uint64)
        place = begins >> 6
        change = np.flatnonzero(np.diff(place, prepend=-1))
        low, high = int(place[0]), int(place[-1])
        out[low : high + 1] |= np.bitwise_or.reduceat(items >> shift, change)
        crossing = np.append(change[1:], place.size) - 1
        out[low + 1 : high + 2] |= (items << (_ALL - shift))[crossing]  # nothing if shift is 0
        at = int(ends[-1])
    data = out.astype(">u8").view(np.uint8)[: -(-at // 8)].tobytes()
    return data, np.concatenate(starts)[:: block(symbols.size) // BLOCK]


def _items(symbols: np.ndarray, code: Code, join: int) -> tuple[np.ndarray, np.ndarray]:
    """[N / join] words joined, the lowest bit last, and their lengths."""
    words, lengths = code.words.take(symbols), code.lengths.take(symbols)
    if rest := -symbols.size % join:
        words = np.append(words, np.zeros(rest, np.uint64))
        lengths = np.append(lengths, np.zeros(rest, np.int64))
    while join > 1:
        words = (words[::2] << lengths[1::2].view(np.uint64)) | words[1::2]
        lengths = lengths[::2] + lengths[1::2]
        join //= 2
    return words, lengths


class Table(NamedTuple):
    """What the next `bits` bits mean: a symbol and its length; length 0 begins a longer word."""

    bits: int  # T
    lengths: np.ndarray  # [2^T] int64
    symbols: np.ndarray  # [2^T] uint8 or uint16
    ends: np.ndarray  # of lengths T+1 …: the first string of LIMIT bits after their words
    begins: np.ndarray  # likewise: their first string
    ranks: np.ndarray  # likewise: which of `order` their first word means
    order: np.ndarray  # [U] symbols by word


def table(code: Code, dtype: type) -> Table:
    """For reading; `dtype` is that of the symbols."""
    lengths = code.lengths[code.order]  # rising
    bits = int(min(lengths[-1], TABLE))
    short = int(np.searchsorted(lengths, bits, side="right"))
    entries = 1 << (bits - lengths[:short])
    found = np.zeros((2, 1 << bits), np.int64)
    for row, values in zip(found, (lengths, code.order), strict=True):
        filled = np.repeat(values[:short], entries)
        row[: filled.size] = filled
    long = np.arange(bits, lengths[-1]) + 1
    ranks = np.searchsorted(lengths, long)
    bounds = np.append(0, np.cumsum(1 << (LIMIT - lengths)))
    begins, ends = bounds[ranks], bounds[np.searchsorted(lengths, long, side="right")]
    return Table(bits, found[0], found[1].astype(dtype), ends, begins, ranks, code.order)


def _long(table: Table, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and symbols of words longer than T bits, at the top of 64-bit windows."""
    strings = (windows >> (_ALL - np.uint64(LIMIT))).view(np.int64)
    kind = np.searchsorted(table.ends, strings, side="right")
    lengths = table.bits + 1 + kind
    ranks = table.ranks[kind] + ((strings - table.begins[kind]) >> (LIMIT - lengths))
    return lengths, table.order[ranks]


def _windows(data: memoryview, first: int, count: int) -> np.ndarray:
    """64 bits from each of `count` 32-bit words on; zeros after the end of the data."""
    held = bytes(data[4 * first : 4 * (first + count + 1)]).ljust(4 * (count + 1), b"\0")
    words = np.frombuffer(held, ">u4").astype(np.uint64)
    windows = words[:-1] << np.uint64(32)
    windows |= words[1:]
    return windows


def read(data: memoryview, table: Table, starts: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """[N] symbols from the [S] blocks that begin at these bits, and the bit after the last symbol.

    Raises:
      ValueError: a block that does not end where the next begins.
    """
    out = np.empty((starts.size, block(count)), table.symbols.dtype)
    last = count - out.shape[1] * (starts.size - 1)  # symbols of the last block
    windows = _windows(data, 0, len(data) // 4 + 1)
    ends, final = _fill(out, windows, table, starts, last)
    if (wrong := np.flatnonzero(ends[:-1] != starts[1:])).size:
        raise ValueError(f"block {wrong[0]} does not end where the next begins")
    return out.ravel()[:count], final


def _fill(
    out: np.ndarray, windows: np.ndarray, table: Table, starts: np.ndarray, last: int
) -> tuple[np.ndarray, int]:
    """The bits after every block, and after so many symbols of the last one.

    Positions beyond the windows read the last window; what they find is never used.
    """
    at, size = starts.copy(), starts.size
    place, lengths = np.empty(size, np.int64), np.empty(size, np.int64)
    window, index = np.empty(size, np.uint64), np.empty(size, np.uint64)
    stride = size + (64 - size) % 128  # a multiple of 128 would halve the speed: cache conflicts
    rows = np.empty((_ROWS, stride), out.dtype)[:, :size]
    longest = table.bits + table.ends.size
    shift, refill = np.uint64(64 - table.bits), 33 // longest
    final = 0
    for step in range(out.shape[1]):
        if step % refill == 0:  # at least 33 bits, whatever the position
            np.right_shift(at, 5, out=place)
            windows.take(place, out=window, mode="clip")
            np.bitwise_and(at, 31, out=place)
            np.left_shift(window, place.view(np.uint64), out=window)
        np.right_shift(window, shift, out=index)
        row = rows[step % _ROWS]
        table.lengths.take(index.view(np.int64), out=lengths, mode="clip")
        table.symbols.take(index.view(np.int64), out=row, mode="clip")
        if table.ends.size and (long := np.flatnonzero(lengths == 0)).size:
            lengths[long], row[long] = _long(table, window[long])
        np.left_shift(window, lengths.view(np.uint64), out=window)
        np.add(at, lengths, out=at)
        if step % _ROWS == _ROWS - 1:
            out[:, step + 1 - _ROWS : step + 1] = rows.T
        if step == last - 1:
            final = int(at[-1])
    return at, final


def follow(data: memoryview, table: Table, count: int) -> tuple[np.ndarray, int]:
    """[N] symbols that stand one after another from bit 0 on, and the bit after the last one.

    Raises:
      ValueError: data that end before.
    """
    out = np.empty(count, table.symbols.dtype)
    done = at = 0
    while done < count:
        if at >= 8 * len(data):
            raise ValueError(f"data end after {done} of {count} symbols")
        first = at >> 5
        words = min(_PIECE, (len(data) + 3) // 4 - first)
        windows = (_windows(data, first, words)[:, None] << _SHIFTS).ravel()  # one a bit
        index = (windows >> np.uint64(64 - table.bits)).view(np.int64)
        lengths = table.lengths.take(index)
        if (long := np.flatnonzero(lengths == 0)).size:
            lengths[long], _ = _long(table, windows[long])
        begins = _jumps(lengths, at - 32 * first, count - done)
        symbols = table.symbols.take(index.take(begins))
        if (long := np.flatnonzero(lengths[begins] > table.bits)).size:
            _, symbols[long] = _long(table, windows[begins[long]])
        out[done : done + begins.size] = symbols
        done += begins.size
        at = 32 * first + int(begins[-1] + lengths[begins[-1]])
    return out, at


def _jumps(lengths: np.ndarray, first: int, most: int) -> np.ndarray:
    """The positions that lie on the way from `first`, each a length further; at most so many."""
    size = lengths.size  # where all ways end
    jump = np.append(np.minimum(np.arange(size) + lengths, size), size)
    found = np.array([first])
    while found[-1] < size and found.size < most:
        found = np.append(found, jump.take(found))
        jump = jump.take(jump)
    return found[: min(most, int(np.searchsorted(found, size)))]
