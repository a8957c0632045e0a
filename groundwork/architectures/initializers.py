"""Initialisers that papers name and that Flax lacks under that name; rounded widths."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.linen import initializers
from jax import lax

ITERATIONS = 60  # of `orthogonal`: from singular values of 1e-9 of the largest

torch_kernel = initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for Linear and Conv kernels: uniform in ±1/√fan_in."""

caffe_xavier = initializers.variance_scaling(1.0, "fan_in", "uniform")
"""Caffe's filler `xavier`: uniform in ±√(3 / fan_in), of variance 1 / fan_in."""

he_fan_in = initializers.variance_scaling(2, "fan_in", "normal")
"""He et al., arXiv:1502.01852: normal, variance 2 / fan in, not cut. Of a depthwise kernel: 2 / k².
"""

he_fan_out = initializers.variance_scaling(2, "fan_out", "normal")
"""The same with the fan out, k² × outputs: equation 14 of that paper."""


def orthogonal(
    key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None
) -> jax.Array:
    """Returns random orthogonal matrices, [..., D, D], each uniform over all of them.

    They are the polar factors of normal matrices G, G(GᵀG)^-½, found by the iteration of Newton and
    Schulz, X ← (3X - XXᵀX) / 2, which multiplies small singular values by 1.5 until they are 1.
    Departs: Flax's `orthogonal` has a QR decomposition for each matrix; two of them at once, of
    several replicates, wait for each other forever on CPUs (jaxlib 0.10.2).
    """
    del out_sharding
    drawn = jax.random.normal(key, shape, dtype)
    drawn /= jnp.linalg.norm(drawn, axis=(-2, -1), keepdims=True)

    def nearer(_: int, x: jax.Array) -> jax.Array:
        squares = jnp.matmul(jnp.swapaxes(x, -2, -1), x, precision=lax.Precision.HIGHEST)
        return 1.5 * x - 0.5 * jnp.matmul(x, squares, precision=lax.Precision.HIGHEST)

    return lax.fori_loop(0, ITERATIONS, nearer, drawn)


def torch_bias(fan_in: int) -> jax.nn.initializers.Initializer:
    """Returns PyTorch's default for biases: uniform in ±1/√fan_in of the layer's kernel."""
    bound = 1 / math.sqrt(fan_in)

    def init(
        key: jax.Array,
        shape: Sequence[Any],
        dtype: Any = jnp.float32,
        out_sharding: Any = None,
    ) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def scaled(units: int, width: float) -> int:
    """Returns `units` times a width multiplier, rounded, at least 1."""
    return max(1, round(units * width))


def in_eights(units: int, width: float) -> int:
    """Returns the multiple of 8 that is nearest to `units` times a width multiplier, at least 8.

    Halves are rounded up, and where rounding takes more than a tenth away, 8 are added: as the
    released code of MobileNet v2 and EfficientNet does, on which their papers are silent.
    """
    wanted = units * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
