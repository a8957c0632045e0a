import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from groundwork.data import augment


def image_of(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def coded(height, width):
    """Each pixel says where it was: row, column, 255."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 255)], -1).astype(np.uint8)


def rngs(count):
    return (np.random.default_rng(seed) for seed in range(count))


def p_value(counts):
    return stats.chisquare(counts).pvalue


# all of them


SIZES = {"none": (0, 7, 24), "crop_flip": (0, 7, 24), "resized_crop": (7, 24)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "size"), [(k, s) for k in augment.AUGMENTS for s in SIZES[k]])
def test_bytes_go_in_and_come_out_in_the_shape_that_was_asked_for(kind, channels, size):
    image = image_of(13, 17, channels)
    before = image.copy()
    shape = (size, size, channels) if size else image.shape
    for rng in rngs(5):
        made = augment.training(image, rng, kind, size)
        assert (made.shape, made.dtype) == (shape, np.uint8)
    made = augment.evaluation(image, kind, size)
    assert (made.shape, made.dtype) == (shape, np.uint8)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", augment.AUGMENTS)
def test_the_same_generator_gives_the_same_bits_and_another_gives_others(kind):
    image = image_of(20, 20)
    first, again = ([augment.training(image, r, kind, 16) for r in rngs(8)] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len({made.tobytes() for made in first}) == (1 if kind == "none" else 8)


def test_without_augmentation_and_size_an_image_is_left_as_it_is():
    image = image_of(5, 9)
    for made in (
        augment.training(image, np.random.default_rng(0), "none", 0),
        augment.evaluation(image, "none", 0),
        augment.evaluation(image, "crop_flip", 0),
        augment.central_crop(image[:, :5], 5, 5),
    ):
        np.testing.assert_array_equal(made, image[:, : made.shape[1]])


# crop_flip


def window(image, top, left):
    """The plain loop: a window of the image's size, `top` and `left` counted from the padding."""
    made = np.zeros_like(image)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            row, column = top + i - 4, left + j - 4
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                made[i, j] = image[row, column]
    return made


def test_a_padded_crop_is_one_of_81_windows_each_equally_likely():
    image = image_of(6, 7)
    counts = {window(image, top, left).tobytes(): 0 for top in range(9) for left in range(9)}
    assert len(counts) == 81
    for rng in rngs(4000):
        counts[augment.padded_crop(image, rng).tobytes()] += 1
    assert p_value(list(counts.values())) > 1e-3


@pytest.mark.parametrize("kind", ["crop_flip", "resized_crop"])
def test_half_of_the_images_are_mirrored(kind):
    columns = coded(12, 12)
    mirrored = 0
    for rng in rngs(2000):
        row = augment.training(columns, rng, kind, 12)[6, :, 1].astype(int)
        row = row[row > 0]  # without padding
        assert (np.diff(row) >= 0).all() or (np.diff(row) <= 0).all()
        mirrored += row[0] > row[-1]
    assert abs(mirrored - 1000) < 3.3 * math.sqrt(500)


def test_a_mirrored_crop_is_the_window_read_backwards():
    image = image_of(5, 5)
    windows = [window(image, top, left) for top in range(9) for left in range(9)]
    both = {w.tobytes() for w in windows} | {w[:, ::-1].tobytes() for w in windows}
    made = {augment.training(image, rng, "crop_flip", 0).tobytes() for rng in rngs(1500)}
    assert made == both


def test_crop_flip_brings_other_sizes_to_its_own_first():
    made = augment.training(np.full((30, 20, 3), 9, np.uint8), np.random.default_rng(0), "none", 8)
    np.testing.assert_array_equal(made, np.full((8, 8, 3), 9))
    made = augment.training(image_of(30, 20), np.random.default_rng(0), "crop_flip", 8)
    assert made.shape == (8, 8, 3)


# resized_crop


def test_boxes_lie_inside_with_areas_and_ratios_in_their_ranges():
    height, width = 400, 500
    boxes = np.array([augment.random_box(height, width, rng) for rng in rngs(3000)])
    top, left, h, w = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()
    area, ratio = h * w / (height * width), w / h
    rounding = 0.01  # a pixel of the smallest sides, about 100
    assert 0.08 - rounding <= area.min() < 0.1
    assert 0.95 < area.max() <= 1
    assert 0.75 - rounding <= ratio.min() < 0.77
    assert 1.3 < ratio.max() <= 4 / 3 + rounding


def test_small_boxes_of_a_large_image_are_uniform_in_area_log_ratio_and_place():
    """Areas up to a half always fit a square: for them nothing is drawn again."""
    boxes = np.array([augment.random_box(2000, 2000, rng) for rng in rngs(4000)])
    top, left, h, w = boxes[boxes[:, 2] * boxes[:, 3] < 2000**2 / 2].T
    area, log_ratio = h * w / 2000**2, np.log(w / h)
    low, high = np.log(3 / 4), np.log(4 / 3)
    for drawn, start, end in (
        (area, 0.08, 0.5),
        (log_ratio, low, high),
        (top / (2000 - h), 0, 1),
        (left / (2000 - w), 0, 1),
    ):
        assert stats.kstest(drawn, "uniform", (start, end - start)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(10, 1000, (0, 493, 10, 13)), (1000, 9, (494, 0, 12, 9)), (1, 1, (0, 0, 1, 1))],
)
def test_very_long_images_get_the_central_box(height, width, expected):
    assert {augment.random_box(height, width, rng) for rng in rngs(20)} == {expected}


