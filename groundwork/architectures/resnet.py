"""Residual networks in their CIFAR form."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled

CHANNELS = (16, 32, 64)  # of each stage's convolutions


class Block(nn.Module):
    """Two 3×3 convolutions with BatchNorm, and a shortcut around them that has no parameters.

    [B, H, W, C] → [B, ⌈H / strides⌉, ⌈W / strides⌉, channels], channels ≥ C.
    """

    channels: int
    strides: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        # Padded by one pixel on every side: at stride 2, SAME would pad only below and on the
        # right, and windows would no longer be centred on the pixels that the shortcut keeps.
        conv = functools.partial(
            layers.conv, padding=1, bias=False, kernel_init=layers.he, dtype=self.dtype
        )
        norm = functools.partial(layers.batch_norm, train=train, dtype=self.dtype)
        x = conv(self.channels, 3, strides=self.strides, name="conv1")(inputs)
        x = nn.relu(norm("bn1")(x))
        x = norm("bn2")(conv(self.channels, 3, name="conv2")(x))
        return nn.relu(x + shortcut(inputs, self.channels, self.strides).astype(x.dtype))


def shortcut(inputs: jax.Array, channels: int, strides: int) -> jax.Array:
    """Returns every `strides`-th pixel, with zeros for the channels that the inputs lack.

    This is option A of the paper.
    """
    lacking = channels - inputs.shape[-1]
    return jnp.pad(inputs[:, ::strides, ::strides], [(0, 0)] * 3 + [(0, lacking)])


class ResNet(nn.Module):
    """A 3×3 convolution, three stages of `blocks` residual blocks, global average, classes.

    The stages have 16, 32 and 64 channels; the second and third begin with stride 2. ReLU follows
    BatchNorm and each addition; convolutions have no biases and are padded by one pixel. Kernels
    are He normal, biases zero; BatchNorm has momentum 0.9 and epsilon 1e-5, on which the paper is
    silent. Use `ResNet20`, `ResNet32` or `ResNet56` (6 × blocks + 2 layers with weights). In a
    narrowed network, channels need not double from stage to stage: shortcuts add as many zero
    channels as a stage lacks.

    Source: He et al., arXiv:1512.03385, Section 4.2, with option A of Section 3.3.
    """

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    blocks: int = 3

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(
            layers.conv, padding=1, bias=False, kernel_init=layers.he, dtype=self.dtype
        )
        x = conv(scaled(CHANNELS[0], self.width), 3, name="conv1")(layers.as_images(inputs))
        x = nn.relu(layers.batch_norm("bn1", train, self.dtype)(x))
        for stage, channels in enumerate(CHANNELS):
            channels = scaled(channels, self.width)
            for block in range(self.blocks):
                strides = 2 if stage and not block else 1
                name = f"block{stage + 1}_{block + 1}"
                x = Block(channels, strides, self.dtype, name=name)(x, train)
        x = layers.global_average(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=layers.he, name="output")(x)


class ResNet20(ResNet):
    """269,722 parameters for 3 channels and 10 classes (the paper: 0.27 M)."""

    blocks: int = 3


class ResNet32(ResNet):
    """464,154 parameters for 3 channels and 10 classes (the paper: 0.46 M)."""

    blocks: int = 5


class ResNet56(ResNet):
    """853,018 parameters for 3 channels and 10 classes (the paper: 0.85 M)."""

    blocks: int = 9
