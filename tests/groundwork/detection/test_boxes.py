import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import detection
from groundwork.detection import Grid
from tests.groundwork.detection import references

RNG = np.random.default_rng(0)


def boxes(*shape):
    centres, sizes = RNG.uniform(0, 20, (*shape, 2)), RNG.uniform(1, 15, (*shape, 2))
    return np.concatenate([centres, sizes], -1).astype("f4")


def test_changes_are_equations_1_and_2_and_undo_each_other():
    anchors, truths = boxes(7), boxes(7)
    changes = detection.changes(jnp.asarray(anchors), jnp.asarray(truths))
    want = [references.moves(a, t) for a, t in zip(anchors, truths, strict=True)]
    np.testing.assert_allclose(changes, want, rtol=1e-4, atol=1e-5)
    again = detection.changed(jnp.asarray(anchors), changes)
    np.testing.assert_allclose(again, truths, rtol=1e-5)
    want = [references.moved(a, c) for a, c in zip(anchors, np.asarray(changes), strict=True)]
    np.testing.assert_allclose(again, want, rtol=1e-5)


def test_no_change_overflows():
    huge = detection.changed(jnp.ones((1, 4)), jnp.full((1, 4), 1e4))
    np.testing.assert_allclose(huge[0, 2:], 1000 / 16)


def test_overlaps_are_those_by_hand():
    square, shifted = [5.0, 5, 4, 4], [7.0, 5, 4, 4]  # half of each: 8 / 24
    corner, beyond, nothing = [9.0, 9, 4, 4], [20.0, 5, 4, 4], [5.0, 5, 0, 0]
    found = detection.overlaps(
        jnp.asarray([[square]]), jnp.asarray([[square, shifted, corner, beyond, nothing]])
    )
    np.testing.assert_allclose(found[0], [1, 1 / 3, 0, 0, 0], rtol=1e-6)
    first, second = boxes(5), boxes(6)
    want = [[references.overlap(a, b) for b in second] for a in first]
    found = detection.overlaps(jnp.asarray(first[:, None]), jnp.asarray(second[None]))
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)


def test_boxes_end_where_the_image_does():
    given = jnp.asarray([[1.0, 2, 6, 2], [9, 9, 2, 20], [30, 3, 2, 2]])
    want = [[2, 2, 4, 2], [9, 5, 2, 10], [12, 3, 0, 2]]  # −2…4 → 0…4; −1…19 → 0…10; outside
    np.testing.assert_allclose(detection.clipped(given, height=10, width=12), want)


def test_anchors_of_kitti_are_the_published_ones():
    anchors = detection.KITTI.anchors
    assert anchors.shape == (16_848, 4) == (24 * 78 * 9, 4)
    np.testing.assert_allclose(anchors[0], [1248 / 79, 384 / 25, 36, 37], rtol=1e-6)
    np.testing.assert_allclose(anchors[8, 2:], [72, 43])
    np.testing.assert_allclose(anchors[9], [2 * 1248 / 79, 384 / 25, 36, 37], rtol=1e-6)
    np.testing.assert_allclose(anchors[-1], [78 * 1248 / 79, 24 * 384 / 25, 72, 43], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"height": 60}, "images of 60×64 have no whole cells of 8 pixels"),
        ({"stride": 0}, "no whole cells"),
        ({"shapes": ()}, "must be pairs"),
        ({"shapes": ((3.0, 0.0),)}, "must be pairs of positive width and height"),
    ],
)
def test_grids_that_do_not_fit_are_refused(changes, match):
    given = {"height": 64, "width": 64, "stride": 8, "shapes": ((3.0, 4.0),), **changes}
    with pytest.raises(ValueError, match=match):
        Grid(**given)
