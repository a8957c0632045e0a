"""Initialisers that papers name and Flax does not have under that name."""

import math

import jax
from flax.linen import initializers

torch_kernel = initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for Linear and Conv kernels: uniform in ±1/√fan_in."""


def torch_bias(fan_in: int) -> jax.nn.initializers.Initializer:
    """PyTorch's default for biases: uniform in ±1/√fan_in of the layer's kernel."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=jax.numpy.float32, out_sharding=None):
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def scaled(units: int, width: float) -> int:
    """`units` times a width multiplier, rounded, at least 1."""
    return max(1, round(units * width))
