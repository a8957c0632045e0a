"""A header of JSON and streams of bytes, all under checksums: the outside of an archive.

The format, version 1. Numbers are LEB128 (7 bits a byte, the lowest first, the highest bit set
where another byte follows); checksums are CRC-32 as zlib and PNG have it, 4 bytes, the lowest
first. In order:

1. The bytes 93 43 4E 41 (“.CNA”), and the version: 01.
2. Three numbers: the bytes of the packed header, of the header itself, and the streams.
3. The header: JSON (UTF-8), packed by DEFLATE (RFC 1951, without zlib's or gzip's wrapping).
4. Of each stream the bytes, a number, and the checksum.
5. The checksum of all that stands before it.
6. The streams, one after another. The file ends with the last.

So the header is read by `json.loads(zlib.decompress(packed, -15))`. What the header and the
streams mean is said in `compress.archive` and `compress.archive.streams`.
"""

import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from compress.coding import fields

MAGIC = b"\x93CNA"
VERSION = 1
HEADER_BYTES = 1 << 20  # of the longest header
HEADER_RATIO = 32  # header bytes for one packed byte: real ones have 3 to 10
_WINDOW = -15  # zlib's name of DEFLATE without wrapping


class Parts(NamedTuple):
    """What a file holds, its checksums verified."""

    header: dict[str, Any]
    streams: list[memoryview]
    head_bytes: int  # of everything but the streams


def pack(header: dict[str, Any], streams: Sequence[bytes]) -> bytes:
    """The file's bytes; equal headers and streams give equal bytes with equal versions of zlib.

    Raises:
      ValueError: a header that `unpack` would refuse.
    """
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, _WINDOW, 9)
    packed = deflate.compress(text) + deflate.flush()
    _check_sizes(len(packed), len(text))
    head = MAGIC + bytes([VERSION])
    head += b"".join(map(fields.number, (len(packed), len(text), len(streams)))) + packed
    head += b"".join(fields.number(len(stream)) + _checksum(stream) for stream in streams)
    return b"".join([head, _checksum(head), *streams])


def unpack(data: bytes) -> Parts:
    """The header and the streams of a file's bytes.

    Raises:
      ValueError: the bytes are not what `pack` has written; says what is wrong with them.
    """
    view = memoryview(data)
    if data[:4] != MAGIC:
        raise ValueError("it does not begin as an archive does")
    if data[4:5] != bytes([VERSION]):
        version = f"of version {data[4]}" if len(data) > 4 else "cut off"
        raise ValueError(f"it is {version}; version {VERSION} is known here")
    packed, at = fields.read_number(view, 5)
    size, at = fields.read_number(view, at)
    count, at = fields.read_number(view, at)
    _check_sizes(packed, size)
    if packed + 5 * count + 4 > len(view) - at:
        raise ValueError("it is damaged: the header is cut off")
    begin = at
    at += packed
    table = []
    for _ in range(count):
        length, at = fields.read_number(view, at)
        table.append((length, view[at : at + 4]))
        at += 4
    if at + 4 > len(view) or view[at : at + 4] != _checksum(view[:at]):
        raise ValueError("it is damaged: the header is not as it was written")
    head_bytes = at = at + 4
    if (held := len(view) - at) != (total := sum(length for length, _ in table)):
        raise ValueError(f"it is damaged: {held} bytes of streams, not {total}")
    streams = []
    for number, (length, checksum) in enumerate(table):
        streams.append(view[at : at + length])
        at += length
        if _checksum(streams[-1]) != checksum:
            raise ValueError(f"it is damaged: stream {number} is not as it was written")
    return Parts(_header(view[begin : begin + packed], size), streams, head_bytes)


def _checksum(data: bytes | memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _check_sizes(packed: int, size: int) -> None:
    most = min(HEADER_BYTES, HEADER_RATIO * packed)
    if not 2 <= size <= most:
        raise ValueError(f"a header of {size} bytes is not within 2…{most}")


def _header(packed: memoryview, size: int) -> dict[str, Any]:
    inflate = zlib.decompressobj(_WINDOW)
    try:
        text = inflate.decompress(packed, size + 1)
        if len(text) != size or not inflate.eof or inflate.unused_data:
            raise ValueError(f"not {size} bytes")
        header = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refused)
    except (zlib.error, ValueError, RecursionError) as error:
        raise ValueError(f"its header is not readable: {error}") from error
    if not isinstance(header, dict):
        raise ValueError("its header is not readable: no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")
