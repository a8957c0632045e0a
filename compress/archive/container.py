"""The outer form of an archive: a JSON header and streams of bytes, all with checksums.

These are versions 1 and 2 of the format. In version 2 an array may be coded by
`compress.coding.adaptive`; a file without one is of version 1. Numbers are LEB128 (7 bits per byte,
the lowest first; the highest bit is set if another byte follows). Checksums are CRC-32 as in zlib
and PNG, 4 bytes, the lowest first. A file consists of:

1. The bytes 93 43 4E 41 (“.CNA”), and the version: 01 or 02.
2. Three numbers: the bytes of the packed header, the bytes of the header itself, and the number of
   streams.
3. The header: JSON (UTF-8), packed by DEFLATE (RFC 1951, without the wrapping of zlib or gzip). In
   version 2 the bytes of `DICTIONARY` are taken to come before it, so that what most headers have
   takes few bytes.
4. For each stream its number of bytes and its checksum.
5. The checksum of everything before it.
6. The streams, one after another. The file ends with the last one.

So `json.loads(zlib.decompressobj(-15, zdict=DICTIONARY).decompress(packed))` reads the header; of
version 1, without `zdict`. `compress.archive.files` explains the header, and
`compress.archive.streams` the streams.
"""

import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from compress.coding import fields

MAGIC = b"\x93CNA"
VERSIONS = (1, 2)  # 2: arrays may be coded by `compress.coding.adaptive`
HEADER_BYTES = 1 << 20  # of the longest header
HEADER_RATIO = 32  # the most header bytes per packed byte; real headers have 3 to 12
_WINDOW = -15  # zlib's name for DEFLATE without wrapping
DICTIONARY = (  # of version 2, and never changed; what is most frequent comes last
    b'"plan":{"share":[["activations":{"kept":{"dtype":"bfloat16","bits":,"axis":-1"method":"rank":'
    b'"batch_stats/block1_1/bn1/mean":{"shape":[16]},"batch_stats/block1_1/bn1/var":{"shape":[16]},'
    b'"params/block1_1/conv1/kernel":{"shape":[3,3,16,16],"form":"scaled","held":"float16",'
    b'"group":2,"lowest":-7,"levels":15,"axis":3},"params/block1_1/bn1/scale":{"shape":[16]}'
    b'{"model":{"name":"lenet_300_100","width":1.0,"dtype":"float32","kwargs":{"lenet_5"},'
    b'"classes":10,"example":[28,28,1],"arrays":{"params/conv1/bias":{"shape":[32],'
    b'"form":"scaled","lowest":-127,"levels":255},"params/fc1/kernel":{"shape":[784,300],'
    b'"form":"palette","bits":1,"group":0},"params/output/bias":{"shape":[10]},'
    b'"params/output/kernel":{"shape":[100,10],"form":"palette"'
)


class Parts(NamedTuple):
    """The contents of a file whose checksums are right."""

    header: dict[str, Any]
    streams: list[memoryview]
    head_bytes: int  # of everything but the streams
    version: int


def pack(header: dict[str, Any], streams: Sequence[bytes], version: int = 1) -> bytes:
    """Returns the bytes of a file, of one of `VERSIONS`.

    Equal headers and streams give equal bytes with equal versions of zlib.

    Raises:
      ValueError: `unpack` would refuse the header.
    """
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, _WINDOW, 9, **_dictionary(version))
    packed = deflate.compress(text) + deflate.flush()
    _check_sizes(len(packed), len(text))
    head = MAGIC + bytes([version])
    head += b"".join(map(fields.number, (len(packed), len(text), len(streams)))) + packed
    head += b"".join(fields.number(len(stream)) + _checksum(stream) for stream in streams)
    return b"".join([head, _checksum(head), *streams])


def unpack(data: bytes) -> Parts:
    """Returns the header and the streams of a file's bytes.

    Raises:
      ValueError: `pack` cannot have written the bytes. The message says what is wrong with them.
    """
    view = memoryview(data)
    if data[:4] != MAGIC:
        raise ValueError("it does not begin as an archive does")
    if data[4:5] not in map(bytes, zip(VERSIONS)):
        version = f"of version {data[4]}" if len(data) > 4 else "cut off"
        raise ValueError(f"it is {version}; versions up to {VERSIONS[-1]} are known here")
    packed, at = fields.read_number(view, 5)
    size, at = fields.read_number(view, at)
    count, at = fields.read_number(view, at)
    _check_sizes(packed, size)
    if packed + 5 * count + 4 > len(view) - at:
        raise ValueError("it is damaged: the header is cut off")
    table, end = _table(view, at + packed, count)
    if end + 4 > len(view) or view[end : end + 4] != _checksum(view[:end]):
        raise ValueError("it is damaged: the header is not as it was written")
    streams = _streams(view[end + 4 :], table)
    return Parts(_header(view[at : at + packed], size, data[4]), streams, end + 4, data[4])


def _table(view: memoryview, at: int, count: int) -> tuple[list[tuple[int, memoryview]], int]:
    """Returns the length and the checksum of each stream, and the byte after them."""
    table = []
    for _ in range(count):
        length, at = fields.read_number(view, at)
        table.append((length, view[at : at + 4]))
        at += 4
    return table, at


def _streams(view: memoryview, table: list[tuple[int, memoryview]]) -> list[memoryview]:
    """Returns the streams, which fill the view and have the lengths and checksums of the table."""
    if len(view) != (total := sum(length for length, _ in table)):
        raise ValueError(f"it is damaged: {len(view)} bytes of streams, not {total}")
    streams, at = [], 0
    for number, (length, checksum) in enumerate(table):
        stream = view[at : at + length]
        at += length
        if _checksum(stream) != checksum:
            raise ValueError(f"it is damaged: stream {number} is not as it was written")
        streams.append(stream)
    return streams


def _checksum(data: bytes | memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _check_sizes(packed: int, size: int) -> None:
    most = min(HEADER_BYTES, HEADER_RATIO * packed)
    if not 2 <= size <= most:
        raise ValueError(f"a header of {size} bytes is not within 2…{most}")


def _dictionary(version: int) -> dict[str, Any]:
    return {"zdict": DICTIONARY} if version > 1 else {}


def _header(packed: memoryview, size: int, version: int) -> dict[str, Any]:
    inflate = zlib.decompressobj(_WINDOW, **_dictionary(version))
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
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
