"""Exact bytes for the numbers of one dtype. Read `pack` first."""

# N numbers

import jax.numpy as jnp
import numpy as np

from compress.archive import entries
from compress.coding import fields, huffman

_NARROW = ("float16", "bfloat16", "float32")


def pack(values: np.ndarray) -> bytes:
    """Returns the bytes of [N] numbers of one dtype, place by place, the highest byte first.

    Each place has its number of bytes (LEB128), and then the N bytes as they are, or fewer from
    `huffman.encode`. Signs and exponents are alike among numbers, and take 3 or 4 bits.
    """
    parts = []
    places = np.frombuffer(to_bytes(values), np.uint8).reshape(-1, values.dtype.itemsize)
    for place in places.T[::-1]:
        coded = huffman.encode(place)
        shorter = coded if len(coded) < place.size else place.tobytes()
        parts.append(fields.number(len(shorter)) + shorter)
    return b"".join(parts)


def unpack(stream: bytes | memoryview, count: int, dtype: str) -> np.ndarray:
    """Returns the [count] numbers of a stream. The caller bounds the count.

    Raises:
      ValueError: `pack` cannot have given the stream, or a number is not finite.
    """
    view, at, places = memoryview(stream), 0, []
    for _ in range(jnp.dtype(dtype).itemsize):
        length, at = fields.read_number(view, at)
        part = view[at : at + length]
        at += length
        if len(part) < length or length > count:
            raise ValueError(f"the data end within {count} numbers")
        place = np.frombuffer(part, np.uint8) if length == count else huffman.decode(part, count)
        if place.size != count or place.dtype != np.uint8:
            raise ValueError(f"{place.size} numbers, not {count}")
        places.append(place)
    if at != len(view):
        raise ValueError(f"the data should end with byte {at}, not {len(view)}")
    return read(np.stack(places[::-1], axis=1).tobytes(), dtype)


def read(data: bytes | memoryview, dtype: str) -> np.ndarray:
    """Returns the numbers of their bytes, the lowest byte first.

    Raises:
      ValueError: part of a number is left over, a number is not finite, or a bool is neither 0
        nor 1.
    """
    kind = jnp.dtype(dtype)
    if len(data) % kind.itemsize:
        raise ValueError(f"{len(data)} bytes are not {dtype} numbers")
    unsigned = np.frombuffer(data, f"<u{kind.itemsize}").astype(f"=u{kind.itemsize}")
    if dtype == "bool" and unsigned.size and unsigned.max() > 1:
        raise ValueError("a bool is neither 0 nor 1")
    values = unsigned.view(kind)
    if entries.is_float(dtype) and not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    return values


def narrowest(array: np.ndarray) -> str:
    """Returns the shortest dtype of floats that holds these exactly; empty if it is their own."""
    if not entries.is_float(array.dtype.name):
        return ""
    for name in _NARROW:
        narrow = jnp.dtype(name)
        if narrow.itemsize >= array.dtype.itemsize:
            continue
        with np.errstate(over="ignore", under="ignore"):
            same = array.astype(narrow).astype(array.dtype)
        if np.array_equal(bits(same), bits(array)):
            return name
    return ""


def bits(array: np.ndarray) -> np.ndarray:
    """Returns [N] unsigned integers of the same bits."""
    return np.ascontiguousarray(array).ravel().view(f"u{array.dtype.itemsize}")


def to_bytes(array: np.ndarray) -> bytes:
    """Returns the bytes of an array's numbers, the lowest byte first, for `read`."""
    return bits(array).astype(f"<u{array.dtype.itemsize}").tobytes()
