"""Damaged PNG files of a folder: the pixels that were written, or one line."""

import io

import numpy as np
from PIL import Image

from groundwork.data import images
from tests.fuzz import mutations
from tests.fuzz.cases import generators

SHAPES = {"L": (6, 5), "RGB": (6, 5, 3), "RGBA": (6, 5, 4)}


def test_a_changed_image_is_read_as_it_was_or_refused_in_one_line(tmp_path):
    read_well = 0
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
    for case, rng in enumerate(generators(200)):
        mode = list(SHAPES)[case % 3]
        picture = Image.fromarray(rng.integers(0, 256, SHAPES[mode], np.uint8))
        honest = io.BytesIO()
        picture.save(honest, "PNG")
        content = mutations.changed(honest.getvalue(), rng)
        if case // 3 % 2:
            content = mutations.field(honest.getvalue(), rng, (b"IHDR", b"IDAT", b"IEND"), 16)
        (tmp_path / "train/cat/a.png").write_bytes(content)
        (tmp_path / "test/cat/a.png").write_bytes(honest.getvalue())
        found = mutations.read_or_refused(
            lambda folder: images.read_folder("mine", str(folder), {}, 0), tmp_path
        )
        if found is not None:
            expected = np.asarray(picture.convert("L" if mode == "L" else "RGB"))
            np.testing.assert_array_equal(found.train[0], expected.reshape(1, 6, 5, -1))
            read_well += 1
    assert read_well
