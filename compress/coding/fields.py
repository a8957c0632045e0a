"""Bytes for numbers: for one of any size, and for many of one width."""

# N numbers

import numpy as np


def number(value: int) -> bytes:
    """Returns LEB128: 7 bits per byte, the lowest first, the highest bit set if a byte follows."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def read_number(data: memoryview, at: int) -> tuple[int, int]:
    """Returns the LEB128 number, below 2^63, that begins at this byte; and the byte after it.

    Raises:
      ValueError: the data end within the number, it has more than 9 bytes, or a needless last byte
        of 0.
    """
    value = 0
    for place in range(9):
        if at + place >= len(data):
            raise ValueError(f"the data end within a number, after {len(data)} bytes")
        byte = data[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            if place and not byte:
                raise ValueError(f"the number at byte {at} ends in a byte of 0")
            return value, at + place + 1
    raise ValueError(f"the number at byte {at} is longer than 9 bytes")


def numbers(values: np.ndarray) -> bytes:
    """Returns the bytes of [N] integers, N ≥ 1, 0 ≤ values < 2^32.

    They are the least one as `number`, a byte w, and N times w bits. These hold the excess over the
    least one, the highest bit first. Zeros fill the last byte.
    """
    least = int(values.min())
    width = int(values.max() - least).bit_length()
    parts = (values - least).astype(">u4").view(np.uint8).reshape(-1, 4)
    bits = np.unpackbits(parts, axis=1)[:, 32 - width :]
    return number(least) + bytes([width]) + np.packbits(bits).tobytes()


def read_numbers(data: memoryview, at: int, count: int) -> tuple[np.ndarray, int]:
    """Returns the [N] int64 that begin at this byte, and the byte after them.

    Raises:
      ValueError: the data end early, the width is above 32, the least number is 2^32 or more, or
        the filling has bits that are not 0.
    """
    least, at = read_number(data, at)
    width = data[at] if at < len(data) else 0
    end = at + 1 + (count * width + 7) // 8
    if width > 32 or least >> 32:
        raise ValueError(f"numbers from {least} on of {width} bits: at most 2^32 and 32")
    if at >= len(data) or end > len(data):
        raise ValueError(f"the data end within {count} numbers, after {len(data)} bytes")
    bits = np.unpackbits(np.frombuffer(data[at + 1 : end], np.uint8))
    if bits[count * width :].any():
        raise ValueError(f"bits after {count} numbers are not 0")
    powers = 1 << np.arange(width - 1, -1, -1, dtype=np.int64)
    return least + bits[: count * width].reshape(count, width) @ powers, end
