"""`compress.quantize.gradients`: on the grid, and right on average."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import quantize

KEY = jax.random.key(0)
DRAWS = 20_000
GRADIENT = np.float32([[-2, -0.3, 0, 0.1], [0.5, 1.4, 1.9, 0.02]])


def test_rounding_is_to_a_neighbour_and_unbiased():
    values = np.float32([-1.75, -1, -0.1, 0, 0.25, 3, 7.9])
    drawn = np.asarray(quantize.round_stochastically(KEY, np.tile(values, (DRAWS, 1))))
    assert ((drawn == np.floor(values)) | (drawn == np.ceil(values))).all()
    spread = 0.5 / np.sqrt(DRAWS)
    np.testing.assert_allclose(drawn.mean(0), values, atol=4 * spread)
    assert (drawn[:, 2].std(), drawn[:, 1].std()) > (0.2, 0)
    np.testing.assert_array_equal(drawn[:, [1, 3, 5]], np.tile([-1, 0, 3], (DRAWS, 1)))


def test_a_large_integer_stays_what_it_is():
    """floor(value + drawn) would carry one in 512 of these up."""
    values = np.full(DRAWS, np.float32(65535))
    np.testing.assert_array_equal(quantize.round_stochastically(KEY, values), values)


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("bits", [1, 3])
def test_the_mean_is_the_gradient_and_values_lie_on_the_grid(bits, axis):
    keys = jax.random.split(KEY, DRAWS)
    run = jax.jit(jax.vmap(lambda key: quantize.quantize_gradient(key, GRADIENT, bits, axis)))
    drawn = np.asarray(run(keys))
    most = np.abs(GRADIENT).max() if axis is None else np.abs(GRADIENT).max(1, keepdims=True)
    step = 2 * most / (2**bits - 1)
    steps = (drawn + most) / step
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-5)
    assert np.max(np.abs(drawn - GRADIENT) / step) < 1.0001
    assert len(np.unique(np.round(steps))) == {1: 2, 3: 7}[bits]  # none is near the second of 8
    deviation = np.max(np.abs(drawn.mean(0) - GRADIENT) / step)
    assert deviation < 4.5 * 0.5 / np.sqrt(DRAWS)
    assert (drawn[:, 0, 0] == -2).all()  # the largest stays what it is


def test_zero_stays_zero_where_all_is():
    rounded = quantize.quantize_gradient(KEY, np.zeros((2, 3)), 4, 0)
    np.testing.assert_array_equal(rounded, np.zeros((2, 3)))


def test_the_backward_pass_alone_is_quantised():
    values = np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])

    def loss(values):
        return jnp.sum(GRADIENT * quantize.quantized_backward(KEY, values, 3, 0))

    value, gradient = jax.jit(jax.value_and_grad(loss))(values)
    np.testing.assert_allclose(value, np.sum(GRADIENT * values), rtol=1e-6)
    expected = quantize.quantize_gradient(KEY, GRADIENT, 3, 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    assert not np.allclose(gradient, GRADIENT)
    np.testing.assert_array_equal(quantize.quantized_backward(KEY, values, 3), values)


def test_dtypes():
    for dtype in (jnp.bfloat16, jnp.float32):
        rounded = jax.eval_shape(
            lambda g: quantize.quantize_gradient(KEY, g, 4), jnp.ones((2, 3), dtype)
        )
        assert (rounded.shape, rounded.dtype) == ((2, 3), dtype)


@pytest.mark.parametrize("run", [quantize.quantize_gradient, quantize.quantized_backward])
@pytest.mark.parametrize(
    ("bits", "axis", "message"),
    [
        (0, None, "bits 0 is outside 1…16"),
        (17, None, "bits 17 is outside 1…16"),
        (4, 2, "axis 2 is outside -2…1, the axes of the array"),
    ],
)
def test_bad_input_is_refused_in_one_line(run, bits, axis, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run(KEY, GRADIENT, bits, axis)


def test_a_gradient_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"^1 of 2 entries of the gradient are not finite$"):
        quantize.quantize_gradient(KEY, np.float32([1, np.nan]), 4)
