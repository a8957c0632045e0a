"""SqueezeNet beyond its counts and torchvision's logits: bypasses, pooling and dropout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import build, count, shapes
from groundwork.architectures.compact import squeezenet
from groundwork.architectures.compact.squeezenet import (
    Fire,
    SqueezeNet10Small,
    SqueezeNet11Small,
)
from groundwork.errors import UserError
from groundwork.traced.macs import multiply_adds
from tests.groundwork.architectures.references import convolve, relu
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly


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
    expected = relu(convolve(p["output"], x)).mean((1, 2))
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
    inputs = drawn["params"]["output"]["kernel"].shape[2]
    np.testing.assert_allclose(whole, inputs)
    assert set(np.unique(kept)) <= {2.0 * n for n in range(inputs + 1)}
    assert abs(kept.mean() / inputs - 1) < 4 / np.sqrt(64 * inputs)
    assert 0.5 < kept.std() / np.sqrt(inputs) < 1.5


def _is_one(path, leaf):
    """Whether a variable is 1, so that the last layer's inputs are: the biases and its kernel."""
    names = [part.key for part in path]
    return names[-2:] == ["output", "kernel"] or (
        names[-1] == "bias" and "expand" in names[-2] and names[-3] == "fire9"
    )


def test_wrong_settings_are_refused_in_one_line():
    with pytest.raises(UserError, match="bypass='both' must be one of none, simple, complex"):
        build({"name": "squeezenet_1_0", "bypass": "both"}, 10)
    with pytest.raises(UserError, match="too small for its pooling layers"):
        shapes(SqueezeNet11Small(10), (2, 2, 3))
