"""Damaged and forged IDX files: what their bytes say, or one line; and little memory."""

import gzip
import math
import struct
import tracemalloc

import numpy as np

from groundwork.data import idx, readers
from tests.fuzz import mutations
from tests.fuzz.cases import generators

RNG = np.random.default_rng(0)
ARRAYS = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (12, 5, 4), np.uint8),
    "train-labels-idx1-ubyte": RNG.integers(0, 10, 12).astype(">i4"),
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (7, 5, 4), np.uint8),
    "t10k-labels-idx1-ubyte": RNG.integers(0, 10, 7, np.uint8),
}
TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
BYTES = {"u1": 8, ">i4": 12}


def idx_bytes(array):
    kind = BYTES[array.dtype.str.lstrip("|")]
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return head + array.tobytes()


def plainly(content):
    """The array of the bytes, read whole and without any check but NumPy's own."""
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    start, dtype = 4 + 4 * content[3], np.dtype(TYPES[content[2]])
    assert content[:2] == b"\0\0"
    assert len(content) == start + math.prod(shape) * dtype.itemsize
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def in_header(content, rng):
    """Another number in the header alone."""
    changed = mutations.changed(content[:16], rng)
    return changed[: int(rng.choice([8, 16, 16, 16, 99]))] + content[16:]


def changed(content, rng, kind):
    """A file that is damaged, forged, or packed after it was damaged."""
    if kind == 0:
        return mutations.changed(content, rng)
    if kind == 1:
        return in_header(content, rng)
    packed = gzip.compress(content)
    if kind == 2:
        return mutations.changed(packed, rng)
    if kind == 3:
        return gzip.compress(in_header(content, rng))
    return packed + mutations.changed(packed, rng)


def test_a_changed_file_is_read_as_its_bytes_say_or_refused_in_one_line(tmp_path):
    read_well = 0
    for stem, array in ARRAYS.items():
        (tmp_path / stem).write_bytes(idx_bytes(array))
    tracemalloc.start()
    try:
        for case, rng in enumerate(generators(300)):
            stem = list(ARRAYS)[case % 4]
            content = changed(idx_bytes(ARRAYS[stem]), rng, case // 4 % 5)
            (tmp_path / stem).write_bytes(content)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            found = mutations.read_or_refused(
                lambda folder: readers.read_idx("mnist", str(folder)), tmp_path
            )
            assert tracemalloc.get_traced_memory()[1] - before < idx.FREE + 2**20, case
            if found is not None:
                check(dict(zip(ARRAYS, [*found[0], *found[1]], strict=True)), stem, content)
                read_well += 1
            (tmp_path / stem).write_bytes(idx_bytes(ARRAYS[stem]))
    finally:
        tracemalloc.stop()
    assert read_well


def check(found, changed, content):
    for stem, array in ARRAYS.items():
        wanted = plainly(content) if stem == changed else array
        if "images" in stem and wanted.ndim == 3:
            wanted = wanted[..., None]
        mutations.assert_equal({"": found[stem]}, {"": wanted})
