"""StudentNet beyond what the tables over all models ask of it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import count, shapes
from groundwork.architectures.compact.student_net import StudentNet
from groundwork.architectures.cpu import convolution
from groundwork.errors import UserError
from groundwork.traced.macs import multiply_adds
from tests.groundwork.architectures.references import Evaluated, closed_form, convolve, student_net
from tests.groundwork.architectures.small import as_float32, quickly

FULL = (16, 32, 64, 128, 256, 256, 256, 256)


@pytest.mark.parametrize(
    ("options", "hidden"),
    [
        ({}, FULL),
        ({"base": 4}, [channels // 4 for channels in FULL]),
        ({"width_mult": 0.95}, (16, 32, 64, 121, 243, 243, 243, 256)),  # 121.6, 243.2
        ({"width_mult": 1e-3}, (16, 32, 64, 1, 1, 1, 1, 256)),
        ({"width": 0.5, "width_mult": 0.5}, (8, 16, 32, 32, 64, 64, 64, 128)),
    ],
)
def test_channels_are_the_sources(options, hidden):
    found = shapes(StudentNet(classes=11, **options), (32, 32, 3))["params"]
    assert count(found) == closed_form("student_net", hidden, classes=11)
    widths = [found[f"pointwise{block}"]["bias"].size for block in range(2, 9)]
    assert [found["conv1"]["bias"].size, *widths] == list(hidden)


def test_the_count_is_the_published_one():
    assert count(shapes(StudentNet(classes=11), (32, 32, 3))["params"]) == 256_779
    grey = shapes(StudentNet(classes=11), (28, 28, 1))["params"]
    assert count(grey) == 256_779 - 2 * 9 * 16


# Outputs a side × side, kernels: the first convolution sees the image, blocks 2 to 4 half as
# much as the one before (rounded down), the rest what is left.
@pytest.mark.parametrize(
    ("shape", "sides"),
    [((32, 32, 3), (32, 16, 8, 4, 2, 2, 2, 2)), ((28, 28, 1), (28, 14, 7, 3, 1, 1, 1, 1))],
)
def test_shapes_and_multiply_adds_are_those_by_hand(shape, sides):
    model = StudentNet(classes=11)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = shapes(model, shape)
    assert jax.eval_shape(model.apply, variables, images).shape == (2, 11)
    expected = sides[0] ** 2 * 9 * shape[-1] * 16 + 256 * 11
    for side, inputs, outputs in zip(sides[1:], FULL, FULL[1:], strict=False):
        expected += side**2 * (9 * inputs + inputs * outputs)
    assert multiply_adds(model.apply, variables, images) == 2 * expected


def test_images_of_which_nothing_would_be_left_are_refused():
    assert shapes(StudentNet(classes=11), (16, 16, 1))
    with pytest.raises(UserError, match="too small for its pooling layers"):
        shapes(StudentNet(classes=11), (15, 15, 1))


@pytest.fixture(scope="module")
def small():
    """Model, variables drawn by numpy, images of odd sizes."""
    model, rng = StudentNet(classes=11, base=4, width_mult=0.6), np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "var":
            return rng.uniform(0.1, 0.5, leaf.shape)
        return rng.normal(size=leaf.shape) / math.prod(leaf.shape[:-1]) ** 0.5

    found = jax.tree_util.tree_map_with_path(draw, shapes(model, (28, 28, 1)))
    return model, found, 2 * rng.normal(size=(3, 28, 28, 1))


def test_logits_are_those_of_numpy_and_of_relu_6(small):
    model, tree, images = small
    norm = Evaluated(tree["params"], tree["batch_stats"])
    expected = student_net("student_net", tree["params"], images, norm)
    found = quickly(model.apply)(as_float32(tree), as_float32(images))
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    # some activations are above 6, so that this saw more than a ReLU
    first = norm("bn1", convolve(tree["params"]["conv1"], images, padding=1))
    assert (first > 6).any()


def test_depthwise_convolutions_are_onednns_where_it_is_built(small):
    if not convolution.available():
        pytest.skip("oneDNN is not built")
    model, tree, images = small

    def loss(params, images):
        return model.apply({**as_float32(tree), "params": params}, images).sum()

    params, images = as_float32(tree["params"]), as_float32(images)
    lowered = jax.jit(jax.grad(loss)).lower(params, images).as_text()
    assert "stablehlo.convolution" not in lowered
