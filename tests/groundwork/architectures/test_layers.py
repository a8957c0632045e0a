import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import layers

RNG = np.random.default_rng(0)


def flax_pool(x):
    return nn.max_pool(x, (2, 2), strides=(2, 2))


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (1, 5, 7, 2), (2, 1, 4, 3), (0, 4, 4, 1)])
@pytest.mark.parametrize("values", ["distinct", "equal ones"])
def test_pooling_and_its_gradient_are_flaxs(values, shape):
    count = np.prod(shape, dtype=int)
    drawn = RNG.permutation(count) if values == "distinct" else RNG.integers(-1, 2, count)
    x = jnp.asarray(drawn.reshape(shape), jnp.float32)
    found, pullback = jax.vjp(layers.max_pool, x)
    expected, expected_pullback = jax.vjp(flax_pool, x)
    np.testing.assert_array_equal(found, expected)
    cotangent = jnp.asarray(RNG.normal(size=expected.shape), jnp.float32)
    np.testing.assert_array_equal(*(back(cotangent)[0] for back in (pullback, expected_pullback)))


@pytest.mark.parametrize(("size", "strides", "padding"), [(3, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_overlapping_windows_are_pooled_as_flax_does(size, strides, padding):
    x = jnp.asarray(RNG.integers(-2, 3, (2, 7, 8, 2)), jnp.float32)
    options = {"strides": (strides, strides), "padding": [(padding, padding)] * 2}
    given = (size, strides, padding)
    for ours, theirs in ((layers.max_pool, nn.max_pool), (layers.average_pool, nn.avg_pool)):
        found, back = jax.vjp(lambda x, ours=ours: ours(x, *given), x)
        wanted, pull = jax.vjp(lambda x, f=theirs: f(x, (size, size), **options), x)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
        cotangent = jnp.asarray(RNG.normal(size=wanted.shape), jnp.float32)
        np.testing.assert_allclose(back(cotangent)[0], pull(cotangent)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("where", range(4))
def test_pooling_hides_no_nan(where):
    x = jnp.arange(4.0).at[where].set(jnp.nan).reshape(1, 2, 2, 1)
    assert jnp.isnan(layers.max_pool(x)).all()
    infinite = jnp.full((1, 2, 2, 1), -jnp.inf)
    assert layers.max_pool(infinite).item() == -jnp.inf
