"""AlexNet in one tower and in two, and the same for images of 32×32."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled

CHANNELS = {1: (64, 192, 384, 256, 256), 2: (96, 256, 384, 384, 256)}  # by the number of towers
APART = (2, 4, 5)  # convolutions that see their own tower alone
POOLED = (1, 2, 5)  # convolutions that are followed by pooling
ONES = (2, 4, 5)  # convolutions whose biases start at 1
DROPPED = 0.5  # of the inputs of `fc1` and `fc2`


class AlexNet(nn.Module):
    """Five convolutions, two dense layers of 4096, classes; 61,100,840 parameters for 1000.

    An 11×11 convolution with stride 4, a 5×5 one and three 3×3 ones, each with ReLU; 3×3
    max-pooling with stride 2 follows the first, the second and the fifth. Half of the inputs of
    each hidden dense layer are dropped in training. 714,188,480 multiply-adds at 224×224.

    Source: Krizhevsky, arXiv:1404.5997, in one tower, with torchvision's channels 64, 192, 384,
    256 and 256; with `towers=2` Krizhevsky et al. 2012 (NeurIPS), 60,965,224 parameters: 96, 256,
    384, 384 and 256 channels, of which convolutions 2, 4 and 5 see those of their own tower alone
    (two groups). Kernels are normal with deviation 0.01; biases are 0, and 1 in those three
    convolutions and in the hidden dense layers, as in 2012. Departs: there is no local response
    normalisation, as in torchvision.

    Attributes:
      classes: number of outputs.
      width: multiplies the hidden layers.
      dtype: the type in which layers compute.
      towers: 1 or 2.
      small: whether it takes images of 32×32.

    Raises:
      ValueError: there are other than one or two towers.
    """

    image: ClassVar = (224, 224, 3)
    settings: ClassVar[tuple[str, ...]] = ("towers",)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    towers: int = 1
    small: bool = False

    def __post_init__(self) -> None:
        if self.towers not in CHANNELS:
            raise ValueError(f"towers={self.towers} must be 1 or 2")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        init = layers.he if self.small else nn.initializers.normal(0.01)
        ones = nn.initializers.zeros if self.small else nn.initializers.ones
        conv = functools.partial(layers.conv, kernel_init=init, dtype=self.dtype)
        dense = functools.partial(nn.Dense, kernel_init=init, dtype=self.dtype)
        x = layers.as_images(inputs)
        for number, channels in enumerate(CHANNELS[self.towers], 1):
            size, strides, padding = self._window(number)
            x = conv(
                self.towers * scaled(channels // self.towers, self.width),
                size,
                strides=strides,
                padding=padding,
                groups=self.towers if number in APART else 1,
                bias_init=ones if number in ONES else nn.initializers.zeros,
                name=f"conv{number}",
            )(x)
            x = nn.relu(x)
            x = layers.max_pool(x, 3, 2, padding=int(self.small)) if number in POOLED else x
        x = layers.flatten(x)
        for number in (1, 2):
            x = nn.Dropout(DROPPED, deterministic=not train)(x)
            units = scaled(512 if self.small else 4096, self.width)
            x = nn.relu(dense(units, bias_init=ones, name=f"fc{number}")(x))
        return dense(self.classes, name="output")(x)

    def _window(self, number: int) -> tuple[int, int, int]:
        """Returns size, strides and padding of a convolution's window."""
        if number == 1:
            return (3, 1, 1) if self.small else (11, 4, 2)
        return (5, 1, 2) if number == 2 else (3, 1, 1)


class AlexNetSmall(AlexNet):
    """4,813,642 parameters for 3 channels and 10 classes.

    The first convolution is 3×3 with stride 1, pooling is padded by a pixel (32 → 16 → 8 → 4), the
    hidden dense layers have 512 units, kernels are He normal and all biases start at 0.
    """

    image: ClassVar = (32, 32, 3)
    small: bool = True