def shrunk(line, size):
    """The plain loop: a line of numbers under the triangle that Pillow's BILINEAR documents."""
    scale = len(line) / size
    made = []
    for i in range(size):
        centre = (i + 0.5) * scale
        weights = [max(0.0, 1 - abs(j + 0.5 - centre) / max(scale, 1)) for j in range(len(line))]
        made.append(np.dot(weights, line) / np.sum(weights))
    return made


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shorter", [5, 8, 24])
def test_scaling_is_the_triangle_filter_in_both_directions(channels, shorter):
    image = image_of(12, 12, channels)
    made = augment.central_crop(image, shorter, shorter)
    expected = np.apply_along_axis(shrunk, 0, image.astype(float), shorter)
    expected = np.apply_along_axis(shrunk, 1, expected, shorter)
    np.testing.assert_allclose(made, expected, atol=1.01)  # rounded after either direction


def resized(line, size, factor):
    """The plain loop: means of `factor` numbers, then straight lines between pixels' centres."""
    means = [np.mean(line[i : i + factor]) for i in range(0, len(line) - factor + 1, factor)]
    centres = (np.arange(size) + 0.5) * len(means) / size - 0.5
    return np.interp(centres, np.arange(len(means)), means)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_resized_crop_shows_its_box_and_nothing_else(channels):
    image, size, factors = image_of(60, 60, channels), 13, set()
    for seed in range(20):
        top, left, h, w = augment.random_box(60, 60, np.random.default_rng(seed))
        out = np.empty((2, size, size, channels), np.uint8)  # as a batch has it
        rng = np.random.default_rng(seed)
        made = augment.training(image, rng, "resized_crop", size, out[1])
        np.testing.assert_array_equal(made, out[1])
        factor = max(min(h, w) // size, 1)
        factors.add(factor)
        expected = image[top : top + h, left : left + w].astype(float)
        for axis in (0, 1):
            expected = np.apply_along_axis(resized, axis, expected, size, factor)
        mirrored = np.abs(made - expected).max() > np.abs(made - expected[:, ::-1]).max()
        np.testing.assert_allclose(made, expected[:, ::-1] if mirrored else expected, atol=1.5)
    assert factors == {1, 2, 3, 4}  # what is averaged is rounded, then what is interpolated


# evaluation


@pytest.mark.parametrize(
    ("height", "width", "size", "top", "left"),
    [(6, 10, 6, 0, 2), (10, 6, 6, 2, 0), (6, 9, 6, 0, 1), (8, 8, 8, 0, 0)],
)
def test_the_centre_is_cut_out(height, width, size, top, left):
    made = augment.evaluation(coded(height, width), "none", size)
    np.testing.assert_array_equal(made, coded(height, width)[top : top + size, left : left + size])


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(256, 300, 16, 38), (341, 256, 58, 16)]
)
def test_imagenets_evaluation_is_224_from_the_middle_of_256(height, width, top, left):
    image = image_of(height, width)
    made = augment.evaluation(image, "resized_crop", 224)
    np.testing.assert_array_equal(made, image[top : top + 224, left : left + 224])


def test_larger_images_are_scaled_to_256_first():
    image = image_of(512, 600)
    scaled = np.asarray(Image.fromarray(image).resize((300, 256), Image.Resampling.BILINEAR))
    made = augment.evaluation(image, "resized_crop", 224)
    np.testing.assert_array_equal(made, scaled[16:240, 38:262])
