"""Initialisers that papers name and that Flax lacks under that name; rounded widths."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from flax.linen import initializers

torch_kernel = initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for Linear and Conv kernels: uniform in ±1/√fan_in."""

caffe_xavier = initializers.variance_scaling(1.0, "fan_in", "uniform")
"""Caffe's filler `xavier`: uniform in ±√(3 / fan_in), of variance 1 / fan_in."""


def torch_bias(fan_in: int) -> jax.nn.initializers.Initializer:
    """Returns PyTorch's default for biases: uniform in ±1/√fan_in of the layer's kernel."""
    bound = 1 / math.sqrt(fan_in)

    def init(
        key: jax.Array,
        shape: Sequence[Any],
        dtype: Any = jax.numpy.float32,
        out_sharding: Any = None,
    ) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def scaled(units: int, width: float) -> int:
    """Returns `units` times a width multiplier, rounded, at least 1."""
    return max(1, round(units * width))
