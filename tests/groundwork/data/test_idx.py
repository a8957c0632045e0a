"""IDX files: read back exactly, or refused in one line that names the file."""

import gzip
import os
import re
import struct
import tracemalloc

import numpy as np
import pytest

from groundwork.data import dataset as data_lib
from groundwork.data import readers
from groundwork.errors import UserError
from tests.groundwork.data.reading import refused

STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
IMAGES, LABELS = STEMS["train"]
NAMES = {
    "plain": lambda stem: stem,
    "gzipped": lambda stem: stem + ".gz",
    "dotted": lambda stem: stem.replace("-idx", ".idx"),
    "dotted and gzipped": lambda stem: stem.replace("-idx", ".idx") + ".gz",
}


SECTION = {
    "source": "idx",
    "split_seed": 0,
    "validation_examples": 0,
    "standardize": True,
}
TYPES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array):
    """The IDX form of an array, as yann.lecun.com/exdb/mnist describes it."""
    kind, shape = TYPES[array.dtype.str[1:]], array.shape
    head = struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def arrays():
    """Four arrays, stem → uint8; height, width and the two lengths all differ."""
    rng = np.random.default_rng(0)
    found = {}
    for split, n in (("train", 20), ("test", 11)):
        images, labels = STEMS[split]
        found[images] = rng.integers(0, 256, (n, 5, 4), np.uint8)
        found[labels] = rng.permutation(np.arange(n, dtype=np.uint8) % 10)
    return found


@pytest.fixture
def folder(tmp_path, arrays):
    for stem, array in arrays.items():
        (tmp_path / stem).write_bytes(idx_bytes(array))
    return tmp_path


@pytest.mark.parametrize("kind", NAMES)
def test_idx_files_are_read_back_exactly(tmp_path, arrays, kind):
    for stem, array in arrays.items():
        path = tmp_path / NAMES[kind](stem)
        content = idx_bytes(array)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    *splits, classes = readers.read_idx("mnist", str(tmp_path))
    assert classes == 10
    for (images, labels), stems in zip(splits, STEMS.values(), strict=True):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, arrays[stems[0]][..., None])
        np.testing.assert_array_equal(labels, arrays[stems[1]])


def test_a_gzipped_file_may_lack_its_ending(folder, arrays):
    (folder / IMAGES).write_bytes(gzip.compress(idx_bytes(arrays[IMAGES])))
    (images, _), _, _ = readers.read_idx("mnist", str(folder))
    np.testing.assert_array_equal(images[..., 0], arrays[IMAGES])


def test_a_custom_set_has_as_many_classes_as_its_train_labels(folder):
    labels = np.arange(20, dtype=np.uint8) % 7
    (folder / LABELS).write_bytes(idx_bytes(labels))
    (folder / STEMS["test"][1]).write_bytes(idx_bytes(labels[:11]))
    assert data_lib.load({**SECTION, "name": "custom", "dir": str(folder)}).classes == 7


@pytest.mark.parametrize("stem", [stem for stems in STEMS.values() for stem in stems])
def test_a_missing_idx_file_is_named_with_how_to_get_it(folder, stem):
    (folder / stem).unlink()
    said = refused(folder, "fashion_mnist")
    assert str(folder / stem) in said
    assert "apt-get install dataset-fashion-mnist" in said
    assert "--config.data.dir=/usr/share/datasets/fashion-mnist" in said
    assert "pip install -r requirements-tfds.txt" in said
    assert "--config.data.source=tfds" in said


def test_no_folder_says_that_data_dir_is_needed():
    said = refused("", "fashion_mnist")
    assert "data.dir" in said
    assert "apt-get install dataset-fashion-mnist" in said


@pytest.mark.parametrize("name", ["mnist", "kmnist", "custom"])
def test_fashion_mnists_package_is_not_offered_for_other_sets(tmp_path, name):
    assert "dataset-fashion-mnist" not in refused(tmp_path, name)


def test_an_unknown_idx_name_suggests_the_near_one_and_lists_all(folder):
    said = refused(folder, "fashon_mnist")
    assert "did you mean 'fashion_mnist'?" in said
    assert "custom, fashion_mnist, kmnist, mnist" in said


