"""Writes code words one after another, and reads them at many places at once.

Bits are counted from the highest of the first byte. To read word after word would take one step of
the interpreter per symbol. `read` instead steps through many blocks of symbols side by side; an
index says at which bit each block begins. `follow` needs no index: it finds how far a word would
reach from *every* bit of a piece, then doubles these jumps until they leave the piece. `read` makes
thousands of numpy calls however few the blocks are, and `follow` is slower for every bit.
"""

# N symbols, S blocks side by side, T bits that one look into a table resolves

from typing import NamedTuple

import numpy as np

from compress.coding.code_lengths import LIMIT, Code

BLOCK, BLOCKS = 4096, 2048  # symbols of the smallest block, and the most blocks, in the format
TABLE = 16  # the most bits that the table resolves; longer words are rare
_PIECE = 512  # 32-bit words that `follow` takes at once
_ROWS = 64  # symbols of every block that are gathered before they are put in order
_SHIFTS = np.arange(32, dtype=np.uint64)
_ALL = np.uint64(64)


def block(count: int) -> int:
    """Returns the symbols per block: 4096, doubled until there are at most 2048 blocks."""
    size = BLOCK
    while count > size * BLOCKS:
        size *= 2
    return size


def write(symbols: np.ndarray, code: Code, bits: int) -> tuple[bytes, np.ndarray]:
    """Returns the words of [N] symbols, `bits` in all, as bytes; and where each block begins.

    Words are joined in pairs to items of at most 64 bits. An item lies in one 64-bit word of the
    output or in two. One `or` joins the items that begin in the same word.
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
        out[low + 1 : high + 2] |= (items << (_ALL - shift))[crossing]  # 0 if the shift is 0
        at = int(ends[-1])
    data = out.astype(">u8").view(np.uint8)[: -(-at // 8)].tobytes()
    return data, np.concatenate(starts)[:: block(symbols.size) // BLOCK]


def _items(symbols: np.ndarray, code: Code, join: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns [N / join] items of joined words, the lowest bit last, and their lengths."""
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
    """The symbol and the length that the next T bits mean. Length 0 begins a longer word.

    The rest is for words of the lengths T + 1 … the longest.
    """

    bits: int  # T
    lengths: np.ndarray  # [2^T] int64
    symbols: np.ndarray  # [2^T] uint8 or uint16
    ends: np.ndarray  # for each length, the first string of LIMIT bits after its words
    begins: np.ndarray  # for each length, the first string of its words
    ranks: np.ndarray  # for each length, the place in `order` of its first word
    order: np.ndarray  # [U] symbols by word


def table(code: Code, dtype: type) -> Table:
    """Returns the table to read a code with. `dtype` is that of the symbols."""
    lengths = code.lengths[code.order]  # rising
    bits = int(min(lengths[-1], TABLE))
    short = int(np.searchsorted(lengths, bits, side="right"))
    entries = 1 << (bits - lengths[:short])
    rows = np.zeros((2, 1 << bits), np.int64)
    for row, values in zip(rows, (lengths, code.order), strict=True):
        repeated = np.repeat(values[:short], entries)
        row[: repeated.size] = repeated
    long = np.arange(bits, lengths[-1]) + 1
    ranks = np.searchsorted(lengths, long)
    bounds = np.append(0, np.cumsum(1 << (LIMIT - lengths)))
    begins, ends = bounds[ranks], bounds[np.searchsorted(lengths, long, side="right")]
    return Table(bits, rows[0], rows[1].astype(dtype), ends, begins, ranks, code.order)


def _long(table: Table, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns lengths and symbols of words longer than T bits, at the top of 64-bit windows."""
    strings = (windows >> (_ALL - np.uint64(LIMIT))).view(np.int64)
    kind = np.searchsorted(table.ends, strings, side="right")
    lengths = table.bits + 1 + kind
    ranks = table.ranks[kind] + ((strings - table.begins[kind]) >> (LIMIT - lengths))
    return lengths, table.order[ranks]


def _windows(data: memoryview, first: int, count: int) -> np.ndarray:
    """Returns the 64 bits from each of `count` 32-bit words on, zeros after the end of the data."""
    held = bytes(data[4 * first : 4 * (first + count + 1)]).ljust(4 * (count + 1), b"\0")
    words = np.frombuffer(held, ">u4").astype(np.uint64)
    windows = words[:-1] << np.uint64(32)
    windows |= words[1:]
    return windows


def read(data: memoryview, table: Table, starts: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Returns the [N] symbols of [S] blocks, and the bit after the last symbol.

    Args:
      data: the words.
      table: of their code.
      starts: [S], the bit where each block begins.
      count: N.

    Raises:
      ValueError: a block does not end where the next one begins.
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
    """Fills [S, symbols per block].

    Positions beyond the windows read the last window, and what they find there is never used.

    Returns:
      The bits [S] after every block, and the bit after `last` symbols of the last block.
    """
    at, size = starts.copy(), starts.size
    place, lengths = np.empty(size, np.int64), np.empty(size, np.int64)
    window, index = np.empty(size, np.uint64), np.empty(size, np.uint64)
    stride = size + (64 - size) % 128  # cache conflicts at multiples of 128 would halve the speed
    rows = np.empty((_ROWS, stride), out.dtype)[:, :size]
    longest = table.bits + table.ends.size
    shift, refill = np.uint64(64 - table.bits), 33 // longest
    final = 0
    for step in range(out.shape[1]):
        if step % refill == 0:  # a window then has at least 33 bits, whatever the position
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
    """Returns [N] symbols that follow one another from bit 0 on, and the bit after the last one.

    Raises:
      ValueError: the data end early.
    """
    out = np.empty(count, table.symbols.dtype)
    done = at = 0
    while done < count:
        if at >= 8 * len(data):
            raise ValueError(f"data end after {done} of {count} symbols")
        first = at >> 5
        words = min(_PIECE, (len(data) + 3) // 4 - first)
        windows = (_windows(data, first, words)[:, None] << _SHIFTS).ravel()  # one per bit
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
    """Returns the positions that words reach from `first` on, at most `most` of them.

    Args:
      lengths: of the word that would begin at each position.
      first: the position of the first word.
      most: the number of words wanted.
    """
    size = lengths.size  # where all jumps end
    jump = np.append(np.minimum(np.arange(size) + lengths, size), size)
    positions = np.array([first])
    while positions[-1] < size and positions.size < most:
        positions = np.append(positions, jump.take(positions))
        jump = jump.take(jump)
    return positions[: min(most, int(np.searchsorted(positions, size)))]
