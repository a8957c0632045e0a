"""Changes of a file's bytes such as disks, networks and attackers make."""

import re

import numpy as np

from groundwork.errors import UserError

NUMBERS = (0, 1, 2, 7, 8, 12, 14, 0x7F, 0xFF, 0x800, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)


def changed(content, rng):
    """One to three changes of the bytes; the result may be what it was."""
    for _ in range(rng.integers(1, 4)):
        content = KINDS[rng.integers(len(KINDS))](content, rng)
    return content


def _span(content, rng):
    start = int(rng.integers(len(content) + 1))
    return start, start + int(rng.choice([1, 2, 4, 16, 100, len(content)]))


def _flip(content, rng):
    if not content:
        return content
    flipped = bytearray(content)
    flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return bytes(flipped)


def _cut(content, rng):
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def _insert(content, rng):
    start, end = _span(content, rng)
    return content[:start] + rng.bytes(min(end - start, 100)) + content[start:]


def _repeat(content, rng):
    start, end = _span(content, rng)
    return content[:end] + content[start:]


def _swap(content, rng):
    a, b, c = sorted(int(place) for place in rng.integers(len(content) + 1, size=3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def _set(content, rng):
    """Another number in one, two or four bytes, with the lowest or the highest first."""
    width, number = int(rng.choice([1, 2, 4])), int(rng.choice(NUMBERS))
    order = "little" if rng.random() < 0.5 else "big"
    start = int(rng.integers(max(1, len(content) - width)))
    number = (number % 2 ** (8 * width)).to_bytes(width, order)
    return content[:start] + number + content[start + width :]


KINDS = (_flip, _cut, _insert, _repeat, _swap, _set)


def field(content, rng, signatures, length):
    """Another number in one of the `length` bytes that follow one of the signatures."""
    pattern = b"|".join(re.escape(signature) for signature in signatures)
    places = [found.start() for found in re.finditer(pattern, content)]
    start = int(rng.choice(places)) + len(signatures[0]) + int(rng.integers(length))
    width, number = int(rng.choice([1, 2, 4])), int(rng.choice(NUMBERS))
    number = (number % 2 ** (8 * width)).to_bytes(width, "little")
    return content[:start] + number + content[start + width :]


def read_or_refused(read, path):
    """What is read; None where it is refused in one line that names the file."""
    try:
        return read(path)
    except UserError as error:
        said = str(error)
    assert said.isprintable(), said
    assert str(path) in said
    return None


def assert_equal(found, wanted):
    """Equal names, dtypes (but for the order of bytes), shapes and values."""
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype.newbyteorder("="), name
        assert found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array)
