"""AlexNet's two towers beside numpy; one tower is compared with PyTorch's elsewhere."""

import jax
import numpy as np
import pytest

from groundwork.architectures import build, shapes
from groundwork.errors import UserError
from tests.groundwork.architectures.references import convolve, dense, relu
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly


def towers(leaves, x, padding):
    """Each half of the channels by its own half of the kernels."""
    kernels = np.split(leaves["kernel"], 2, -1)
    halves = zip(kernels, np.split(x, 2, -1), strict=True)
    found = [convolve({"kernel": kernel}, half, padding) for kernel, half in halves]
    return np.concatenate(found, -1) + leaves["bias"]


def pooled(x):
    """The largest of each 3×3 with stride 2, a pixel of nothing around."""
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    rows = [x[:, :, i : x.shape[2] - 2 + i : 2] for i in range(3)]
    x = np.max(rows, 0)
    return np.max([x[:, i : x.shape[1] - 2 + i : 2] for i in range(3)], 0)


def test_two_towers_meet_in_the_third_convolution_alone():
    module = build({"name": "alexnet_small", "towers": 2, "width": 0.04}, 5)
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3))
    tree = drawn_by_numpy(module, x.shape[1:])
    found = quickly(module.apply)(*as_float32((tree, x)))
    p = tree["params"]
    x = pooled(relu(convolve(p["conv1"], x, padding=1)))
    x = pooled(relu(towers(p["conv2"], x, 2)))
    x = relu(towers(p["conv4"], relu(convolve(p["conv3"], x, padding=1)), 1))
    x = pooled(relu(towers(p["conv5"], x, 1))).reshape(2, -1)
    expected = dense(p["output"], relu(dense(p["fc2"], relu(dense(p["fc1"], x)))))
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


def test_three_towers_are_refused():
    with pytest.raises(UserError, match=r"model: towers=3 must be 1 or 2"):
        build({"name": "alexnet", "towers": 3}, 10)


def test_images_that_pooling_leaves_nothing_of_are_refused():
    with pytest.raises(UserError, match="too small"):
        shapes(build({"name": "alexnet"}, 10), (32, 32, 3))


@pytest.mark.parametrize("name", ["alexnet_small", "vgg_16_imagenet_small"])
def test_dropout_is_drawn_in_training_alone(name):
    module = build({"name": name, "width": 0.02}, 10)
    params = as_float32(drawn_by_numpy(module, (32, 32, 3)))
    images = as_float32(np.random.default_rng(0).normal(size=(2, 32, 32, 3)))
    step = quickly(lambda key: module.apply(params, images, train=True, rngs={"dropout": key}))
    first, again, other = (step(jax.random.key(key)) for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_biases_begin_as_in_2012():
    module = build({"name": "alexnet", "width": 0.05}, 3)
    params = quickly(module.init)(jax.random.key(0), np.zeros((1, 64, 64, 3), "f"))["params"]
    ones = {name for name, leaves in params.items() if leaves["bias"].all()}
    assert ones == {"conv2", "conv4", "conv5", "fc1", "fc2"}
    assert abs(params["conv3"]["kernel"].std() - 0.01) < 1e-3
