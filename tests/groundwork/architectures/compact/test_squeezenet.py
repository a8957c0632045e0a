"""SqueezeNet: its layer table by hand, its values by numpy, and torchvision's logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import count, shapes
from groundwork.architectures.compact import squeezenet
from groundwork.architectures.compact.squeezenet import (
    Fire,
    SqueezeNet10,
    SqueezeNet10Small,
    SqueezeNet11,
    SqueezeNet11Small,
)
from groundwork.errors import UserError
from groundwork.traced.macs import multiply_adds
from tests.groundwork.architectures.references import convolve, relu
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly

# arXiv:1602.07360, Table 1: depth 2 of the fire modules as s1x1, e1x1 (= e3x3)
TABLE = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]


def by_hand(side, stem, pooled, classes, bypass="none"):
    """Parameters and multiply-adds of square images, layer by layer; sides are Caffe's."""
    channels, size, strides, padding = stem
    side = (side + 2 * padding - size) // strides + 1
    parameters = size**2 * 3 * channels + channels
    operations = side**2 * size**2 * 3 * channels
    for place in range(1, 10):
        if place > 1:
            squeeze, expand = TABLE[place - 2]
            weights = channels * squeeze + squeeze * expand + 9 * squeeze * expand
            parameters += weights + squeeze + 2 * expand
            operations += side**2 * weights
            if bypass == "complex" and place % 2 == 0:
                parameters += channels * 2 * expand + 2 * expand
                operations += side**2 * channels * 2 * expand
            channels = 2 * expand
        if place in pooled:
            side = -(-(side - 3) // 2) + 1
    return parameters + (channels + 1) * classes, operations + side**2 * channels * classes


ONE, OTHER = (96, 7, 2, 0), (64, 3, 2, 0)
COUNTS = [
    (SqueezeNet10, "none", 227, ONE, (1, 4, 8), 1000, 1_248_424),
    (SqueezeNet10, "complex", 224, ONE, (1, 4, 8), 1000, 1_589_672),
    (SqueezeNet11, "simple", 224, OTHER, (1, 3, 5), 1000, 1_235_496),
    (SqueezeNet10Small, "none", 32, (96, 3, 1, 1), (1, 4, 8), 10, 729_034),
    (SqueezeNet11Small, "none", 28, (64, 3, 1, 1), (1, 3, 5), 10, 727_626),
]


@pytest.mark.parametrize(
    ("kind", "bypass", "side", "stem", "pooled", "classes", "published"), COUNTS
)
def test_counts_are_those_of_the_table(kind, bypass, side, stem, pooled, classes, published):
    model, shape = kind(classes, bypass=bypass), (side, side, 3)
    variables = shapes(model, shape)
    parameters, operations = by_hand(side, stem, pooled, classes, bypass)
    assert count(variables["params"]) == parameters == published
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    assert multiply_adds(model.apply, variables, images) == operations


def test_operations_are_torchvisions_and_version_1_1_has_2_4_times_fewer():
    first = by_hand(224, ONE, (1, 4, 8), 1000)[1]
    second = by_hand(224, OTHER, (1, 3, 5), 1000)[1]
    assert (round(first / 1e9, 2), round(second / 1e9, 2)) == (0.82, 0.35)
    assert round(first / second, 1) == 2.3  # 2.4, says the repository, of an unnamed image size


def test_a_fire_module_has_the_counts_that_it_says():
    module, inputs = Fire(squeeze=3, expand=5), jax.ShapeDtypeStruct((1, 7, 6, 4), jnp.float32)
    variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x), inputs)
    assert count(variables) == (4 + 1) * 3 + (3 + 1) * 5 + (9 * 3 + 1) * 5
    assert multiply_adds(module.apply, variables, inputs) == 7 * 6 * (4 * 3 + 10 * 3 * 5)


@pytest.fixture(scope="module")
def narrow():
    """A model at an eighth of the width, variables drawn by numpy, images of odd sizes."""
    model = SqueezeNet10Small(5, width=0.125, bypass="complex")
    shape = (27, 30, 3)
    variables = drawn_by_numpy(model, shape)
    images = np.random.default_rng(0).normal(size=(2, *shape))
    return model, variables, images


