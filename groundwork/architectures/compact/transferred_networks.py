"""One small network, and the same with each kind of transferred filters."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.compact import transferred
from groundwork.architectures.initializers import scaled

CHANNELS = (16, 32, 64, 128)  # maps after each convolution


class PlainSmall(nn.Module):
    """Four 3×3 convolutions with BatchNorm and ReLU, global average, classes.

    16, 32, 64 and 128 channels; 2×2 max-pooling follows the first three. 98,970 parameters and
    3,982,592 multiply-adds for 32×32×3 and 10 classes. Kernels are He normal, biases zero;
    convolutions have no biases; BatchNorm has momentum 0.9 and epsilon 1e-5. `CReLUSmall`,
    `CyclicSmall` and `DoublySmall` are compared with it.

    Attributes:
      classes: number of outputs.
      width: multiplies all channels.
      dtype: the type in which layers compute.
    """

    image: ClassVar = (32, 32, 3)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = layers.as_images(inputs)
        for number, channels in enumerate(CHANNELS, 1):
            x = self.maps(x, number, channels, train)
            x = layers.max_pool(x) if number < len(CHANNELS) else x
        x = self.features(layers.global_average(x))
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=layers.he, name="output")(x)

    def maps(self, x: jax.Array, number: int, channels: int, train: bool) -> jax.Array:
        """Returns what follows a convolution, [B, H, W, C] → [B, H, W, C']; `channels` × width."""
        return nn.relu(self.normed(x, number, scaled(channels, self.width), train))

    def normed(self, x: jax.Array, number: int, channels: int, train: bool) -> jax.Array:
        """Returns the convolution of this number, with BatchNorm."""
        conv = functools.partial(layers.conv, bias=False, kernel_init=layers.he, dtype=self.dtype)
        x = conv(channels, 3, name=f"conv{number}")(x)
        return layers.batch_norm(f"bn{number}", train, self.dtype)(x)

    def features(self, x: jax.Array) -> jax.Array:
        """Returns what the last layer is given of the averages [B, C]."""
        return x


class CReLUSmall(PlainSmall):
    """Half the filters, and CReLU in place of ReLU; 50,130 parameters, 1,991,936 multiply-adds."""

    def maps(self, x: jax.Array, number: int, channels: int, train: bool) -> jax.Array:
        half = scaled(channels // 2, self.width)
        return transferred.crelu(self.normed(x, number, half, train))


class CyclicSmall(PlainSmall):
    """Filters shared by rotations by 90° and flips; 12,380 parameters, 3,981,472 multiply-adds.

    BatchNorm has one scale, offset, mean and variance for the maps of all elements of the group,
    and the last layer sees the mean over them, so logits are the same for images that are rotated
    or flipped (up to rounding, where every pooling sees even sides).

    Attributes:
      flips: whether the group has flips (p4m, 8 elements) or rotations alone (p4, 4 elements).
    """

    settings: ClassVar[tuple[str, ...]] = ("flips",)

    flips: bool = True

    def maps(self, x: jax.Array, number: int, channels: int, train: bool) -> jax.Array:
        elements = transferred.order(self.flips)
        fields = scaled(channels // elements, self.width)
        name = f"conv{number}"
        x = transferred.Cyclic(fields, number == 1, self.flips, self.dtype, name=name)(x)
        apart = x.reshape(*x.shape[:3], elements, fields)
        normed = layers.batch_norm(f"bn{number}", train, self.dtype)(apart)
        return nn.relu(normed).reshape(x.shape)

    def features(self, x: jax.Array) -> jax.Array:
        return jnp.mean(x.reshape(len(x), transferred.order(self.flips), -1), 1)


class DoublySmall(PlainSmall):
    """Doubly convolutional layers; 44,970 parameters, 3,982,592 multiply-adds.

    Meta filters of 4×4 give four filters each. With `meta=6` and `pool=2`, the paper's choice, the
    network has as many parameters as `PlainSmall` and four times the multiply-adds.

    Attributes:
      meta: height and width of a meta filter, from 3 on.
      pool: so many neighbouring crops are pooled in each direction, a divisor of meta − 2.
    """

    settings: ClassVar[tuple[str, ...]] = ("meta", "pool")

    meta: int = 4
    pool: int = 1

    def __post_init__(self) -> None:
        if self.meta < 3 or self.pool < 1 or (self.meta - 2) % self.pool:
            given = f"meta={self.meta!r} and pool={self.pool!r}"
            raise ValueError(f"{given} must be a number from 3 on, and a divisor of meta - 2")
        super().__post_init__()

    def maps(self, x: jax.Array, number: int, channels: int, train: bool) -> jax.Array:
        copies = ((self.meta - 2) // self.pool) ** 2
        filters = scaled(channels, self.width / copies)
        name = f"conv{number}"
        x = transferred.Doubly(filters, self.dtype, self.meta, self.pool, name=name)(x)
        return nn.relu(layers.batch_norm(f"bn{number}", train, self.dtype)(x))
