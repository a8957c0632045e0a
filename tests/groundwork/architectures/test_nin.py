"""Network in Network beside numpy, and its pooling, whose last window reaches over the edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import build, shapes
from groundwork.architectures.nin import NIN, Stage, _pooled
from groundwork.errors import UserError
from tests.groundwork.architectures.references import convolve, relu
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly

KINDS = {"max": np.max, "average": np.mean}
STAGES = (
    Stage((4, 5, 3), 5, padding=2, pool="max", dropped=True),
    Stage((6, 4, 4), 3, strides=2, padding=1, pool="average", dropped=True),
    Stage((5, 4, 0), 3, padding=1),
)


def pooled(x, kind):
    """Caffe's: windows of 3×3 begin at every other pixel until one ends at the edge or beyond."""
    starts = [range(0, side - 1, 2) for side in x.shape[1:3]]
    windows = [[x[:, i : i + 3, j : j + 3] for j in starts[1]] for i in starts[0]]
    return np.stack([np.stack([KINDS[kind](w, (1, 2)) for w in row], 1) for row in windows], 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sides", [(16, 7), (3, 4)])
def test_pooling_is_caffes(kind, sides):
    x = np.random.default_rng(0).normal(size=(2, *sides, 3))
    found = _pooled(jnp.asarray(x, jnp.float32), kind)
    expected = pooled(x, kind)
    assert expected.shape[1:3] == tuple(-(-(side - 3) // 2) + 1 for side in sides)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def tiny():
    """A module, its variables and images, float64."""
    module = NIN(7, stages=STAGES)
    images = np.random.default_rng(1).normal(size=(2, 18, 18, 3))
    return module, drawn_by_numpy(module, images.shape[1:]), images


def test_logits_are_those_of_numpy(tiny):
    module, tree, x = tiny
    params, found = tree["params"], quickly(module.apply)(*as_float32((tree, x)))
    for number, stage in enumerate(STAGES, 1):
        x = convolve(params[f"conv{number}"], x, stage.padding, stage.strides)
        x = relu(convolve(params[f"pointwise{number}_1"], relu(x)))
        last = f"pointwise{number}_2" if number < len(STAGES) else "output"
        x = relu(convolve(params[last], x))
        x = pooled(x, stage.pool) if stage.pool else x
    expected = x.mean((1, 2))
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_the_form_for_32_pixels_is_the_papers():
    module = build({"name": "nin_small", "width": 0.25}, 10)
    found = shapes(module, (32, 32, 3))["params"]
    assert found["pointwise1_2"]["kernel"].shape == (1, 1, 40, 24)
    assert found["output"]["kernel"].shape == (1, 1, 48, 10)
    with pytest.raises(UserError, match="too small"):
        shapes(module, (4, 4, 3))


def test_half_of_the_outputs_are_dropped_in_training_alone(tiny):
    module, *drawn = tiny
    tree, images = as_float32(drawn)
    step = quickly(lambda key: module.apply(tree, images, train=True, rngs={"dropout": key}))
    first, again, other = (step(jax.random.key(key)) for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
