"""Xception's block against numpy."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import build
from groundwork.architectures.compact.xception import Block
from groundwork.errors import UserError
from tests.groundwork.architectures import references
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly

IMAGES = np.random.default_rng(3).normal(size=(2, 5, 7, 6))


class Alone(nn.Module):
    """A block in evaluation, as a network."""

    arguments: tuple

    @nn.compact
    def __call__(self, x):
        return Block(*self.arguments, jnp.float32, name="block")(x, train=False)


def pooled(x):
    """The largest of 3×3, strides 2."""
    edges = [(0, 0), (1, 1), (1, 1), (0, 0)]
    x = np.pad(x, edges, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    return windows[:, ::2, ::2].max((-2, -1))


def block(tree, x, strides, activated):
    params = tree["params"]["block"]
    norm = references.Evaluated(params, tree["batch_stats"]["block"])
    y = x
    for number in (1, 2):
        y = references.relu(y) if number > 1 or activated else y
        kernel = {"kernel": params[f"depthwise{number}"]["kernel"], "bias": 0}
        y = references.convolve(params[f"pointwise{number}"], references.depthwise(kernel, y))
        y = norm(f"bn{number}", y)
    y = y if strides == 1 else pooled(y)
    if "shortcut" in params:
        x = norm("shortcut_bn", references.convolve(params["shortcut"], x, strides=strides))
    return x + y


@pytest.mark.parametrize(
    ("channels", "strides", "activated"), [((4, 8), 2, False), ((6, 6), 1, True)]
)
def test_a_block_equals_numpy(channels, strides, activated):
    module = Alone((channels, strides, activated))
    tree = drawn_by_numpy(module, IMAGES.shape[1:])
    expected = block(tree, IMAGES, strides, activated)
    found = quickly(module.apply)(as_float32(tree), as_float32(IMAGES))
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())


def test_a_wrong_rate_is_refused():
    with pytest.raises(UserError, match=r"dropout=-1 must be at least 0 and less than 1"):
        build({"name": "xception", "dropout": -1}, 10)