def pooled(x):
    """The largest of 3×3 entries, stride 2; a window that would begin within may end beyond."""
    rows, columns = (-(-(size - 3) // 2) + 1 for size in x.shape[1:3])
    windows = [
        [x[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].max((1, 2)) for c in range(columns)]
        for r in range(rows)
    ]
    return np.stack([np.stack(row, 1) for row in windows], 1)


def fire(params, x):
    squeezed = relu(convolve(params["squeeze"], x))
    expanded = (convolve(params["expand1x1"], squeezed), convolve(params["expand3x3"], squeezed, 1))
    return relu(np.concatenate(expanded, -1))


def test_values_with_complex_bypass_are_those_of_numpy(narrow):
    model, variables, images = narrow
    p = variables["params"]
    x = pooled(relu(convolve(p["conv1"], images, 1)))
    for number in range(2, 10):
        around = convolve(p[f"bypass{number}"], x) if number % 2 == 0 else x
        x = fire(p[f"fire{number}"], x) + around
        x = pooled(x) if number in (4, 8) else x
    expected = relu(convolve(p["conv10"], x)).mean((1, 2))
    assert expected.std() > 0.01
    found = quickly(model.apply)(as_float32(variables), as_float32(images))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("sides", [(2, 3), (5, 8)])
def test_pooling_is_that_of_each_window(sides):
    x = np.random.default_rng(1).normal(size=(2, *sides, 3)).astype("f4")
    np.testing.assert_array_equal(squeezenet.overlapping_max_pool(jnp.asarray(x)), pooled(x))


def test_half_of_the_last_inputs_are_dropped_in_training_alone():
    """With ones as the last inputs and kernel, logits are twice the number that is kept."""
    model = SqueezeNet11Small(1, width=0.02)
    images = jnp.ones((64, 8, 8, 1))
    drawn = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full(leaf.shape, float(_is_one(path, leaf))), drawn
    )
    dropped = functools.partial(model.apply, train=True, rngs={"dropout": jax.random.key(1)})
    kept, whole = (np.asarray(quickly(f)(variables, images)) for f in (dropped, model.apply))
    inputs = drawn["params"]["conv10"]["kernel"].shape[2]
    np.testing.assert_allclose(whole, inputs)
    assert set(np.unique(kept)) <= {2.0 * n for n in range(inputs + 1)}
    assert abs(kept.mean() / inputs - 1) < 4 / np.sqrt(64 * inputs)
    assert 0.5 < kept.std() / np.sqrt(inputs) < 1.5


def _is_one(path, leaf):
    """Whether a variable is 1, so that the last layer's inputs are: the biases and its kernel."""
    names = [part.key for part in path]
    return names[-2:] == ["conv10", "kernel"] or (
        names[-1] == "bias" and "expand" in names[-2] and names[-3] == "fire9"
    )


def test_wrong_settings_are_refused_in_one_line():
    with pytest.raises(UserError, match="bypass='both' must be one of none, simple, complex"):
        shapes(SqueezeNet10(10, bypass="both"), (224, 224, 3))
    with pytest.raises(UserError, match="too small for its pooling layers"):
        shapes(SqueezeNet11Small(10), (2, 2, 3))


@pytest.mark.parametrize(("kind", "name"), [(SqueezeNet10, "1_0"), (SqueezeNet11, "1_1")])
def test_logits_are_torchvisions(kind, name):
    torch = pytest.importorskip("torch")
    operators = torch.library.Library("torchvision", "FRAGMENT")  # which it expects to be compiled
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            operators.define(f"{operator}(Tensor d, Tensor s, float t) -> Tensor")
    models = pytest.importorskip("torchvision").models
    theirs = getattr(models, f"squeezenet{name}")(weights=None).eval()
    params, features = {}, iter(theirs.features)

    def leaves(conv):
        kernel, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
        return {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}

    params["conv1"] = leaves(next(features))
    fires = [module for module in features if hasattr(module, "squeeze")]
    for number, module in enumerate(fires, 2):
        parts = ("squeeze", "expand1x1", "expand3x3")
        params[f"fire{number}"] = {part: leaves(getattr(module, part)) for part in parts}
    params["conv10"] = leaves(theirs.classifier[1])
    images = np.random.default_rng(0).normal(size=(2, 66, 75, 3)).astype("f4")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    found = quickly(kind(1000).apply)({"params": params}, images)
    np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())
