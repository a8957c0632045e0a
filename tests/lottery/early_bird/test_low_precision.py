"""Rounding against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lottery.early_bird import low_precision

WEIGHTS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


@pytest.mark.parametrize("bits", [2, 8])
def test_weights_are_the_nearest_of_so_many_multiples(bits):
    largest, levels = np.abs(WEIGHTS).max(), 2 ** (bits - 1) - 1
    grid = np.arange(-levels, levels + 1) * largest / levels
    expected = grid[np.abs(WEIGHTS[..., None] - grid).argmin(-1)]

    @jax.jit
    def seen_and_pulled(weights):
        seen, pull = jax.vjp(lambda w: low_precision.rounded({"w": w}, bits)["w"], weights)
        return seen, pull(weights)[0]

    seen, pulled = seen_and_pulled(WEIGHTS)
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    np.testing.assert_array_equal(pulled, WEIGHTS)  # straight through


def test_gradients_are_rounded_up_or_down_and_keep_their_mean():
    optimizer = low_precision.rounded_gradients(3)
    state = optimizer.init({"w": WEIGHTS})
    one = jax.vmap(lambda state, step: optimizer.update({"w": WEIGHTS}, state, step=step)[0]["w"])
    starts = jax.vmap(lambda share: optimizer.init({"w": WEIGHTS * share}))(jnp.array([1.0, 1, 2]))
    states = jnp.concatenate([jnp.full(4000, state), starts])
    drawn = np.asarray(jax.jit(one)(states, jnp.r_[jnp.arange(4000), 0, 0, 0]))
    drawn, (same, again, other) = drawn[:4000], drawn[4000:]
    np.testing.assert_array_equal(drawn[0], same)
    np.testing.assert_array_equal(again, same)
    assert (other != same).any()  # of a replicate that starts elsewhere
    size = np.abs(WEIGHTS).max() / 3
    np.testing.assert_allclose(drawn / size, np.rint(drawn / size), atol=1e-5)
    assert (np.abs(drawn - WEIGHTS) < size * 1.0001).all()
    np.testing.assert_allclose(drawn.mean(0), WEIGHTS, atol=5 * size / np.sqrt(4000))


def test_32_bits_and_arrays_of_zeros_stay():
    assert low_precision.rounded({"w": WEIGHTS}, 32)["w"] is WEIGHTS
    zeros, (init, update) = {"w": jnp.zeros(3)}, low_precision.rounded_gradients(8)
    both = jax.jit(lambda w: (low_precision.rounded(w, 8), update(w, init(w), step=1)[0]))(zeros)
    assert [one["w"].tolist() for one in both] == [[0, 0, 0]] * 2


def test_other_bits_are_refused():
    for function in (
        lambda: low_precision.rounded({}, 9),
        lambda: low_precision.rounded_gradients(1),
    ):
        with pytest.raises(ValueError, match=r"bits=. must be one of 2, 3"):
            function()
