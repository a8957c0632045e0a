"""Xception, and a form for images of 32×32."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.blocks import pointwise, separable
from groundwork.architectures.initializers import he_fan_out, scaled

ENTRY = (32, 64)  # channels of the two standard convolutions
BLOCKS = (  # channels of the separable convolutions of each block, and its strides
    ((128, 128), 2),
    ((256, 256), 2),
    ((728, 728), 2),
    *[((728, 728, 728), 1)] * 8,
    ((728, 1024), 2),
)
EXIT = (1536, 2048)  # channels of the last two separable convolutions

dense_init = nn.initializers.normal(0.01)


class Block(nn.Module):
    """Separable 3×3 convolutions with BatchNorm after and ReLU before each, and a shortcut.

    With strides 2, max-pooling over 3×3 follows them. The shortcut is a 1×1 convolution with
    BatchNorm where shapes change.

    [B, H, W, C] → [B, ⌈H / strides⌉, ⌈W / strides⌉, O]; each convolution from I to O channels has
    9·I + I·O + 2·O parameters and H·W·I·(9 + O) multiply-adds, the shortcut C·O + 2·O and
    H'·W'·C·O.

    Attributes:
      channels: of each convolution's outputs.
      strides: 1 or 2.
      activated: whether ReLU precedes the first convolution too.
      dtype: the type in which layers compute.
    """

    channels: tuple[int, ...]
    strides: int
    activated: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        x, outputs = inputs, self.channels[-1]
        for number, channels in enumerate(self.channels, 1):
            x = nn.relu(x) if number > 1 or self.activated else x
            names = (f"depthwise{number}", f"pointwise{number}")
            x = separable(x, channels, 3, names=names, dtype=self.dtype)
            x = layers.batch_norm(f"bn{number}", train, self.dtype)(x)
        x = x if self.strides == 1 else layers.max_pool(x, 3, 2, padding=1)
        if self.strides > 1 or inputs.shape[-1] != outputs:
            conv = pointwise(outputs, name="shortcut", dtype=self.dtype, strides=self.strides)
            inputs = layers.batch_norm("shortcut_bn", train, self.dtype)(conv(inputs))
        return x + inputs


class Xception(nn.Module):
    """22,855,952 parameters: two 3×3 convolutions, 12 blocks, two separable convolutions, classes.

    The first two convolutions are not padded, all others by one pixel on every side; the first has
    strides 2. In training, dropout precedes the last layer (it needs `rngs={"dropout": key}`).
    BatchNorm has momentum 0.9 and epsilon 1e-5, kernels are normal with variance 2 / fan out
    (depthwise: 2 / 9), the last layer's with deviation 0.01, biases zero, as PyTorch's ports have
    them; the paper is silent.

    Source: Chollet, arXiv:1610.02357, Figure 5 and Section 4.3, without its optional dense layers.

    Attributes:
      classes: number of outputs.
      width: multiplies all channels.
      dtype: the type in which layers compute.
      dropout: rate before the last layer, in [0, 1).
      small: whether it takes images of 32×32: all convolutions are padded, and the first one and
        the first block, which would halve them, have strides 1 and no pooling.

    Raises:
      ValueError: another rate.
    """

    image: ClassVar = (299, 299, 3)
    settings: ClassVar[tuple[str, ...]] = ("dropout",)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    dropout: float = 0.5
    small: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be at least 0 and less than 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = layers.as_images(inputs)
        for number, channels in enumerate(ENTRY, 1):
            conv = layers.conv(
                scaled(channels, self.width),
                3,
                name=f"conv{number}",
                kernel_init=he_fan_out,
                dtype=self.dtype,
                strides=1 if self.small or number > 1 else 2,
                padding=1 if self.small else 0,
                bias=False,
            )
            x = nn.relu(layers.batch_norm(f"bn{number}", train, self.dtype)(conv(x)))
        for number, (each, strides) in enumerate(BLOCKS, 1):
            units = tuple(scaled(channels, self.width) for channels in each)
            strides = 1 if self.small and number == 1 else strides
            block = Block(units, strides, number > 1, self.dtype, name=f"block{number}")
            x = block(x, train)
        for number, channels in enumerate(EXIT, 3):
            names = (f"depthwise{number}", f"pointwise{number}")
            x = separable(x, scaled(channels, self.width), 3, names=names, dtype=self.dtype)
            x = nn.relu(layers.batch_norm(f"bn{number}", train, self.dtype)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(layers.global_average(x))
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=dense_init, name="output")(x)


class XceptionSmall(Xception):
    """20,827,442 parameters for 3 channels and 10 classes."""

    image: ClassVar = (32, 32, 3)
    small: bool = True
