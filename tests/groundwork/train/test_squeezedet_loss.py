"""The loss `squeezedet` of a config: its settings, and what its judge says."""

import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import detection
from groundwork.errors import UserError
from groundwork.report import judged
from groundwork.train import judging, losses
from groundwork.train.losses import LOSSES

TRUTHS = np.full((2, 2, 5), -1.0, np.float32)
TRUTHS[0, 0] = [16, 16, 10, 12, 1]


def test_sums_are_those_of_valid_images_and_the_parts():
    outputs = np.random.default_rng(0).normal(size=(2, 4 * 4 * 2, 7)).astype("f4")
    settings = {"image": (32, 32), "shapes": ((8, 9), (12, 14)), "box": 2.0}
    loss = LOSSES["squeezedet"](**settings)
    counts = loss.count(jnp.asarray(outputs), jnp.asarray(TRUTHS), jnp.asarray([True, False]))
    grid = detection.Grid(height=32, width=32, stride=8, shapes=((8, 9), (12, 14)))
    parts = detection.losses(
        jnp.asarray(outputs),
        jnp.asarray(TRUTHS),
        jnp.asarray(grid.anchors),
        detection.Weights(box=2.0),
    )
    assert int(counts.examples) == 1
    np.testing.assert_allclose(counts.loss, sum(part[0] for part in parts[:4]), rtol=1e-5)
    np.testing.assert_allclose(counts.measures["object_accuracy"], parts.right[0])


def test_a_split_without_objects_has_no_precision():
    judge = LOSSES["squeezedet"]().judge
    found = {
        "boxes": np.array([[[16, 16, 10, 12]], [[5, 5, 4, 4]]], np.float32),
        "scores": np.array([[0.9], [0.0]], np.float32),
        "classes": np.ones((2, 1), int),
    }
    assert judge.score(found, TRUTHS) == {"mean_average_precision": 1.0}
    assert judge.score(found, np.full_like(TRUTHS, -1)) == {}


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"grid": "kiti"}, "unknown loss_kwargs: grid 'kiti'; did you mean 'kitti'"),
        ({"image": (30, 32)}, "loss_kwargs: images of 30×32 have no whole cells of 8"),
        ({"box": -1.0}, "loss_kwargs: box=-1.0 must be at least 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, match):
    with pytest.raises(UserError, match=match):
        losses.squeezedet(**settings)


def test_anchors_of_another_network_are_refused():
    with pytest.raises(UserError, match="the network has 7 anchors and the loss 192"):
        losses.squeezedet().count(jnp.zeros((2, 7, 8)), jnp.asarray(TRUTHS), jnp.ones(2, bool))


def test_a_table_has_a_column_for_what_a_judge_says():
    rows = (["network"], [["one"], ["two"]])
    said = {"mean_average_precision": {"test": [0.5, 0.7]}}
    header, lines = judged.beside(rows, [said, {}])
    assert header == ["network", "mean average precision"]
    assert lines[0][1].startswith("0.6000±")
    assert lines[1] == ["two", ""]
    assert judged.beside(rows, [{}, {}]) == rows
    untested = {"mean_average_precision": {"validation": [0.5]}}  # no object among test examples
    assert judged.beside(rows, [said, untested])[1][1] == ["two", ""]
    assert not judging.Judged({judging.JUDGED: untested}).words
