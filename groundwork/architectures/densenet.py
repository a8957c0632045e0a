"""Densely connected networks: every layer sees the outputs of all layers before it."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled

EXPANSION = 4  # a bottleneck's channels, times the growth


class DenseLayer(nn.Module):
    """BatchNorm, ReLU and a 3×3 convolution, [B, H, W, C] → [B, H, W, C + growth].

    The new channels come after the C of the inputs. As a bottleneck, BatchNorm, ReLU and a 1×1
    convolution to 4 × growth channels come first. Without one it has 2C + 9·C·growth parameters
    and 9·C·growth·H·W multiply-adds; with one, 2C + 4·C·growth + 8·growth + 36·growth² and
    (4·C·growth + 36·growth²)·H·W.
    """

    growth: int
    bottleneck: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(layers.conv, bias=False, kernel_init=layers.he, dtype=self.dtype)
        norm = functools.partial(layers.batch_norm, train=train, dtype=self.dtype)
        x = nn.relu(norm("bn1")(inputs))
        if self.bottleneck:
            x = conv(EXPANSION * self.growth, 1, name="conv1")(x)
            x = nn.relu(norm("bn2")(x))
        last = "conv2" if self.bottleneck else "conv1"
        x = conv(self.growth, 3, name=last)(x)
        return jnp.concatenate([inputs.astype(x.dtype), x], axis=-1)


class DenseNet(nn.Module):
    """A convolution, blocks of dense layers, global average, classes.

    Between blocks, a transition is BatchNorm, ReLU, a 1×1 convolution and 2×2 average pooling; it
    keeps ⌊compression × C⌋ of the channels. BatchNorm and ReLU come before the global average.
    Kernels are He normal, biases zero; convolutions have no biases; BatchNorm has momentum 0.9 and
    epsilon 1e-5. Use `DenseNet40`, `DenseNetBC100`, `DenseNet121` or `DenseNet121Small`.

    Source: Huang et al., arXiv:1608.06993, Section 3, Table 1; the forms for CIFAR are Section
    4.1's. Departs: no dropout, which the paper uses where it trains without augmentation.

    Attributes:
      classes: number of outputs.
      width: multiplies the growth and the first convolution's channels.
      dtype: the type in which layers compute.
      stem: channels of the first convolution.
      blocks: dense layers of each block.
      growth: channels that each dense layer adds.
      bottleneck: whether dense layers are bottlenecks.
      compression: share of the channels that a transition keeps.
      small: whether the first convolution is 3×3 with stride 1, for images of 32×32, and not 7×7
        with stride 2, BatchNorm, ReLU and 3×3 max-pooling with stride 2.
    """

    image: ClassVar = (32, 32, 3)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    stem: int = 16
    blocks: tuple[int, ...] = (12, 12, 12)
    growth: int = 12
    bottleneck: bool = False
    compression: float = 1.0
    small: bool = True

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(layers.conv, bias=False, kernel_init=layers.he, dtype=self.dtype)
        norm = functools.partial(layers.batch_norm, train=train, dtype=self.dtype)
        x, stem = layers.as_images(inputs), scaled(self.stem, self.width)
        if self.small:
            x = conv(stem, 3, name="conv1")(x)
        else:
            x = conv(stem, 7, strides=2, padding=3, name="conv1")(x)
            x = layers.max_pool(nn.relu(norm("bn1")(x)), 3, 2, padding=1)
        growth = scaled(self.growth, self.width)
        for block, repeats in enumerate(self.blocks, 1):
            if block > 1:
                x = nn.relu(norm(f"transition{block - 1}_bn")(x))
                kept = max(1, int(self.compression * x.shape[-1]))
                x = layers.average_pool(conv(kept, 1, name=f"transition{block - 1}")(x))
            for layer in range(1, repeats + 1):
                dense = DenseLayer(
                    growth, self.bottleneck, self.dtype, name=f"block{block}_{layer}"
                )
                x = dense(x, train)
        x = layers.global_average(nn.relu(norm("bn2")(x)))
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=layers.he, name="output")(x)


class DenseNet40(DenseNet):
    """L = 40, k = 12; 1,019,722 parameters for 3 channels and 10 classes (the paper: 1.0 M)."""


class DenseNetBC100(DenseNet):
    """L = 100, k = 12; 769,162 parameters for 3 channels and 10 classes (the paper: 0.8 M)."""

    stem: int = 24
    blocks: tuple[int, ...] = (16, 16, 16)
    bottleneck: bool = True
    compression: float = 0.5


class DenseNet121(DenseNet):
    """k = 32; 7,978,856 parameters for 1000 classes and images of 224×224."""

    image: ClassVar = (224, 224, 3)

    stem: int = 64
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    growth: int = 32
    bottleneck: bool = True
    compression: float = 0.5
    small: bool = False


class DenseNet121Small(DenseNet121):
    """6,956,298 parameters for 3 channels and 10 classes.

    The first convolution is 3×3 with stride 1 and has no BatchNorm and no pooling after it
    (32 → 16 → 8 → 4 by the transitions).
    """

    image: ClassVar = (32, 32, 3)
    small: bool = True