WHOLE = 16 + 20 * 5 * 4


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 15, 16, 17, WHOLE // 2, WHOLE - 1])
def test_a_truncated_idx_file_is_refused(folder, arrays, length):
    content = idx_bytes(arrays[IMAGES])
    assert len(content) == WHOLE
    (folder / IMAGES).write_bytes(content[:length])
    said = refused(folder)
    assert str(folder / IMAGES) in said
    if length >= 16:
        assert f"expected {WHOLE} bytes" in said
        assert f"got {length}" in said


@pytest.mark.parametrize("length", [2, 9, 10, 11, 100, -9, -8, -1])
def test_a_truncated_gzip_is_refused(folder, arrays, length):
    (folder / IMAGES).unlink()
    path = folder / (IMAGES + ".gz")
    path.write_bytes(gzip.compress(idx_bytes(arrays[IMAGES]))[:length])
    said = refused(folder)
    assert str(path) in said
    assert "truncated" in said


def test_a_gzip_with_a_flipped_bit_is_refused(folder, arrays):
    content = gzip.compress(idx_bytes(arrays[IMAGES]))
    for place in (30, len(content) // 2, len(content) - 7):
        flipped = bytearray(content)
        flipped[place] ^= 4
        (folder / IMAGES).write_bytes(flipped)
        assert str(folder / IMAGES) in refused(folder)


def test_rubbish_behind_a_gzip_header_is_refused(folder):
    header = gzip.compress(b"")[:10]
    (folder / IMAGES).write_bytes(header + b"\xff" * 100)
    said = refused(folder)
    assert str(folder / IMAGES) in said
    assert "damaged" in said


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_file_that_is_too_long_is_refused(folder, arrays, compress):
    (folder / IMAGES).write_bytes(compress(idx_bytes(arrays[IMAGES]) + b"x"))
    said = refused(folder)
    assert str(folder / IMAGES) in said
    assert f"expected {WHOLE} bytes" in said


@pytest.mark.parametrize(
    "magic",
    [b"\0\0\x08\x01", b"\0\0\x0c\x03", b"\1\0\x08\x03", b"\x03\x08\0\0", b"PK\3\4", b"<htm"],
    ids=["labels", "int32", "no zeros", "little-endian", "zip", "html"],
)
def test_another_magic_number_is_refused(folder, arrays, magic):
    (folder / IMAGES).write_bytes(magic + idx_bytes(arrays[IMAGES])[4:])
    said = refused(folder)
    assert str(folder / IMAGES) in said
    assert "00000803" in said
    assert magic.hex() in said


def test_random_bytes_are_refused(folder):
    rng = np.random.default_rng(1)
    for length in (1, 5, 16, 100, 10_000):
        (folder / IMAGES).write_bytes(rng.bytes(length))
        assert str(folder / IMAGES) in refused(folder)


@pytest.mark.parametrize(
    "sizes",
    [(2**32 - 1,) * 3, (2**31, 2**31, 4), (2**32 - 1, 1, 1)],
    ids=["all ones", "product is 0 modulo 2**64", "one huge"],
)
def test_a_header_with_absurd_sizes_is_refused(folder, sizes):
    (folder / IMAGES).write_bytes(struct.pack(">BBBB3I", 0, 0, 8, 3, *sizes))
    assert str(folder / IMAGES) in refused(folder)


@pytest.mark.parametrize("name", ["mnist", "custom"])
@pytest.mark.parametrize("split", STEMS)
def test_a_split_without_examples_is_refused(folder, name, split):
    images, labels = STEMS[split]
    (folder / images).write_bytes(idx_bytes(np.zeros((0, 5, 4), np.uint8)))
    (folder / labels).write_bytes(idx_bytes(np.zeros(0, np.uint8)))
    with pytest.raises(UserError, match="there is no pixel in it"):
        data_lib.load({**SECTION, "name": name, "dir": str(folder)})


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "i4"])
def test_labels_are_integers_of_any_size(folder, arrays, kind):
    labels = arrays[LABELS].astype(kind)
    (folder / LABELS).write_bytes(idx_bytes(labels))
    found = data_lib.load({**SECTION, "name": "custom", "dir": str(folder)})
    np.testing.assert_array_equal(found.train.labels, arrays[LABELS])
    if kind != "u1":
        labels[3] = -1
        (folder / LABELS).write_bytes(idx_bytes(labels))
        with pytest.raises(
            UserError, match=r"label -1 of example 3 of train of custom in .* is out of range"
        ):
            data_lib.load({**SECTION, "name": "custom", "dir": str(folder)})


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_images_of_floats_are_taken_as_they_are(folder, arrays, kind):
    for images, _ in STEMS.values():
        (folder / images).write_bytes(idx_bytes((arrays[images] / 7).astype(kind)))
    found = data_lib.load({**SECTION, "name": "mnist", "dir": str(folder), "standardize": False})
    expected = (arrays[IMAGES] / 7).astype(np.float32)
    np.testing.assert_array_equal(data_lib.first_examples(found, 20)[0][..., 0], expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_colour_have_their_channels_last(folder, arrays, channels):
    for images, _ in STEMS.values():
        (folder / images).unlink()
        colour = np.stack([arrays[images] // (c + 1) for c in range(channels)], -1)
        (folder / images.replace("idx3", "idx4")).write_bytes(idx_bytes(colour))
        arrays[images] = colour
    (found, _), _, _ = readers.read_idx("mnist", str(folder))
    np.testing.assert_array_equal(found, arrays[IMAGES])


@pytest.mark.parametrize(
    ("stem", "array", "said"),
    [
        (IMAGES, np.zeros((20, 5, 4), "i2"), "of int16 nothing says which number is white"),
        (IMAGES, np.zeros((20, 3, 5, 4), "u1")[..., :1].repeat(5, 3), "at most 4 channels along"),
        (IMAGES, np.zeros((20, 20), "u1"), r"must have \[N, height, width\] .*got 00000802"),
        (IMAGES, np.zeros((), "u1"), "got 00000800"),
        (IMAGES, np.zeros((20, 5, 3), "u1"), r"has images of shape \(5, 3\), but .* of \(5, 4\)"),
        (IMAGES, np.zeros((20, 0, 4), "u1"), r"\(20, 0, 4\): there is no pixel"),
        (IMAGES, np.zeros((19, 5, 4), "u1"), "has 19 images, but .* has 20 labels"),
        (LABELS, np.zeros((20, 2), "i4"), "one number for each image.*got 00000c02"),
        (LABELS, np.zeros(20, "f4"), "must have integers, since they are classes"),
        (LABELS, np.zeros(21, "u1"), "has 20 images, but .* has 21 labels"),
    ],
)
def test_other_numbers_and_shapes_are_refused_with_the_reason(folder, stem, array, said):
    (folder / stem).write_bytes(idx_bytes(array))
    assert re.search(said, refused(folder))


def test_several_gzips_in_a_row_are_one_file(folder, arrays):
    content = idx_bytes(arrays[IMAGES])
    parts = [gzip.compress(content[:30]), gzip.compress(content[30:]), gzip.compress(b"")]
    (folder / IMAGES).write_bytes(b"".join(parts))
    (images, _), _, _ = readers.read_idx("mnist", str(folder))
    np.testing.assert_array_equal(images[..., 0], arrays[IMAGES])
    (folder / IMAGES).write_bytes(b"".join(parts) + b"more")
    assert "truncated or damaged" in refused(folder)
    (folder / IMAGES).write_bytes(b"".join([*parts, gzip.compress(b"more")]))
    assert f"expected {WHOLE} bytes" in refused(folder)


def test_what_is_no_file_is_refused_and_two_names_are_not_chosen_between(folder, arrays):
    other = folder / IMAGES.replace("idx3", "idx4")
    other.write_bytes(b"")
    assert refused(folder).endswith(f"{other} are both there: keep the one that is meant")
    other.unlink()
    (folder / IMAGES).unlink()
    os.mkfifo(folder / IMAGES)
    assert refused(folder) == f"{folder / IMAGES} is no file"
    (folder / IMAGES).unlink()
    (folder / IMAGES).mkdir()
    assert refused(folder) == f"{folder / IMAGES} is no file"


@pytest.mark.parametrize("sizes", [(4096, 100, 100), (20, 5, 4)], ids=["claimed", "hidden"])
def test_a_gzip_inflates_no_further_than_its_header_says(folder, sizes):
    head = struct.pack(">BBBB3I", 0, 0, 8, 3, *sizes)
    (folder / IMAGES).write_bytes(gzip.compress(head + bytes(4096 * 100 * 100), 1))
    (folder / LABELS).write_bytes(idx_bytes(np.zeros(sizes[0], np.uint8)))
    tracemalloc.start()
    said = refused(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert ("gunzip it first" if sizes[0] == 4096 else f"expected {WHOLE} bytes") in said
