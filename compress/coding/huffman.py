"""Canonical, length-limited Huffman coding of arrays of integers. Read `encode` first.

For another decoder, this is the format. Bits are counted from the highest of each byte. A part that
ends within a byte is filled up with zeros. The parts are, in order:

1. The number of symbols N, then the largest symbol A − 1, each as LEB128 (7 bits per byte, the
   lowest first, the highest bit set if another byte follows). N = 0 ends the data at once.
2. The lengths of the code words of symbols 0 … A − 1, each 1 … 24 bits, or absent. The first 5 bits
   are the length to start from; 0 means that A − 1 is the only symbol, and the data end with this
   byte. Then tokens follow until A symbols are named, the last of them not absent:
     0            one symbol with the last length again
     10 s         one symbol with a length of one more (s = 0) or one less (s = 1)
     110 γ(r)     7 + r symbols with the last length
     1110 γ(r)    r symbols that are absent; they leave the last length as it is
     1111 s γ(r)  one symbol with a length of 1 + r more or less
   γ(r), r ≥ 1, is Elias's: as many zeros as r has bits after its highest, then r in binary.
3. If N > 262,144, an index. The symbols are in blocks of 4096, which is doubled until there are at
   most 2048 blocks. The index holds the bits of the words of every block but the last, less the
   fewest of them: the fewest as LEB128, a byte with the width w, then the numbers of w bits each.
4. The words, one after another. The code is canonical: sorted by length and then by symbol, the
   first word is all zeros, and each next one is the one before plus one, with zeros appended up to
   its length. It is complete: the last word is all ones.

The data end with the last word. They have no checksum, magic or version, which are the archive's.
"""

# N symbols, A alphabet

from typing import Any, NamedTuple

import numpy as np

from compress.coding import bitstream, code_lengths, fields
from compress.coding.code_lengths import LIMIT

ALPHABET = 1 << 16  # all symbols are below it
INDEXED = 1 << 18  # with more symbols there is an index
TOLERANCE = 1e-4  # share of the size that words of at most 16 bits may cost: read 1.5 times as fast
TRUSTED = 1 << 27  # symbols that short data may declare unless the caller says otherwise


class Size(NamedTuple):
    """What `encode` spends, and the least that any code of single symbols could spend."""

    symbols: int
    entropy_bits: float  # N × `entropy`
    code_bits: int  # of the words alone
    total_bytes: int  # of all parts


def encode(symbols: Any) -> bytes:
    """Encodes symbols in the fewest bits that whole bits per symbol allow, within 0.01 %.

    Words have at most 24 bits, or 16 if that costs no more than `TOLERANCE`.

    Args:
      symbols: [N] integers of any integer type (or bool), 0 … 65,535.

    Returns:
      The format above. Equal symbols give equal bytes, whatever their type.

    Raises:
      ValueError: the symbols do not have one axis, are not integers, or are out of range.

    Source: Huffman 1952; Schwartz & Kallick 1964 for the canonical form.

    Example:
        >>> from compress import huffman
        >>> symbols = np.repeat([0, 1, 2], [4000, 2000, 2000])
        >>> data = huffman.encode(symbols)
        >>> len(data)  # 1500 bytes of words of 1, 2 and 2 bits, and what these words stand for
        1505
        >>> np.array_equal(huffman.decode(data), symbols)
        True
    """
    return _encode(_checked(symbols))[0]


def decode(data: bytes | memoryview, max_symbols: int | None = None) -> np.ndarray:
    """Returns the symbols that `encode` was given.

    Memory is allocated only if the declared number is plausible: every symbol takes at least one
    bit, unless there is only one kind of symbol.

    Args:
      data: the bytes from `encode`, and nothing after them.
      max_symbols: the most to accept, such as the size of the expected array. The default is 2^27,
        or 8 per byte of the data if that is more.

    Returns:
      [N] uint8 if the largest symbol is below 256, otherwise uint16.

    Raises:
      ValueError: the data end early or late or contradict themselves, or have more symbols than
        accepted. Data that are not refused give the declared number of symbols; only a checksum can
        tell whether these are the ones that were written.

    Example:
        >>> from compress import huffman
        >>> huffman.decode(huffman.encode([3, 1, 1, 2]))
        array([3, 1, 1, 2], dtype=uint8)
        >>> huffman.decode(huffman.encode([3, 1, 1, 2]), max_symbols=3)
        Traceback (most recent call last):
            ...
        ValueError: 4 symbols are declared, at most 3 accepted (max_symbols)
    """
    view = memoryview(data).cast("B")
    count, at = fields.read_number(view, 0)
    most = max(TRUSTED, 8 * len(view)) if max_symbols is None else max_symbols
    if count > most:
        raise ValueError(f"{count} symbols are declared, at most {most} accepted (max_symbols)")
    if not count:
        _ended(view, at)
        return np.zeros(0, np.uint8)
    largest, at = fields.read_number(view, at)
    if largest >= ALPHABET:
        raise ValueError(f"largest symbol {largest} is not below {ALPHABET}")
    dtype = np.uint8 if largest < 256 else np.uint16
    if view[at : at + 1] == b"\0":
        _ended(view, at + 1)
        return np.full(count, largest, dtype)
    if count > 8 * len(view):
        raise ValueError(f"{count} symbols are declared in {len(view)} bytes")
    lengths, used = code_lengths.unpack(view[at:], largest + 1)
    return _decoded(view, at + used, count, bitstream.table(code_lengths.canonical(lengths), dtype))


