"""Entries, streams and arrays from the bytes of an archive, none of which are trusted."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compress.archive import container, entries, forms, headers, plain, streams
from compress.archive.entries import Entry
from groundwork import copies
from groundwork.errors import UserError

# All arrays together have at most so many entries, plus so many for each byte of the file.
SPARE_ENTRIES, ENTRIES_A_BYTE = 1 << 20, 1024
# So many arrays may be coded by what is near each entry, since each takes a decoder thousands of
# steps however short it is; and one more for each so many bytes of the file.
SPARE_ADAPTIVE, BYTES_AN_ADAPTIVE = 64, 256


class File(NamedTuple):
    """The result of `parse`."""

    parts: container.Parts
    arrays: dict[str, Entry]
    streams: dict[str, list[memoryview]]  # path → the streams of that array alone
    plain: dict[str, tuple[int, memoryview]]  # dtype → the number of plain numbers, their stream


def read(path: str | Path) -> bytes:
    """Returns the bytes of a file.

    Raises:
      UserError: there is no such file, or it cannot be read.
    """
    path = copies.near_file(path)
    if not path.is_file():
        raise UserError("there is no such file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror}") from error


def parse(data: bytes) -> File:
    """Returns the parts of a file, with everything checked but the numbers of its streams.

    Raises:
      ValueError: a checksum or an entry is wrong, there are more entries or adaptive codes than the
        file's size allows, or the number of streams does not fit the entries.
    """
    parts = container.unpack(data)
    arrays = headers.arrays(parts.header)
    if wrong := [name for name, entry in arrays.items() if entry.adaptive and parts.version < 2]:
        raise ValueError(f"{wrong[0]}: version {parts.version} has no adaptive coding")
    count = sum(entry.adaptive for entry in arrays.values())
    if count > (most := SPARE_ADAPTIVE + len(data) // BYTES_AN_ADAPTIVE):
        raise ValueError(f"{count} adaptive codes in {len(data)} bytes: at most {most}")
    total = sum(entry.size for entry in arrays.values())
    most = SPARE_ENTRIES + ENTRIES_A_BYTE * len(data)
    if total > most:
        raise ValueError(f"{total} entries in {len(data)} bytes: at most {most}")
    left = iter(parts.streams)
    by_array: dict[str, list[memoryview]] = {}
    plain_counts: dict[str, int] = {}
    try:
        for name, entry in arrays.items():
            by_array[name] = [next(left) for _ in entry.kinds]
            if entry.form == "plain":
                before = plain_counts.get(entry.stored, 0)
                plain_counts[entry.stored] = before + streams.plain_count(entry, by_array[name])
        shared = {dtype: (count, next(left)) for dtype, count in plain_counts.items()}
    except StopIteration:
        raise ValueError(f"it has {len(parts.streams)} streams: too few") from None
    if next(left, None) is not None:
        raise ValueError(f"it has {len(parts.streams)} streams: too many")
    return File(parts, arrays, by_array, shared)


def arrays(file: File) -> dict[str, np.ndarray]:
    """Returns path → array.

    Raises:
      ValueError: streams do not fit their entries or contradict themselves.
    """
    numbers = {
        dtype: plain.unpack(part, count, dtype) for dtype, (count, part) in file.plain.items()
    }
    used = dict.fromkeys(numbers, 0)
    arrays = {}
    for name, entry in file.arrays.items():
        first = used.get(entry.stored, 0)
        last = first + streams.plain_count(entry, file.streams[name])
        if entry.form == "plain":
            used[entry.stored] = last
        part = numbers.get(entry.stored, np.zeros(0))[first:last]
        try:
            array = streams.decode(entry, file.streams[name], part)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if entries.is_float(entry.dtype) and not np.isfinite(array).all():
            raise ValueError(f"{name}: its numbers are not finite")
        arrays[name] = array
    return arrays


def leaves(arrays: Mapping[str, Entry]) -> dict[str, forms.Leaf]:
    """Returns what a network is compared with."""
    return {
        name: forms.Leaf(entry.shape, entries.is_float(entry.dtype))
        for name, entry in arrays.items()
    }
