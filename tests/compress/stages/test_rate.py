"""What errors count by, and weights that move with their values from round to round."""

import dataclasses

import numpy as np
import pytest

from compress.stages import quantize, rate
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from tests.compress.small import dense


def test_importance_is_the_mean_square_of_single_examples_gradients(pipeline):
    """By hand, of the last layer: hidden units times what softmax misses of the labels."""
    own = pipeline(stages=("quantize",))
    before = dense(own)
    found = rate.importance(own, before, ["output/kernel"])["output/kernel"]
    inputs, labels = data_lib.first_examples(own.context.dataset, rate.SEEN)
    for r in range(2):
        hidden = np.asarray(inputs, np.float64).reshape(len(labels), -1)
        layers = {
            name: (layer["kernel"][r], layer["bias"][r])
            for name, layer in before.variables["params"].items()
        }
        for name in ("fc1", "fc2"):
            hidden = np.maximum(hidden @ layers[name][0] + layers[name][1], 0)
        logits = hidden @ layers["output"][0] + layers["output"][1]
        missed = np.exp(logits - logits.max(1, keepdims=True))
        missed /= missed.sum(1, keepdims=True)
        missed[np.arange(len(labels)), np.asarray(labels)] -= 1
        expected = np.square(hidden[:, :, None] * missed[:, None]).mean(0)
        np.testing.assert_allclose(found[r], expected, rtol=2e-3, atol=1e-5 * expected.max())


def test_weights_move_as_the_mean_of_those_that_share_a_value():
    """Two stacked kernels by hand; zeros stay where they were."""
    weights = np.float32([[1, 3, 5, -1], [1, 3, 5, -1]])
    values = np.float32([[2.5, 2.5, 0, -2], [2.5, 4, 4, 0]])
    moved = rate._moved(weights, values, 1)
    np.testing.assert_allclose(moved, [[1.5, 3.5, 5, -2], [2.5, 3, 5, -1]])


def test_each_round_is_a_network_and_the_last_one_has_the_name(pipeline):
    section = pipeline(stages=("quantize",)).spec.sections["quantize"]
    changed = dataclasses.replace(section, bits=(3,), rate=0.1, rate_rounds=3)
    steps = quantize.steps(changed)
    assert [(step.name, step.after, step.continues) for step in steps] == [
        ("quantize-3-round-1", "", False),
        ("quantize-3-round-2", "quantize-3-round-1", False),
        ("quantize-3", "quantize-3-round-2", True),
    ]
    for other in ({"rate": 0.0}, {"fine_tune": False}):
        assert len(quantize.steps(dataclasses.replace(changed, **other))) == 1
    with pytest.raises(UserError, match=r"^quantize.rate_rounds=0 must be at least 1$"):
        dataclasses.replace(section, rate_rounds=0)