def entropy(symbols: Any) -> float:
    """Returns the entropy of the symbols' frequencies, in bits per symbol; 0 without symbols.

    Example:
        >>> from compress import huffman
        >>> huffman.entropy([0, 0, 1, 2])  # ½ × 1 bit + ½ × 2 bits
        1.5
        >>> huffman.entropy([7, 7, 7])
        0.0
    """
    counts = _counts(_checked(symbols))
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(shares @ -np.log2(shares)) + 0.0  # 0, not -0, for one symbol


def size(symbols: Any) -> Size:
    """Returns what `encode` spends on the symbols, in bits and bytes, and their entropy.

    Example:
        >>> from compress import huffman
        >>> found = huffman.size(np.repeat([0, 1], [90, 10]))
        >>> found.code_bits, round(found.entropy_bits)  # a symbol takes one bit at least
        (100, 47)
    """
    checked = _checked(symbols)
    data, code_bits = _encode(checked)
    return Size(checked.size, checked.size * entropy(checked), code_bits, len(data))


def _checked(symbols: Any) -> np.ndarray:
    """Returns the symbols as [N] uint8 or uint16."""
    symbols = np.asarray(symbols)
    if symbols.ndim != 1:
        raise ValueError(f"symbols have shape {symbols.shape}, not one axis")
    if not symbols.size:
        return np.zeros(0, np.uint8)
    if symbols.dtype.kind not in "biu":
        raise ValueError(f"symbols are {symbols.dtype}, not integers")
    least, largest = int(symbols.min()), int(symbols.max())
    if least < 0 or largest >= ALPHABET:
        raise ValueError(f"symbols {least}…{largest} are not within 0…{ALPHABET - 1}")
    return symbols.astype(np.uint8 if largest < 256 else np.uint16, copy=False)


def _counts(symbols: np.ndarray) -> np.ndarray:
    """Returns [A] int64. Symbols are counted in pieces, since bincount takes 8 bytes for each."""
    piece = 1 << 20
    counts = np.zeros(int(symbols.max()) + 1 if symbols.size else 0, np.int64)
    for first in range(0, symbols.size, piece):
        counts += np.bincount(symbols[first : first + piece], minlength=counts.size)
    return counts


def _encode(symbols: np.ndarray) -> tuple[bytes, int]:
    """Returns the data, and the bits of the words alone."""
    if not symbols.size:
        return fields.number(0), 0
    counts = _counts(symbols)
    head = fields.number(symbols.size) + fields.number(counts.size - 1)
    if counts[-1] == symbols.size:
        return head + b"\0", 0
    lengths = _lengths(counts)
    bits = int(counts @ lengths)
    words, starts = bitstream.write(symbols, code_lengths.canonical(lengths), bits)
    index = fields.numbers(np.diff(starts)) if symbols.size > INDEXED else b""
    return head + code_lengths.pack(lengths) + index + words, bits


def _lengths(counts: np.ndarray) -> np.ndarray:
    """Returns the best lengths, or ones that a look into a table resolves if they cost little."""
    best, short = (code_lengths.code_lengths(counts, n) for n in (LIMIT, bitstream.TABLE))
    return short if counts @ short <= (1 + TOLERANCE) * (counts @ best) else best


def _decoded(view: memoryview, at: int, count: int, table: bitstream.Table) -> np.ndarray:
    """Returns the symbols of the index and the words, which begin at this byte."""
    if count > INDEXED:
        starts, at = _starts(view, at, -(-count // bitstream.block(count)))
        symbols, end = bitstream.read(view[at:], table, starts, count)
    else:
        symbols, end = bitstream.follow(view[at:], table, count)
    held = 8 * (len(view) - at)
    if not held - 8 < end <= held:
        raise ValueError(f"{count} symbols take {end} bits, the data hold {held}")
    if end < held and view[-1] & ((1 << (held - end)) - 1):
        raise ValueError("bits after the last symbol are not 0")
    return symbols


def _starts(view: memoryview, at: int, blocks: int) -> tuple[np.ndarray, int]:
    """Returns the bits [blocks] where blocks begin, and the byte where the index ends."""
    bits, end = fields.read_numbers(view, at, blocks - 1)
    starts = np.append(0, np.cumsum(bits))
    held = 8 * (len(view) - end)
    if starts[-1] >= held:
        raise ValueError(f"the last block begins at bit {starts[-1]} of {held}")
    return starts, end


def _ended(view: memoryview, at: int) -> None:
    if at != len(view):
        raise ValueError(f"the data should end with byte {at}, not {len(view)}")
