"""Canonical, length-limited Huffman coding of arrays of integers. Read `encode` first.

The format, for another decoder. Bits are counted from the highest of each byte; a part that ends
within a byte is filled up with zeros. Parts, in order:

1. The number of symbols N, then the largest symbol A − 1, each as LEB128 (7 bits a byte, the
   lowest first, the highest bit set where another byte follows). N = 0 ends the data at once.
2. The lengths of the code words of symbols 0 … A − 1, each 1 … 24 bits, or absent. First 5 bits:
   where to start; 0 says that A − 1 is the only symbol, and the data end with this byte. Then
   tokens, until A symbols are named, the last of them not absent:
     0            a symbol whose length is the last one again
     10 s         a length of one more (s = 0) or one less (s = 1)
     110 γ(r)     7 + r symbols of the last length
     1110 γ(r)    r symbols that are absent; they leave the last length as it is
     1111 s γ(r)  a length of 1 + r more or less
   γ(r), r ≥ 1, is Elias's: as many zeros as r has bits after its highest, then r in binary.
3. Where N > 262,144: an index. The symbols are in blocks of 4096, which is doubled until there are
   at most 2048 blocks. Of every block but the last the bits of its words are written, less the
   fewest of them: these as LEB128, a byte with the width w, then the numbers of w bits each.
4. The words, one after another. The code is canonical: sorted by length, then by symbol, the first
   word is all zeros, and each next is the one before plus one, with zeros appended up to its
   length. It is complete: the last is all ones.

The data end with the last word. There is no checksum, magic or version: that is the archive's.
"""

# N symbols, A alphabet

from typing import Any, NamedTuple

import numpy as np

from compress.coding import bitstream, code_lengths, fields
from compress.coding.code_lengths import LIMIT

ALPHABET = 1 << 16  # symbols lie below
INDEXED = 1 << 18  # more symbols than these have an index
TOLERANCE = 1e-4  # of the size, for words of 16 bits at most: read 1.5 times as fast
TRUSTED = 1 << 27  # symbols that short data may declare unless the caller says otherwise


class Size(NamedTuple):
    """What `encode` spends, beside what no code of single symbols can undercut."""

    symbols: int
    entropy_bits: float  # N × `entropy`
    code_bits: int  # of the words alone
    total_bytes: int  # of everything


def encode(symbols: Any) -> bytes:
    """The symbols in the fewest bits that whole bits a symbol allow, to one in ten thousand.

    Words have 24 bits at most; 16 if that costs no more than `TOLERANCE`.

    Args:
      symbols: [N] integers of any integer type (or bool), 0 … 65,535.

    Returns:
      The format above; equal symbols give equal bytes, whatever their type.

    Raises:
      ValueError: not one axis, not integers, or out of range.

    Source: Huffman 1952; Schwartz & Kallick 1964 for the canonical form.
    """
    return _encode(_checked(symbols))[0]


def decode(data: bytes | memoryview, max_symbols: int | None = None) -> np.ndarray:
    """What `encode` was given: [N] uint8 if the largest symbol lies below 256, else uint16.

    Memory is taken only once the declared number is found plausible: every symbol takes a bit at
    least, except where there is only one kind of it.

    Args:
      data: what `encode` gave, and nothing after it.
      max_symbols: the most to accept, such as the size of the array that is expected; by default
        2^27, or 8 a byte of the data where that is more.

    Raises:
      ValueError: data that end early or late or contradict themselves, or more symbols than
        accepted. What is not refused has the declared length; that it is what was written, only a
        checksum can tell.
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
    table = bitstream.table(code_lengths.canonical(lengths), dtype)
    at += used
    if count > INDEXED:
        starts, at = _starts(view, at, -(-count // bitstream.block(count)))
        found, end = bitstream.read(view[at:], table, starts, count)
    else:
        found, end = bitstream.follow(view[at:], table, count)
    held = 8 * (len(view) - at)
    if not held - 8 < end <= held:
        raise ValueError(f"{count} symbols take {end} bits, the data hold {held}")
    if end < held and view[-1] & ((1 << (held - end)) - 1):
        raise ValueError("bits after the last symbol are not 0")
    return found


def entropy(symbols: Any) -> float:
    """Bits a symbol, of the frequencies that the symbols have; 0 if there are none."""
    counts = _counts(_checked(symbols))
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(shares @ -np.log2(shares)) + 0.0  # 0, not -0, for one symbol


def size(symbols: Any) -> Size:
    """What `encode` makes of the symbols, in bits and bytes, beside their entropy."""
    checked = _checked(symbols)
    data, code_bits = _encode(checked)
    return Size(checked.size, checked.size * entropy(checked), code_bits, len(data))


def _checked(symbols: Any) -> np.ndarray:
    """[N] uint8 or uint16."""
    found = np.asarray(symbols)
    if found.ndim != 1:
        raise ValueError(f"symbols have shape {found.shape}, not one axis")
    if not found.size:
        return np.zeros(0, np.uint8)
    if found.dtype.kind not in "biu":
        raise ValueError(f"symbols are {found.dtype}, not integers")
    least, largest = int(found.min()), int(found.max())
    if least < 0 or largest >= ALPHABET:
        raise ValueError(f"symbols {least}…{largest} are not within 0…{ALPHABET - 1}")
    return found.astype(np.uint8 if largest < 256 else np.uint16, copy=False)


def _counts(symbols: np.ndarray) -> np.ndarray:
    """[A] int64; by pieces, for bincount makes 8 bytes of each."""
    piece = 1 << 20
    counts = np.zeros(int(symbols.max()) + 1 if symbols.size else 0, np.int64)
    for first in range(0, symbols.size, piece):
        counts += np.bincount(symbols[first : first + piece], minlength=counts.size)
    return counts


def _encode(symbols: np.ndarray) -> tuple[bytes, int]:
    """The data, and the bits of the words alone."""
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
    """The best; or such as one look into a table resolves, where that costs next to nothing."""
    best, short = (code_lengths.code_lengths(counts, n) for n in (LIMIT, bitstream.TABLE))
    return short if counts @ short <= (1 + TOLERANCE) * (counts @ best) else best


def _starts(view: memoryview, at: int, blocks: int) -> tuple[np.ndarray, int]:
    """[blocks] bits where they begin, and where the index ends, in bytes."""
    bits, end = fields.read_numbers(view, at, blocks - 1)
    starts = np.append(0, np.cumsum(bits))
    held = 8 * (len(view) - end)
    if starts[-1] >= held:
        raise ValueError(f"the last block begins at bit {starts[-1]} of {held}")
    return starts, end


def _ended(view: memoryview, at: int) -> None:
    if at != len(view):
        raise ValueError(f"the data should end with byte {at}, not {len(view)}")
