"""Where the bytes of an archive go. Read `describe`."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from compress.archive import codings, reading
from compress.archive.entries import Entry
from compress.coding import huffman
from groundwork.errors import UserError

_PLAIN = ""  # the path of streams that several arrays share


class Stream(NamedTuple):
    """Where bytes of a file go."""

    path: str  # of the array; empty: the header's, or numbers of several arrays
    kind: str  # "weights", "index", "codebook", "other" or "header"
    bytes: int
    symbols: int  # weights, gaps or numbers in it; 0 for the header
    bits: float  # of each before coding, at one width for all
    coded_bits: float  # of each in the file: 8 × bytes / symbols
    entropy_bits: float  # of each by an ideal code of what Huffman's codes; else coded_bits


class Description(NamedTuple):
    """What `describe` finds."""

    header: dict[str, Any]
    streams: list[Stream]  # their bytes add up to the file's


def describe(path: str | Path) -> Description:
    """The header of a file, and what each of its streams takes.

    Of Huffman-coded streams the symbols are decoded, for their entropy, within the bounds of
    `load` for a network that is not known; arrays are not. Where weights are coded by groups, the
    entropy is that of the groups.

    Raises:
      UserError: as `load`, but for the model.
    """
    try:
        file = reading.parse(reading.read(path))
        found = [Stream("", "header", file.parts.head_bytes, 0, 0.0, 0.0, 0.0)]
        for name, entry in file.arrays.items():
            for kind, part in zip(entry.kinds, file.own[name], strict=True):
                count, bits = _before(entry, kind, part, file.own[name])
                ideal = None if kind == "codebook" else _entropy(part, entry.size)
                found.append(_stream(name, kind, part, count, bits, ideal))
    except (ValueError, UserError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for dtype, (count, part) in file.plain.items():
        found.append(_stream(_PLAIN, "other", part, count, 8 * jnp.dtype(dtype).itemsize))
    return Description(file.parts.header, found)


def _stream(
    name: str, kind: str, part: memoryview, count: int, bits: float, ideal: float | None = None
) -> Stream:
    """`ideal`: bits of all symbols; None where they are not Huffman-coded."""
    coded, each = 8 * len(part), max(count, 1)
    spent = coded if ideal is None else ideal
    return Stream(name, kind, len(part), count, bits, coded / each, spent / each)


def _entropy(part: memoryview, most: int) -> float:
    """Bits of all symbols of a Huffman-coded stream, at most so many."""
    symbols = huffman.decode(part, most)
    return symbols.size * huffman.entropy(symbols)


def _before(entry: Entry, kind: str, part: memoryview, own: list[memoryview]) -> tuple[int, float]:
    """How many symbols a stream has, and the bits of each at one width for all."""
    item = jnp.dtype(entry.stored).itemsize
    if kind == "codebook":
        return len(part) // item, 8 * item
    if kind == "index":
        return codings.declared_count(part), entry.bits
    levels = entry.levels or len(own[0]) // item + (entry.bits > 0)
    count = codings.declared_count(own[1]) if entry.bits else entry.size
    return count, max(levels - 1, 0).bit_length()
