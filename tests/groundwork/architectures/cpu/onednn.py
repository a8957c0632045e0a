"""Convolutions of ours and of `jax.lax`, and what compares them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.convolution import available, conv_general_dilated

BUILT = available()
needs_onednn = pytest.mark.skipif(not BUILT, reason="oneDNN is not built (make cpu), or is off")
LAYOUT = ("NHWC", "HWIO", "NHWC")
TOLERANCE = {"float32": 1e-4, "bfloat16": 2**-7}  # of the largest entry
RNG = np.random.default_rng(0)


def decide_again():
    """As in a new process."""
    library.load.cache_clear()
    library.implementation.cache_clear()
    library.multiplies_bfloat16.cache_clear()


def normal(*shape, dtype="float32"):
    return jnp.asarray(RNG.normal(size=shape), dtype)


def plain(conv, strides=(1, 1), padding="SAME", **options):
    return lambda x, w: conv(x, w, strides, padding, dimension_numbers=LAYOUT, **options)


ours, theirs = plain(conv_general_dilated), plain(lax.conv_general_dilated)


def energy(conv):
    return lambda x, w: jnp.sum(jnp.sin(conv(x, w)))


def assert_near(found, expected, dtype="float32"):
    layout = jax.tree.map(lambda a: (a.shape, a.dtype), found)
    assert layout == jax.tree.map(lambda a: (a.shape, a.dtype), expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * np.abs(b).max(initial=0))


def text(function, *arguments, platform="cpu"):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
