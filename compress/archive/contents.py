"""An account of the bytes of an archive. Read `describe`."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from compress.archive import codings, plain, reading
from compress.archive.entries import Entry
from compress.coding import huffman
from groundwork.errors import UserError

_SHARED = ""  # the path of streams that several arrays share


class Stream(NamedTuple):
    """One part of a file."""

    path: str  # of the array; empty for the header and for numbers of several arrays
    kind: str  # "weights", "index", "codebook", "other" or "header"
    bytes: int
    symbols: int  # weights, gaps or numbers; 0 for the header
    bits: float  # of each symbol before coding, at one width for all
    coded_bits: float  # of each symbol in the file: 8 × bytes / symbols
    entropy_bits: float  # of each symbol by their frequencies; coded_bits if they are not coded


class Description(NamedTuple):
    """The result of `describe`."""

    header: dict[str, Any]
    streams: list[Stream]  # their bytes add up to the file's


def describe(path: str | Path) -> Description:
    """Returns the header of a file, and the bytes and bits of each of its streams.

    The symbols of Huffman-coded streams are decoded, for their entropy, within the bounds that
    `load` sets for an unknown network; no array is made of them. Where weights are coded in groups,
    the entropy is that of the groups. Where they are coded by what is near them, they are all
    entries of the array, places included, and may take fewer bits than the entropy of their
    frequencies.

    Raises:
      UserError: as `load`, except about the model.

    Example:
        >>> import compress
        >>> weights = jax.random.normal(jax.random.key(0), (80, 100))
        >>> stored = compress.quantize.binary(weights, scaled=True)
        >>> compress.save("net.cna", lambda variables, x: x, {"params": {"kernel": stored}})
        >>> for stream in compress.describe("net.cna").streams:  # a bit for each of 8000 signs
        ...     print(stream.kind, stream.symbols, round(stream.coded_bits))
        header 0 0
        codebook 2 32
        weights 8000 1
    """
    try:
        file = reading.parse(reading.read(path))
        streams = [Stream("", "header", file.parts.head_bytes, 0, 0.0, 0.0, 0.0)]
        for name, entry in file.arrays.items():
            for kind, part in zip(entry.kinds, file.streams[name], strict=True):
                count, bits = _before(entry, kind, part, file.streams[name])
                ideal = None if kind == "codebook" else _entropy(entry, part, file.streams[name])
                streams.append(_stream(name, kind, part, count, bits, ideal))
    except (ValueError, UserError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for dtype, (count, part) in file.plain.items():
        streams.append(_stream(_SHARED, "other", part, count, 8 * jnp.dtype(dtype).itemsize))
    return Description(file.parts.header, streams)


def _stream(
    name: str, kind: str, part: memoryview, count: int, bits: float, ideal: float | None = None
) -> Stream:
    """Returns the account of one stream.

    `ideal` are the bits of all symbols by their frequencies; None if they are not coded.
    """
    coded = 8 * len(part)
    entropy = coded if ideal is None else ideal
    if not count:  # the bytes that say so belong to no symbol
        return Stream(name, kind, len(part), 0, bits, 0.0, 0.0)
    return Stream(name, kind, len(part), count, bits, coded / count, entropy / count)


def _entropy(entry: Entry, part: memoryview, streams: list[memoryview]) -> float:
    """Returns the entropy, in bits, of all symbols of a stream of gaps or weights."""
    if entry.adaptive:
        symbols = codings.from_context(entry, plain.read(streams[0], entry.stored), part).ravel()
    else:
        symbols = huffman.decode(part, entry.size)
    return symbols.size * huffman.entropy(symbols)


def _before(
    entry: Entry, kind: str, part: memoryview, streams: list[memoryview]
) -> tuple[int, float]:
    """Returns the number of symbols of a stream, and the bits of each at one width for all."""
    item = jnp.dtype(entry.stored).itemsize
    if kind == "codebook":
        return len(part) // item, 8 * item
    if kind == "index":
        return codings.declared_count(part), entry.bits
    levels = entry.levels or len(streams[0]) // item + (entry.bits > 0)
    count = codings.declared_count(streams[1]) if "index" in entry.kinds else entry.size
    return count, max(levels - 1, 0).bit_length()
