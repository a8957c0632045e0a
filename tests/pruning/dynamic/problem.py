"""A tiny tree of parameters with a loss, whose dense gradients are known in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from pruning import masks

SHAPES = {"a": {"kernel": (5, 4), "bias": (4,)}, "b": {"kernel": (4, 3)}}
EVERY, END, FRACTION = 3, 12, 0.5


def drawn(seed, density=0.4):
    """Parameters that are zero where pruned, and a mask with a part of each leaf."""
    rng = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32),
        SHAPES,
        is_leaf=lambda shape: isinstance(shape, tuple),
    )
    mask = {}
    for path, leaf in masks.flatten(params).items():
        keep = np.zeros(leaf.size, bool)
        keep[rng.permutation(leaf.size)[: round(density * leaf.size)]] = True
        mask[path] = jnp.asarray(keep.reshape(leaf.shape))
    return masks.apply(mask, params), mask


def gradients(params, step):
    """Gradients that differ from step to step, dense."""
    return jax.tree.map(
        lambda p: jnp.sin(7 * p + step + jnp.arange(p.size).reshape(p.shape)), params
    )


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def _numbers(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def equal(tree, want):
    """Two trees are the same, bit for bit."""
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(_numbers(a), _numbers(b)), tree, want)


def close(tree, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), tree, want)
