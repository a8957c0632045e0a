"""VGG-16 with its three dense layers, and the same for images of 32×32."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled

CHANNELS = (64, 128, 256, 512, 512)  # of each group's convolutions
GROUPS = (2, 2, 3, 3, 3)  # convolutions in each
DROPPED = 0.5  # of the outputs of `fc1` and `fc2`


class VGG16ImageNet(nn.Module):
    """Five groups of 3×3 convolutions, each with 2×2 max-pooling; 4096, 4096, classes.

    138,357,544 parameters for 1000 classes, 15,470,264,320 multiply-adds at 224×224. ReLU follows
    every hidden layer, there is no BatchNorm, and half of each hidden dense layer's outputs are
    dropped in training.

    Source: Simonyan & Zisserman, arXiv:1409.1556, Table 1, column D. Departs: kernels are He
    normal, where the paper starts from a trained network of eleven layers (or, Section 3.1, from
    Glorot's distribution); biases are zero.

    Attributes:
      classes: number of outputs.
      width: multiplies the hidden layers.
      dtype: the type in which layers compute.
      small: whether it takes images of 32×32.
    """

    image: ClassVar = (224, 224, 3)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    small: bool = False

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(layers.conv, kernel_init=layers.he, dtype=self.dtype)
        dense = functools.partial(nn.Dense, kernel_init=layers.he, dtype=self.dtype)
        x = layers.as_images(inputs)
        for group, convolutions in enumerate(GROUPS, 1):
            channels = scaled(CHANNELS[group - 1], self.width)
            for layer in range(1, convolutions + 1):
                x = nn.relu(conv(channels, 3, name=f"conv{group}_{layer}")(x))
            x = x if self.small and group > 3 else layers.max_pool(x)
        x = layers.flatten(x)
        for number in (1, 2):
            units = scaled(512 if self.small else 4096, self.width)
            x = nn.relu(dense(units, name=f"fc{number}")(x))
            x = nn.Dropout(DROPPED, deterministic=not train)(x)
        return dense(self.classes, name="output")(x)


class VGG16ImageNetSmall(VGG16ImageNet):
    """19,177,290 parameters for 3 channels and 10 classes.

    The last two poolings are left out (32 → 16 → 8 → 4), and the hidden dense layers have 512
    units.
    """

    image: ClassVar = (32, 32, 3)
    small: bool = True
