"""VGG in the form that lottery-ticket papers train on CIFAR."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled

CHANNELS = (64, 128, 256, 512, 512)  # of each group's convolutions


class VGG(nn.Module):
    """Five groups of 3×3 convolutions with BatchNorm and ReLU, global average, one dense layer.

    The groups have 64, 128, 256, 512 and 512 channels and SAME padding; 2×2 max-pooling follows
    each group but the last. Kernels are He normal, biases zero; BatchNorm has momentum 0.9 and
    epsilon 1e-5. Use `VGG11`, `VGG13`, `VGG16` or `VGG19`.

    Source: Simonyan & Zisserman, arXiv:1409.1556, Table 1, columns A, B, D and E, as Liu et al.,
    arXiv:1810.05270, adapted them to CIFAR and Frankle & Carbin, arXiv:1803.03635, Figure 2 and
    Appendix I.2, took them over: one dense layer instead of three, BatchNorm, no dropout.
    Departs: convolutions have no biases, since BatchNorm would subtract them again (some of Liu
    et al.'s networks have none either); the dense layer is He normal, where theirs has deviation
    0.01 (Frankle & Carbin draw all layers from Glorot's distribution). For 32×32 inputs the global
    average is their 2×2 average pooling; it also fits other sizes.
    """

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    groups: tuple[int, ...] = (1, 1, 2, 2, 2)  # convolutions in each

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(layers.conv, bias=False, kernel_init=layers.he, dtype=self.dtype)
        norm = functools.partial(layers.batch_norm, train=train, dtype=self.dtype)
        x = layers.as_images(inputs)
        for group, convolutions in enumerate(self.groups):
            if group:
                x = layers.max_pool(x)
            channels = scaled(CHANNELS[group], self.width)
            for layer in range(convolutions):
                place = f"{group + 1}_{layer + 1}"
                x = conv(channels, 3, name=f"conv{place}")(x)
                x = nn.relu(norm(f"bn{place}")(x))
        x = layers.global_average(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=layers.he, name="output")(x)


class VGG11(VGG):
    """Column A; 9,228,362 parameters for 3 channels and 10 classes."""

    groups: tuple[int, ...] = (1, 1, 2, 2, 2)


class VGG13(VGG):
    """Column B; 9,413,066 parameters for 3 channels and 10 classes."""

    groups: tuple[int, ...] = (2, 2, 2, 2, 2)


class VGG16(VGG):
    """Column D; 14,724,042 parameters for 3 channels and 10 classes."""

    groups: tuple[int, ...] = (2, 2, 3, 3, 3)


class VGG19(VGG):
    """Column E; 20,035,018 parameters for 3 channels and 10 classes (the papers: 20.0 M)."""

    groups: tuple[int, ...] = (2, 2, 4, 4, 4)
