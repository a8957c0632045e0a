"""The bytes of an archive as entries, streams and arrays: nothing of them is trusted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

import architectures
from compress import container, entries, fitting, plain, streams
from compress.entries import Entry
from experiment.errors import UserError
from lowrank.layers import METHODS

KEYS = ("model", "classes", "example", "plan", "arrays")
SPARE_ENTRIES, ENTRIES_A_BYTE = 1 << 20, 1024  # of all arrays, for a file of so many bytes
DEPTH = 64  # dicts within each other


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
    if not set(parts.header) <= set(KEYS) or not isinstance(parts.header.get("arrays"), dict):
        raise ValueError("its header has other keys, or no arrays")
    _check_names(list(parts.header["arrays"]))
    arrays = {}
    for name, given in parts.header["arrays"].items():
        try:
            arrays[name] = entries.from_json(given)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
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


def _check_names(names: list[str]) -> None:
    """Refuse what is no path of a tree of variables, or lies within another array."""
    known = set(names)
    for name in names:
        above = name.split("/")
        if not 2 <= len(above) <= DEPTH or not all(above) or not name.isprintable():
            raise ValueError(f"{name[:80]!r} is no path of an array")
        for length in range(1, len(above)):
            if "/".join(above[:length]) in known:
                raise ValueError(f"{name[:80]!r} lies within an array")
    if not any(name.startswith("params/") for name in names):
        raise ValueError("it has no params")


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


def leaves(arrays: Mapping[str, Entry]) -> dict[str, fitting.Leaf]:
    """What a network is compared by."""
    return {
        name: fitting.Leaf(entry.shape, entries.is_float(entry.dtype))
        for name, entry in arrays.items()
    }


def model(header: Mapping[str, Any], model: nn.Module | None) -> nn.Module:
    """The module that is given, or that the header describes.

    Raises:
      ValueError: the header's description is none.
      UserError: there is neither; a name, width or dtype that does not exist.
    """
    if model is not None:
        return model
    if "model" not in header:
        raise UserError("it does not describe its network: give the module, load(path, model)")
    section, classes = header["model"], header.get("classes")
    kinds = {"name": str, "width": float, "dtype": str}
    if not isinstance(section, dict) or {k: type(v) for k, v in section.items()} != kinds:
        raise ValueError("its model is no section of a config")
    if section["width"] > SPARE_ENTRIES:
        raise ValueError("its network is too wide")
    if type(classes) is not int or not 1 <= classes <= SPARE_ENTRIES:
        raise ValueError("its number of classes is none")
    return architectures.build({"model": section}, classes)


def example(header: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape of an example, if the header has it.

    Raises:
      ValueError: it is none.
    """
    shape = header.get("example")
    if shape is None:
        return None
    if not isinstance(shape, list) or not 1 <= len(shape) <= 8:
        raise ValueError("its example has no shape")
    if not all(type(size) is int and 1 <= size <= SPARE_ENTRIES for size in shape):
        raise ValueError("its example has no shape")
    return tuple(shape)


def plan(header: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of the low-rank layers; empty if there are none. Ranks are checked by `fitting`.

    Raises:
      ValueError: it is none.
    """
    found = header.get("plan", {})
    if not isinstance(found, dict):
        raise ValueError("its plan is none")
    known = {method for methods in METHODS.values() for method in methods}
    for path, entry in found.items():
        fits = isinstance(entry, dict) and entry.keys() == {"method", "rank"}
        if not fits or not isinstance(entry["method"], str) or entry["method"] not in known:
            raise ValueError(f"its plan has no method and rank for {path[:80]!r}")
    return found
