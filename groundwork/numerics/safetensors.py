"""Files of arrays in the format safetensors, that anybody may have made. Read `read` first.

A file is the length of its header (eight bytes, the lowest first), the header in JSON, and the
bytes of all arrays without a gap. What the header declares is compared with the size of the file,
and with what the caller expects, before any memory is given to arrays. Source: the format's
description, github.com/huggingface/safetensors.
"""

import io
import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from groundwork import atomic
from groundwork.numerics.npz import opened

LONGEST = 1 << 20  # bytes of the longest header, which has some 9,000 arrays
DTYPES = {
    "BOOL": np.dtype(bool),
    "U8": np.dtype("uint8"),
    "I8": np.dtype("int8"),
    "U16": np.dtype("uint16"),
    "I16": np.dtype("int16"),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(jnp.bfloat16),
    "U32": np.dtype("uint32"),
    "I32": np.dtype("int32"),
    "F32": np.dtype("float32"),
    "U64": np.dtype("uint64"),
    "I64": np.dtype("int64"),
    "F64": np.dtype("float64"),
}
_METADATA = "__metadata__"
_KEYS = {"dtype", "shape", "data_offsets"}
_AXES = 32
_ENTRIES = 2**58  # of the largest array, its empty axes counted as if they were of length 1
_NAME = 500  # characters of the longest name
_PART = 1 << 30  # bytes that are read at once; systems refuse more than 2^31


class Header(NamedTuple):
    """What a file says of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int  # the first byte, counted from the end of the header
    end: int  # the byte after the last


def read(
    path: Path, check: Callable[[Mapping[str, Header]], None] = lambda headers: None
) -> dict[str, np.ndarray]:
    """Returns the arrays of a file, by name; bfloat16 as JAX's type of that name.

    The memory that it takes is that of the arrays, and that of the header's text some 20 times.

    Args:
      path: the file.
      check: is given the headers before any array is read, and raises what it likes.

    Raises:
      ValueError: the file cannot be read or is damaged; its header is longer than `LONGEST` bytes;
        or an array is of a type that `DTYPES` has not, or there twice.

    Example:
        >>> from pathlib import Path
        >>> from groundwork.numerics import safetensors
        >>> safetensors.write(Path("weights.safetensors"), {"bias": jnp.ones(3, jnp.bfloat16)})
        >>> look = lambda headers: print("to be read:", headers["bias"].shape)
        >>> arrays = safetensors.read(Path("weights.safetensors"), check=look)
        to be read: (3,)
        >>> arrays["bias"].tolist(), arrays["bias"].dtype.name
        ([1.0, 1.0, 1.0], 'bfloat16')
    """
    with opened(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        length = int.from_bytes(_exactly("its first number", file, 8), "little")
        if length > min(LONGEST, size - 8):
            raise ValueError(
                f"it is no file of safetensors, or is cut off: its header would have {length} bytes"
                f" (at most {LONGEST} are read), and the file has {size}"
            )
        headers = _headers(_exactly("its header", file, length))
        _check_tiles(headers, size - 8 - length)
        check(headers)
        arrays = {}
        for name, header in headers.items():
            file.seek(8 + length + header.start)
            arrays[name] = _array(name, file, header)
        return arrays


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a file that `read` and the package safetensors read; it exists whole or not at all.

    Args:
      path: the file, which is replaced if it exists.
      arrays: name → array.

    Raises:
      ValueError: an array is of a type that `DTYPES` has not, or a name is one that `read` refuses.

    Example:
        >>> from pathlib import Path
        >>> from groundwork.numerics import safetensors
        >>> file = Path("mask.safetensors")
        >>> safetensors.write(file, {"fc.mask": np.array([True, False])})
        >>> safetensors.read(file)["fc.mask"].tolist()
        [True, False]
        >>> safetensors.write(file, {"fc.phase": np.array([1j])})
        Traceback (most recent call last):
        ValueError: fc.phase is of complex128, which a file of safetensors has not
    """
    codes = {dtype: code for code, dtype in DTYPES.items()}
    entries: dict[str, Any] = {}
    parts, end = [], 0
    by_width = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    for name in by_width:  # the widest first, so that each begins at a multiple of its width
        array = np.asarray(arrays[name])
        native = array.dtype.newbyteorder("=")
        if native not in codes:
            raise ValueError(f"{name} is of {array.dtype}, which a file of safetensors has not")
        _check_name(name)
        start, end = end, end + array.nbytes
        entries[name] = {
            "dtype": codes[native], "shape": list(array.shape), "data_offsets": [start, end],
        }  # fmt: skip
        parts.append(_little(array).tobytes())
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays begin at a multiple of 8
    if len(text) > LONGEST:
        raise ValueError(f"{len(arrays)} arrays are too many: the header would not be read")
    atomic.write(path, b"".join([len(text).to_bytes(8, "little"), text, *parts]))


