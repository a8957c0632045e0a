"""Conv-2, Conv-4 and Conv-6: the small VGGs of the lottery-ticket hypothesis."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled

CHANNELS = (64, 128, 256)  # of each module's convolutions


class ConvN(nn.Module):
    """`modules` × (two 3×3 convolutions, 2×2 max-pooling), then 256-256-classes, with ReLU.

    The modules have 64, 128 and 256 channels and SAME padding. Kernels are Gaussian Glorot, biases
    zero. Use `Conv2`, `Conv4` or `Conv6`.
    Source: Frankle & Carbin, arXiv:1803.03635, Figure 2 and Appendix H.1.
    """

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    modules: int = 1

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(layers.conv, kernel_init=layers.glorot, dtype=self.dtype)
        dense = functools.partial(nn.Dense, kernel_init=layers.glorot, dtype=self.dtype)
        x = layers.as_images(inputs)
        for module in range(self.modules):
            channels = scaled(CHANNELS[module], self.width)
            for layer in (2 * module + 1, 2 * module + 2):
                x = nn.relu(conv(channels, 3, name=f"conv{layer}")(x))
            x = layers.max_pool(x)
        x = layers.flatten(x)
        for name in ("fc1", "fc2"):
            x = nn.relu(dense(scaled(256, self.width), name=name)(x))
        return dense(self.classes, name="output")(x)


class Conv2(ConvN):
    """64, 64; 4,301,642 parameters for 32×32×3 and 10 classes (the paper: 4.3 M)."""

    modules: int = 1


class Conv4(ConvN):
    """64, 64, 128, 128; 2,425,930 parameters for 32×32×3 and 10 classes (the paper: 2.4 M)."""

    modules: int = 2


class Conv6(ConvN):
    """64, 64, 128, 128, 256, 256; 2,262,602 parameters for 32×32×3 and 10 classes.

    The paper says 1.7 M, of which 1.1 M are in convolutions. The layers that it lists have these
    2.26 M: 1.1 M in convolutions, and 1.05 M in `fc1` alone, which sees 4×4×256 inputs. 1.7 M
    would be right if `fc1` saw half as many.
    """

    modules: int = 3
