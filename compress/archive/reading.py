"""The bytes of an archive as entries, streams and arrays: nothing of them is trusted."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compress.archive import container, entries, forms, headers, plain, streams
from compress.archive.entries import Entry
from groundwork.errors import UserError

SPARE_ENTRIES, ENTRIES_A_BYTE = 1 << 20, 1024  # of all arrays, for a file of so many bytes


class File(NamedTuple):
    """What `parse` finds."""

    parts: container.Parts
    arrays: dict[str, Entry]
    own: dict[str, list[memoryview]]  # streams of each array
    plain: dict[str, tuple[int, memoryview]]  # dtype → how many numbers, and their stream


def read(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    if not Path(path).is_file():
        raise UserError("there is no such file")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror}") from error


def parse(data: bytes) -> File:
    """Everything but the numbers: checksums, entries, and that the streams are as many as needed.

    Raises:
      ValueError: otherwise.
    """
    parts = container.unpack(data)
    arrays = headers.arrays(parts.header)
    total = sum(entry.size for entry in arrays.values())
    most = SPARE_ENTRIES + ENTRIES_A_BYTE * len(data)
    if total > most:
        raise ValueError(f"{total} entries in {len(data)} bytes: at most {most}")
    left = iter(parts.streams)
    own: dict[str, list[memoryview]] = {}
    plain_counts: dict[str, int] = {}
    try:
        for name, entry in arrays.items():
            own[name] = [next(left) for _ in entry.kinds]
            if entry.form == "plain":
                before = plain_counts.get(entry.stored, 0)
                plain_counts[entry.stored] = before + streams.plain_count(entry, own[name])
        shared = {dtype: (count, next(left)) for dtype, count in plain_counts.items()}
    except StopIteration:
        raise ValueError(f"it has {len(parts.streams)} streams: too few") from None
    if next(left, None) is not None:
        raise ValueError(f"it has {len(parts.streams)} streams: too many")
    return File(parts, arrays, own, shared)


def arrays(file: File) -> dict[str, np.ndarray]:
    """The arrays by path.

    Raises:
      ValueError: streams that do not fit their entries or contradict themselves.
    """
    numbers = {
        dtype: plain.unpack(part, count, dtype) for dtype, (count, part) in file.plain.items()
    }
    used, found = dict.fromkeys(numbers, 0), {}
    for name, entry in file.arrays.items():
        own, first = file.own[name], used.get(entry.stored, 0)
        last = first + streams.plain_count(entry, own)
        mine = numbers.get(entry.stored, np.zeros(0))[first:last]
        if entry.form == "plain":
            used[entry.stored] = last
        try:
            array = streams.decode(entry, own, mine)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if entries.is_float(entry.dtype) and not np.isfinite(array).all():
            raise ValueError(f"{name}: its numbers are not finite")
        found[name] = array
    return found


def leaves(arrays: Mapping[str, Entry]) -> dict[str, forms.Leaf]:
    """What a network is compared by."""
    return {
        name: forms.Leaf(entry.shape, entries.is_float(entry.dtype))
        for name, entry in arrays.items()
    }
