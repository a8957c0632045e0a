import numpy as np
import pytest
from PIL import Image

from groundwork.data import canvases, dataset, readers
from groundwork.errors import UserError

SECTION = {"name": "canvases", "source": "digit_canvases"}
KWARGS = {"examples": 30, "test_examples": 12, "objects": 3, "seed": 5}


@pytest.fixture(scope="module")
def loaded():
    return dataset.load({**SECTION, "image_size": 48, "kwargs": KWARGS, "validation_examples": 6})


def corners(row):
    x, y, width, height, _ = row
    return (np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])).astype(int)


def test_canvases_have_shapes_classes_and_one_to_three_digits(loaded):
    assert loaded.examples == {"train": 24, "validation": 6, "test": 12}
    assert loaded.classes == 10
    assert loaded.shape == (48, 48, 1)
    assert loaded.train.inputs.dtype == np.uint8
    assert loaded.target.shape == (1, 3, 5)
    there = loaded.train.labels[..., 4] >= 0
    assert set(there.sum(1)) == {1, 2, 3}
    assert not loaded.train.labels[~there][:, :4].any()
    assert set(loaded.train.labels[there][:, 4]) <= set(range(10))


def test_boxes_hold_the_ink_alone_and_hardly_meet(loaded):
    for image, rows in zip(loaded.train.inputs, loaded.train.labels, strict=True):
        boxes = [corners(row) for row in rows if row[4] >= 0]
        inside = np.zeros(image.shape[:2], bool)
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= 48
            assert 0 <= top < bottom <= 48
            ink = image[top:bottom, left:right, 0] >= canvases.INK
            for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
                assert edge.any()
            shared = inside[top:bottom, left:right].mean()
            assert shared <= 2 * canvases.TOUCHING
            inside[top:bottom, left:right] = True
        assert image[~inside].max() < canvases.INK


def test_each_digit_is_one_of_its_class_and_split():
    """Where a box's ink is brighter than noise, it is that of a scaled digit, bit for bit."""
    splits = readers.read_digits("digits", "")[:2]
    kwargs = {"examples": 3, "test_examples": 3, "objects": 1}
    given = canvases.read_canvases("", "", kwargs, 0)
    for made, (digits, labels) in zip((given.train, given.test), splits, strict=True):
        for image, (row,) in zip(*made, strict=True):
            left, top, right, bottom = corners(row)
            part = image[top:bottom, left:right, 0]
            own = digits[labels == row[4], :, :, 0]
            assert any(shown(digit, size, part) for digit in own for size in range(13, 30))


def shown(digit, size, part):
    scaled = np.asarray(Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC))
    rows, columns = (np.flatnonzero((scaled >= canvases.INK).any(axis)) for axis in (1, 0))
    cut = scaled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return (
        cut.shape == part.shape
        and (np.maximum(cut, canvases.NOISE) == np.maximum(part, canvases.NOISE)).all()
    )


def test_equal_seeds_give_equal_canvases():
    first, again, other = (
        canvases.read_canvases("", "", {**KWARGS, "seed": seed}, 32) for seed in (5, 5, 6)
    )
    for one, two in zip(first.train + first.test, again.train + again.test, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first.train[0] != other.train[0]).any()
    assert (first.train[0][:12] != first.test[0]).any()


@pytest.mark.parametrize(
    ("kwargs", "size", "match"),
    [
        ({"examples": 0}, 0, "examples=0 must be an integer from 1"),
        ({"objects": 2.0}, 0, "objects=2.0 must be an integer from 1"),
        ({"digits": 3}, 0, "source 'digit_canvases' has no 'digits'"),
        ({}, 16, "data.image_size=16 must be at least 32"),
        ({"examples": 10**12}, 0, "data.kwargs of digit_canvases"),
    ],
)
def test_settings_out_of_range_are_refused(kwargs, size, match):
    with pytest.raises(UserError, match=match):
        canvases.read_canvases("", "", kwargs, size)
