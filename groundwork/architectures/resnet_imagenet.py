"""Residual networks in their ImageNet form, and the same for images of 32×32."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled

CHANNELS = (64, 128, 256, 512)  # of each stage's 3×3 convolutions
EXPANSION = 4  # a bottleneck's outputs, times its 3×3 convolution's channels


class Block(nn.Module):
    """A residual block, [B, H, W, C] → [B, ⌈H / strides⌉, ⌈W / strides⌉, C'].

    Two 3×3 convolutions with C' = channels; or, as a bottleneck, 1×1, 3×3 and 1×1 ones with
    C' = 4 × channels. Each has BatchNorm, and ReLU follows it and the addition. Where shape or
    channels change, the shortcut is a 1×1 convolution with BatchNorm.
    """

    channels: int
    strides: int
    bottleneck: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(layers.conv, bias=False, kernel_init=layers.he, dtype=self.dtype)
        norm = functools.partial(layers.batch_norm, train=train, dtype=self.dtype)
        outputs = self.channels * (EXPANSION if self.bottleneck else 1)
        if self.bottleneck:
            x = nn.relu(norm("bn1")(conv(self.channels, 1, name="conv1")(inputs)))
            x = conv(self.channels, 3, padding=1, strides=self.strides, name="conv2")(x)
            x = conv(outputs, 1, name="conv3")(nn.relu(norm("bn2")(x)))
            x = norm("bn3")(x)
        else:
            x = conv(outputs, 3, padding=1, strides=self.strides, name="conv1")(inputs)
            x = conv(outputs, 3, padding=1, name="conv2")(nn.relu(norm("bn1")(x)))
            x = norm("bn2")(x)
        if self.strides > 1 or inputs.shape[-1] != outputs:
            inputs = conv(outputs, 1, strides=self.strides, padding=0, name="shortcut")(inputs)
            inputs = norm("shortcut_bn")(inputs)
        return nn.relu(x + inputs)


class ResNetImageNet(nn.Module):
    """A 7×7 convolution, max-pooling, four stages of residual blocks, global average, classes.

    Kernels are He normal, biases zero; convolutions have no biases; BatchNorm has momentum 0.9 and
    epsilon 1e-5. Use `ResNet18`, `ResNet50`, or for images of 32×32 `ResNet18Small` and
    `ResNet50Small`, whose first convolution is 3×3 with stride 1 and has no pooling after it.

    Source: He et al., arXiv:1512.03385, Table 1, with option B of Section 3.3. Departs as
    torchvision does: a bottleneck that halves the image has its stride in the 3×3 convolution, not
    in the first 1×1 one.

    Attributes:
      classes: number of outputs.
      width: multiplies all channels.
      dtype: the type in which layers compute.
      blocks: of each stage.
      bottleneck: the kind of block.
      small: whether it takes images of 32×32.
    """

    image: ClassVar = (224, 224, 3)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    small: bool = False

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        size, strides = (3, 1) if self.small else (7, 2)
        conv = functools.partial(
            layers.conv, padding=size // 2, bias=False, kernel_init=layers.he, dtype=self.dtype
        )
        x = layers.as_images(inputs)
        x = conv(scaled(CHANNELS[0], self.width), size, strides=strides, name="conv1")(x)
        x = nn.relu(layers.batch_norm("bn1", train, self.dtype)(x))
        x = x if self.small else layers.max_pool(x, 3, 2, padding=1)
        for stage, (channels, blocks) in enumerate(zip(CHANNELS, self.blocks, strict=True), 1):
            for block in range(1, blocks + 1):
                strides = 2 if stage > 1 and block == 1 else 1
                units = scaled(channels, self.width)
                name = f"block{stage}_{block}"
                x = Block(units, strides, self.bottleneck, self.dtype, name=name)(x, train)
        x = layers.global_average(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=layers.he, name="output")(x)


class ResNet18(ResNetImageNet):
    """11,689,512 parameters for 1000 classes."""


class ResNet50(ResNetImageNet):
    """25,557,032 parameters for 1000 classes."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True


class ResNet18Small(ResNet18):
    """11,173,962 parameters for 3 channels and 10 classes."""

    image: ClassVar = (32, 32, 3)
    small: bool = True


class ResNet50Small(ResNet50):
    """23,520,842 parameters for 3 channels and 10 classes."""

    image: ClassVar = (32, 32, 3)
    small: bool = True