def _headers(text: bytes) -> dict[str, Header]:
    if not text.startswith(b"{"):
        raise ValueError("it is no file of safetensors: its header is no JSON object")
    try:
        found = json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    except ValueError as error:  # of UTF-8, of JSON, or of ours
        raise ValueError(f"its header is not readable: {str(error)[:200]}") from None
    metadata = found.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError(f"its {_METADATA} is no table of texts")
    return {_check_name(name): _header(name, entry) for name, entry in found.items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _check_name(name: str) -> str:
    if not name or not name.isprintable() or len(name) > _NAME or name == _METADATA:
        raise ValueError(f"one of its arrays has the name {name[:50]!a}")
    return name


def _header(name: str, entry: Any) -> Header:
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        raise ValueError(f"{name} has not just a dtype, a shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise ValueError(f"{name} has the type {str(code)[:20]!a}, which is not read here")
    if not _are_sizes(shape) or len(shape) > _AXES:
        raise ValueError(f"{name} has a shape that is none")
    if math.prod(max(length, 1) for length in shape) > _ENTRIES:
        raise ValueError(f"{name} has a shape that no memory holds")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name} has data_offsets that are none")
    dtype, (start, end) = DTYPES[code], offsets
    size = math.prod(shape) * dtype.itemsize
    if end - start != size:
        raise ValueError(
            f"{name} is damaged: its shape and type need {size} bytes, and it lies from {start} to "
            f"{end}"
        )
    return Header(tuple(shape), dtype, start, end)


def _are_sizes(value: Any) -> bool:
    """Returns whether it is a list of integers, none of them negative or absurd."""
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 2**63 for one in value)


def _check_tiles(headers: Mapping[str, Header], size: int) -> None:
    """Refuses arrays that overlap, leave a gap, or do not end where the file ends."""
    spans = sorted((header.start, header.end, name) for name, header in headers.items())
    for (_, before, _), (start, _, name) in itertools.pairwise([(0, 0, ""), *spans]):
        if start != before:
            kind = "overlaps the array" if start < before else "leaves a gap to what is"
            raise ValueError(f"it is damaged: {name} {kind} before it")
    end = spans[-1][1] if spans else 0
    if end != size:
        raise ValueError(
            f"it is cut off, or damaged: its arrays need {end} bytes, and it has {size}"
        )


def _array(name: str, file: io.FileIO, header: Header) -> np.ndarray:
    flat = np.empty(math.prod(header.shape), header.dtype)
    view = flat.view(np.uint8).data
    for start in range(0, len(view), _PART):
        part = view[start : start + _PART]
        if file.readinto(part) != len(part):
            raise ValueError(f"{name} is cut off")
    if header.dtype.kind == "b" and flat.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"{name} has truth values that are neither 0 nor 1")
    return _little(flat).reshape(header.shape)


def _little(array: np.ndarray) -> np.ndarray:
    """Returns an array with the lowest byte first as one of the machine's order, or back."""
    native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    return native if np.little_endian else native.byteswap()


def _exactly(name: str, file: io.FileIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise ValueError(f"it is cut off within {name}")
    return content
