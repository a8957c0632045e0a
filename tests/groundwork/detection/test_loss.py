import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import detection
from groundwork.detection import Grid, Weights
from tests.groundwork.detection import references

GRID = Grid(height=24, width=32, stride=8, shapes=((6.0, 9.0), (12.0, 10.0)))
ANCHORS = GRID.anchors  # [24, 4]
CLASSES = 3


@pytest.fixture(scope="module")
def drawn():
    """Outputs, and the truths of images of three, one and no objects."""
    rng = np.random.default_rng(3)
    outputs = rng.normal(size=(3, len(ANCHORS), 5 + CLASSES)).astype("f4")
    truths = np.full((3, 3, 5), -1.0, np.float32)
    truths[0, :2] = [12, 12, 10, 9, 2]  # two alike: the second takes another anchor
    truths[0, 2] = [40, 30, 4, 4, 0]  # overlaps no anchor: it lies outside
    truths[1, 1] = [20, 9, 7, 12, 1]
    outputs[1, :, :4] *= 0.1  # so that the box of the second image overlaps its object
    outputs[1, references.chosen(ANCHORS, truths[1])[1], 5:] = [0, 4, 0]
    return outputs, truths


@functools.partial(jax.jit, static_argnums=2)
def jitted(outputs, truths, weights=None):
    return detection.losses(outputs, truths, jnp.asarray(ANCHORS), weights)


def test_each_object_has_an_anchor_of_its_own(drawn):
    _, truths = drawn
    found = jax.jit(jax.vmap(lambda t: detection.responsible(jnp.asarray(ANCHORS), t)))(truths)
    want = [references.chosen(ANCHORS, image) for image in truths]
    np.testing.assert_array_equal(found, want)
    assert len(set(want[0])) == 3
    np.testing.assert_array_equal(want[1], [-1, want[1][1], -1])
    np.testing.assert_array_equal(want[2], [-1, -1, -1])


def test_the_loss_is_equation_3(drawn):
    outputs, truths = drawn
    parts = jitted(outputs, truths)
    want = [references.loss(o, t, ANCHORS) for o, t in zip(outputs, truths, strict=True)]
    np.testing.assert_allclose(sum(parts[:4]), [loss for loss, _ in want], rtol=1e-4)
    np.testing.assert_allclose(parts.right, [right for _, right in want])
    assert not np.any([part[2] for part in (parts.box, parts.positive, parts.classes)])


def test_weights_are_those_of_the_parts(drawn):
    published, doubled = jitted(*drawn), jitted(*drawn, Weights(box=10.0, positive=0, negative=50))
    for part, factor in (("box", 2), ("positive", 0), ("negative", 0.5), ("classes", 1)):
        want = factor * np.asarray(getattr(published, part))
        np.testing.assert_allclose(getattr(doubled, part), want, rtol=1e-6)


def test_a_perfect_answer_has_no_loss_and_is_right(drawn):
    _, truths = drawn
    outputs = np.zeros((3, len(ANCHORS), 5 + CLASSES), np.float32)
    outputs[..., 4] = -40
    for image, places in enumerate(references.chosen(ANCHORS, t) for t in truths):
        for place, truth in zip(places, truths[image], strict=True):
            if place >= 0:
                outputs[image, place, :4] = references.moves(ANCHORS[place], truth)
                outputs[image, place, 4] = outputs[image, place, 5 + int(truth[4])] = 40
    parts = jitted(outputs, truths)
    np.testing.assert_allclose(sum(parts[:4]), 0, atol=1e-4)
    np.testing.assert_array_equal(parts.right, 1)


def test_no_gradient_goes_through_the_overlap(drawn):
    """Of a responsible anchor's changes, it is that of the squares: 2 · λ / N · (δ − δᴳ)."""
    outputs, truths = (jnp.asarray(array[1:2]) for array in drawn)
    gradient = jax.jit(jax.grad(lambda o: jnp.sum(sum(jitted(o, truths)[:4]))))(outputs)
    place = references.chosen(ANCHORS, truths[0])[1]
    box = references.moved(ANCHORS[place], np.asarray(outputs[0, place, :4]))
    assert 0.1 < references.overlap(box, truths[0, 1]) < 0.9
    off = outputs[0, place, :4] - references.moves(ANCHORS[place], truths[0, 1])
    np.testing.assert_allclose(gradient[0, place, :4], 10 * off, rtol=1e-4)
    assert np.count_nonzero(np.any(gradient[0, :, :4] != 0, -1)) == 1
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("outputs", "truths", "match"),
    [
        ((2, 24, 8), (2, 5), r"targets must be \[B, M, 5\]"),
        ((2, 10), (2, 3, 5), "as squeezedet's are"),
        ((2, 12, 8), (2, 3, 5), "the network has 12 anchors and the loss 24"),
        ((2, 24, 8), (2, 30, 5), "30 objects are more than 24 anchors"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(outputs, truths, match):
    with pytest.raises(ValueError, match=match):
        detection.losses(jnp.zeros(outputs), jnp.zeros(truths), jnp.asarray(ANCHORS))
    with pytest.raises(ValueError, match="negative=-1 must be at least 0"):
        Weights(negative=-1)
