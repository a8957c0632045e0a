"""What is detected, and how precisely, beside numpy written from the sources."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import detection
from groundwork.detection import Detections, Grid, precision
from tests.groundwork.detection import references

GRID = Grid(height=24, width=32, stride=8, shapes=((6.0, 9.0), (12.0, 10.0)))
CLASSES = 3


@pytest.fixture(scope="module")
def found():
    """Outputs of four images, and what is detected in them."""
    outputs = np.random.default_rng(5).normal(size=(4, 24, 5 + CLASSES)).astype("f4")
    outputs[..., :4] *= 0.3
    outputs[1, 3, 4] = np.nan
    detect = jax.jit(
        functools.partial(detection.detections, grid=GRID, most=16, least_score=0.2, overlap=0.3)
    )
    return outputs, jax.tree.map(np.asarray, detect(outputs))


def by_hand(outputs):
    """(score, box, class) of an image, by the paper's words."""
    chances = np.exp(outputs[:, 5:]) / np.exp(outputs[:, 5:]).sum(-1, keepdims=True)
    scores = chances.max(-1) / (1 + np.exp(-outputs[:, 4].astype(float)))
    usable = [place for place in range(len(outputs)) if scores[place] >= 0.2]
    order = sorted(usable, key=lambda place: -scores[place])[:16]
    boxes = []
    for place in order:
        x, y, w, h = references.moved(GRID.anchors[place], outputs[place, :4])
        left, right = np.clip([x - w / 2, x + w / 2], 0, 32)
        above, below = np.clip([y - h / 2, y + h / 2], 0, 24)
        middle = [(left + right) / 2, (above + below) / 2]
        boxes.append([*middle, right - left, below - above])
    classes = [int(np.argmax(outputs[place, 5:])) for place in order]
    hidden = references.suppressed(boxes, [scores[place] for place in order], classes, 0.3)
    rows = zip([scores[place] for place in order], boxes, classes, strict=True)
    return [row for place, row in enumerate(rows) if place not in hidden], len(hidden)


def test_detections_are_the_likeliest_without_those_that_are_hidden(found):
    outputs, detected = found
    assert [leaf.shape for leaf in detected] == [(4, 16, 4), (4, 16), (4, 16)]
    gone = 0
    for image in range(4):
        want, hidden = by_hand(outputs[image])
        gone += hidden
        count = len(want)
        assert np.count_nonzero(detected.scores[image]) == count > 0
        scores, boxes, classes = zip(*want, strict=True)
        np.testing.assert_allclose(detected.scores[image, :count], scores, rtol=1e-5)
        np.testing.assert_allclose(detected.boxes[image, :count], boxes, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(detected.classes[image, :count], classes)
    assert gone > 3


def test_what_is_hidden_hides_nothing_itself():
    """Of three boxes in a row the second overlaps both; the third overlaps the second alone."""
    boxes = jnp.asarray([[5.0, 5, 10, 4], [9, 5, 10, 4], [13, 5, 10, 4], [13, 5, 10, 4]])
    kept = detection.found.not_suppressed(
        boxes, jnp.asarray([0.9, 0.8, 0.7, 0.6]), jnp.asarray([1, 1, 1, 0]), 0.4
    )
    np.testing.assert_array_equal(kept, [True, False, True, True])  # the last of another class


def test_average_precision_is_the_area_of_its_definition(found):
    _, detected = found
    rng = np.random.default_rng(1)
    truths = np.full((4, 4, 5), -1.0, np.float32)
    for image in range(4):
        places = rng.permutation(np.count_nonzero(detected.scores[image]))[:3]
        for row, place in enumerate(places):  # near what was detected, some of another class
            near = detected.boxes[image, place] * rng.uniform(0.85, 1.15, 4)
            label = detected.classes[image, place] if row else rng.integers(2)
            truths[image, row] = [*near, label]
    truths[truths[..., 4] == 2] = [0, 0, 0, 0, -1]  # the last class has no object
    listed = [
        (image, detected.scores[image, k], detected.boxes[image, k], detected.classes[image, k])
        for image in range(4)
        for k in range(16)
        if detected.scores[image, k] > 0
    ]
    want = [references.average_precision(listed, truths, c) for c in range(CLASSES)]
    assert want[2] is None
    assert all(0.05 < ap < 0.95 for ap in want[:2])
    got = detection.average_precisions(detected, truths, CLASSES)
    assert got[2] is None
    np.testing.assert_allclose(got[:2], want[:2], rtol=1e-6)
    mean = detection.mean_average_precision(detected, truths, CLASSES)
    np.testing.assert_allclose(mean, np.mean(want[:2]), rtol=1e-6)


def test_precision_by_hand():
    """Right, wrong, right, wrong of 3 objects: 1/3 · 1 + 1/3 · 2/3; none; all."""
    np.testing.assert_allclose(precision.area([True, False, True, False], 3), 5 / 9)
    # the second precision, 1/2, counts as the third's 2/3
    np.testing.assert_allclose(precision.area([False, True, True], 2), 2 / 3)
    assert precision.area([], 3) == 0
    assert precision.area([True, True], 2) == 1


def test_an_object_is_found_once_and_only_in_its_image():
    truths = np.array([[[5, 5, 4, 4, 0]], [[5, 5, 4, 4, 0]]], np.float32)
    boxes = np.tile(np.float32([5, 5, 4, 4]), (2, 2, 1))
    scores = np.float32([[0.9, 0.8], [0.0, 0.0]])
    twice = Detections(boxes, scores, np.zeros((2, 2), int))
    assert detection.mean_average_precision(twice, truths, 3) == 0.5  # 1 of 2, then a false alarm
    swapped = twice._replace(scores=np.float32([[0.9, 0.0], [0.8, 0.0]]))
    assert detection.mean_average_precision(swapped, truths, 3) == 1
    with pytest.raises(ValueError, match="no object"):
        detection.mean_average_precision(twice, np.full((2, 1, 5), -1.0), 3)
