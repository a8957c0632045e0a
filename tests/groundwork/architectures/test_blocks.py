"""Building blocks against each other, against numpy, and what they cost."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import blocks, shapes
from groundwork.architectures.blocks import InvertedResidual
from groundwork.traced.macs import multiply_adds
from groundwork.trees import count
from tests.groundwork.architectures import references
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly

OPTIONS = {"name": "conv", "dtype": jnp.float32}
IMAGES = np.random.default_rng(3).normal(size=(2, 5, 7, 6))  # two images, 5×7, C = 6


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def convolved(module, kernel):
    kernel = jnp.asarray(kernel, jnp.float32)
    return module.apply({"params": {"kernel": kernel}}, jnp.asarray(IMAGES, jnp.float32))


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())


class Function(nn.Module):
    """A network of a function that makes its layers in the module that calls it."""

    function: object

    @nn.compact
    def __call__(self, x):
        return self.function(x)


# against each other


@pytest.mark.parametrize("strides", [1, 2])
def test_standard_is_every_window_times_the_kernel(strides):
    kernel = random(3, 3, 6, 4)
    found = convolved(blocks.standard(4, 3, strides=strides, **OPTIONS), kernel)
    expected = references.convolve({"kernel": kernel}, IMAGES, padding=1, strides=strides)
    assert found.shape == (2, -(-5 // strides), -(-7 // strides), 4)
    close(found, expected)


def test_a_group_convolution_of_one_group_is_the_standard_one():
    kernel = random(3, 3, 6, 4)
    found = convolved(blocks.group(4, 3, 1, **OPTIONS), kernel)
    close(found, convolved(blocks.standard(4, 3, **OPTIONS), kernel))


def test_a_group_convolution_is_a_standard_one_of_each_part():
    kernel = random(3, 3, 2, 9)
    found = convolved(blocks.group(9, 3, 3, **OPTIONS), kernel)
    parts = [
        references.convolve(
            {"kernel": kernel[..., 3 * part : 3 * part + 3]},
            IMAGES[..., 2 * part : 2 * part + 2],
            padding=1,
        )
        for part in range(3)
    ]
    close(found, np.concatenate(parts, -1))


def test_a_depthwise_convolution_is_a_group_convolution_of_single_channels():
    kernel = random(3, 3, 1, 6)
    found = convolved(blocks.depthwise(6, 3, **OPTIONS), kernel)
    close(found, convolved(blocks.group(6, 3, 6, **OPTIONS), kernel))
    close(found, references.depthwise({"kernel": kernel, "bias": 0}, IMAGES))


def test_a_pointwise_convolution_is_a_product_at_each_pixel():
    kernel = random(1, 1, 6, 4)
    close(convolved(blocks.pointwise(4, **OPTIONS), kernel), IMAGES @ kernel[0, 0])


@pytest.mark.parametrize("dilation", [2, 3])
def test_a_dilated_convolution_has_zeros_between_its_taps(dilation):
    kernel = random(3, 3, 6, 4)
    size = 2 * dilation + 1
    spread = np.zeros((size, size, 6, 4))
    spread[::dilation, ::dilation] = kernel
    found = convolved(blocks.dilated(4, 3, dilation, **OPTIONS), kernel)
    close(found, references.convolve({"kernel": spread}, IMAGES, padding=dilation))


def test_a_separable_convolution_is_a_standard_one_with_the_product_of_its_kernels():
    each, mixing = random(3, 3, 1, 6), random(1, 1, 6, 4, seed=1)
    function = functools.partial(
        blocks.separable, channels=4, size=3, names=("each", "mixing"), dtype=jnp.float32
    )
    tree = {"each": {"kernel": each}, "mixing": {"kernel": mixing}}
    found = Function(function).apply({"params": as_float32(tree)}, as_float32(IMAGES))
    product = np.einsum("hwic,xyco->hwco", each, mixing)
    close(found, references.convolve({"kernel": product}, IMAGES, padding=1))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_shuffling_by_a_number_of_groups_and_by_the_size_of_one_is_nothing(groups):
    images = as_float32(IMAGES)
    shuffled = blocks.shuffle(images, groups)
    assert bool(jnp.array_equal(shuffled, images)) == (groups in (1, 6))
    np.testing.assert_array_equal(blocks.shuffle(shuffled, 6 // groups), images)


def test_a_shuffle_gives_each_group_a_part_of_every_group():
    numbers = jnp.arange(6).reshape(1, 1, 1, 6)
    assert blocks.shuffle(numbers, 2).ravel().tolist() == [0, 3, 1, 4, 2, 5]


# against numpy


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def excited(params, x, activation):
    means = activation(references.convolve(params["reduce"], x.mean((1, 2), keepdims=True)))
    return x * sigmoid(references.convolve(params["restore"], means))


def test_squeeze_and_excite_equals_numpy():
    function = functools.partial(
        blocks.squeeze_excite, reduced=2, activation=nn.relu, dtype=jnp.float32
    )
    tree = drawn_by_numpy(Function(function), IMAGES.shape[1:])
    found = Function(function).apply(as_float32(tree), as_float32(IMAGES))
    close(found, excited(tree["params"], IMAGES, references.relu))


def inverted(tree, x, expansion, strides, reduced):
    params = tree["params"]
    norm = references.Evaluated(params, tree["batch_stats"])
    inside = x
    if expansion > 1:
        inside = np.clip(norm("expand_bn", references.convolve(params["expand"], x)), 0, 6)
    kernel = {"kernel": params["depthwise"]["kernel"], "bias": 0}
    inside = references.depthwise(kernel, inside)[:, ::strides, ::strides]
    inside = np.clip(norm("depthwise_bn", inside), 0, 6)
    inside = excited(params, inside, lambda x: np.clip(x, 0, 6)) if reduced else inside
    found = norm("project_bn", references.convolve(params["project"], inside))
    return found + x if strides == 1 and found.shape == x.shape else found


@pytest.mark.parametrize(
    ("channels", "strides", "expansion", "reduced"), [(6, 1, 2, 3), (6, 2, 2, 0), (4, 1, 1, 0)]
)
def test_an_inverted_residual_equals_numpy_and_costs_what_it_says(
    channels, strides, expansion, reduced
):
    def block(x):
        kind = InvertedResidual(channels, 3, strides, expansion, jnp.float32, reduced=reduced)
        return kind(x, train=False)

    module = Function(block)
    tree = drawn_by_numpy(module, IMAGES.shape[1:])
    inside = {key: leaves["InvertedResidual_0"] for key, leaves in tree.items()}
    expected = inverted(inside, IMAGES, expansion, strides, reduced)
    close(quickly(module.apply)(as_float32(tree), as_float32(IMAGES)), expected)
    wide, pixels, after = 6 * expansion, 35, expected[0, :, :, 0].size
    parameters = 9 * wide + wide * channels + 2 * wide + 2 * channels
    adds = after * wide * (9 + channels) + 2 * wide * reduced
    if expansion > 1:
        parameters, adds = parameters + 6 * wide + 2 * wide, adds + pixels * 6 * wide
    parameters += (2 * wide * reduced + reduced + wide) if reduced else 0
    assert count(tree["params"]) == parameters
    assert multiply_adds(module.apply, tree, IMAGES[:1].astype(np.float32)) == adds


def test_stochastic_depth_leaves_an_examples_inputs_or_twice_the_rest():
    module = InvertedResidual(6, 3, 1, 1, jnp.float32, drop=0.5)
    tree = drawn_by_numpy(Function(lambda x: module.copy()(x, train=False)), (5, 7, 6))
    inside = {key: as_float32(leaves["InvertedResidual_0"]) for key, leaves in tree.items()}
    images = jnp.asarray(random(16, 5, 7, 6), jnp.float32)

    def trained(module, images):
        rngs = {"dropout": jax.random.key(0)}
        found, _ = module.apply(inside, images, train=True, mutable=["batch_stats"], rngs=rngs)
        return found - images

    def both(images):
        return trained(module, images), trained(module.copy(drop=0.0), images)

    found, rest = (x[0] for x in quickly(jax.vmap(both, axis_name="data"))(images[None]))
    kept = np.array([np.allclose(a, 2 * b, atol=1e-4) for a, b in zip(found, rest, strict=True)])
    dropped = np.array([np.allclose(a, 0, atol=1e-6) for a in found])
    assert np.array_equal(dropped, ~kept)
    assert 0 < kept.sum() < 16


# what they cost


@pytest.mark.parametrize(
    ("function", "parameters", "per_pixel"),
    [
        (lambda x: blocks.standard(4, 3, **OPTIONS)(x), 9 * 6 * 4, 9 * 6 * 4),
        (lambda x: blocks.group(4, 3, 2, **OPTIONS)(x), 9 * 6 * 4 // 2, 9 * 6 * 4 // 2),
        (lambda x: blocks.depthwise(6, 5, **OPTIONS)(x), 25 * 6, 25 * 6),
        (lambda x: blocks.pointwise(4, **OPTIONS)(x), 24, 24),
        (lambda x: blocks.dilated(4, 3, 2, **OPTIONS)(x), 9 * 6 * 4, 9 * 6 * 4),
        (
            lambda x: blocks.separable(x, 4, 3, names=("a", "b"), dtype=jnp.float32),
            9 * 6 + 24,
            9 * 6 + 24,
        ),
        (lambda x: blocks.squeeze_excite(x, 2, nn.relu, jnp.float32), 24 + 2 + 6, 24 / 35),
    ],
)
def test_costs_are_those_of_the_docstrings(function, parameters, per_pixel):
    module = Function(function)
    variables = shapes(module, IMAGES.shape[1:])
    assert count(variables["params"]) == parameters
    image = jax.ShapeDtypeStruct((1, 5, 7, 6), jnp.float32)
    assert multiply_adds(module.apply, variables, image) == round(35 * per_pixel)


def test_dilated_convolutions_see_as_far_as_they_say():
    """One lit pixel, kernels of ones: 1, 2, 4 reach 2⁴ − 1 = 15 pixels each way."""
    image = jnp.zeros((1, 31, 31, 1)).at[0, 15, 15, 0].set(1.0)
    ones = {"params": {"kernel": jnp.ones((3, 3, 1, 1))}}
    for dilation in (1, 2, 4):
        image = blocks.dilated(1, 3, dilation, **OPTIONS).apply(ones, image)
    lit = np.flatnonzero(np.asarray(image[0, 15, :, 0]))
    assert lit.tolist() == list(range(8, 23))
