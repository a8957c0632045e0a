"""Compact networks: depthwise and pointwise convolutions in place of full ones."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled, torch_bias, torch_kernel

MULTIPLES = (1, 2, 4, 8, 16, 16, 16, 16)  # of `base`: channels of the convolution and the blocks
NARROWED = range(3, 7)  # places in `MULTIPLES` whose channels `width_mult` multiplies
POOLED = 4  # so many of the first ones are followed by max-pooling


class StudentNet(nn.Module):
    """A 3×3 convolution, seven depthwise-pointwise blocks, global average, one dense layer.

    The layers have 16, 32, 64, 128, then 256 channels; 256,779 parameters for 3 channels and 11
    classes. A block is a 3×3 depthwise convolution, BatchNorm, ReLU6 and a 1×1 convolution with
    nothing after it. 2×2 max-pooling follows the first convolution (which has BatchNorm and ReLU6)
    and the first three blocks. Padding is SAME, biases are everywhere; kernels and biases start as
    PyTorch's do, uniform in ±1/√fan in; BatchNorm has momentum 0.9 and epsilon 1e-5. Images must be
    16×16 or larger.

    Attributes:
      classes: number of outputs.
      width: multiplies all channels.
      dtype: the type in which layers compute.
      base: channels of the first convolution.
      width_mult: multiplies the channels of blocks 3 to 6 only, rounded down, at least 1, as the
        source prunes the network.

    Source: National Taiwan University, Machine Learning (H.-y. Lee), spring 2020, homework 7,
    notebook "Architecture Design"; blocks after Howard et al., arXiv:1704.04861, Section 3.1.
    """

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    base: int = 16
    width_mult: float = 1.0

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        norm = functools.partial(layers.batch_norm, train=train, dtype=self.dtype)
        x = layers.as_images(inputs)
        for number, channels in enumerate(self._channels(), 1):
            if number == 1:
                x = nn.relu6(norm("bn1")(self._conv(x, channels, 3, "conv1")))
            else:
                x = self._conv(x, x.shape[-1], 3, f"depthwise{number}", groups=x.shape[-1])
                x = nn.relu6(norm(f"bn{number}")(x))
                x = self._conv(x, channels, 1, f"pointwise{number}")
            x = layers.max_pool(x) if number <= POOLED else x
        x = layers.global_average(x)
        bias = torch_bias(x.shape[-1])
        dense = functools.partial(nn.Dense, kernel_init=torch_kernel, bias_init=bias)
        return dense(self.classes, dtype=self.dtype, name="output")(x)

    def _channels(self) -> list[int]:
        """Returns the output channels of the convolution and of the seven blocks."""
        channels = [scaled(self.base * multiple, self.width) for multiple in MULTIPLES]
        for place in NARROWED:
            channels[place] = max(1, int(channels[place] * self.width_mult))
        return channels

    def _conv(
        self, x: jax.Array, channels: int, size: int, name: str, groups: int = 1
    ) -> jax.Array:
        conv = layers.conv(
            channels,
            size,
            name=name,
            kernel_init=torch_kernel,
            bias_init=torch_bias(size**2 * x.shape[-1] // groups),
            dtype=self.dtype,
            groups=groups,
        )
        return conv(x)
