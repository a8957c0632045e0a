"""MobileNet v1 and v2, and forms for images of 32×32."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.blocks import (
    Activation,
    InvertedResidual,
    Stage,
    depthwise,
    pointwise,
    standard,
)
from groundwork.architectures.initializers import in_eights, scaled

STEM, HEAD = 32, 1280  # channels of the first convolution, and of v2's last one
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType({"relu6": nn.relu6, "relu": nn.relu})
V1 = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))  # channels and blocks of each stage
V2 = (  # the paper's Table 2: expansion, window, strides, channels, blocks
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 3, 2, 32, 3),
    Stage(6, 3, 2, 64, 4),
    Stage(6, 3, 1, 96, 3),
    Stage(6, 3, 2, 160, 3),
    Stage(6, 3, 1, 320, 1),
)

dense_init = nn.initializers.normal(0.01)


def chosen(activation: str) -> Activation:
    """Returns the activation of that name; raises ValueError if it is none of `ACTIVATIONS`."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is none of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[activation]


class Block(nn.Module):
    """A 3×3 depthwise and a 1×1 convolution, each followed by BatchNorm and the activation.

    [B, H, W, C] → [B, ⌈H / strides⌉, ⌈W / strides⌉, O]; 9·C + C·O + 2·C + 2·O parameters;
    H'·W'·C·(9 + O) multiply-adds.
    """

    channels: int
    strides: int
    activation: Activation
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        inputs = x.shape[-1]
        x = depthwise(inputs, 3, name="depthwise", dtype=self.dtype, strides=self.strides)(x)
        x = self.activation(layers.batch_norm("depthwise_bn", train, self.dtype)(x))
        x = pointwise(self.channels, name="pointwise", dtype=self.dtype)(x)
        return self.activation(layers.batch_norm("pointwise_bn", train, self.dtype)(x))


class MobileNetV1(nn.Module):
    """4,231,976 parameters: a 3×3 convolution, 13 depthwise-separable blocks, average, classes.

    Padding is one pixel on every side, BatchNorm has momentum 0.9 and epsilon 1e-5, kernels are
    normal with variance 2 / fan out (depthwise: 2 / 9), the last layer's normal with deviation
    0.01, biases zero. The paper's resolution multiplier is the size of the images.

    Source: Howard et al., arXiv:1704.04861, Table 1, whose last depthwise convolution has strides 1
    (s2 there contradicts its own sizes). Departs as the authors' release and timm do: the
    activation is ReLU6 (paper: ReLU, `activation="relu"`). Padding, BatchNorm and initial values,
    on which the paper is silent, are timm's; the release has SAME padding, momentum 0.9997 and
    epsilon 1e-3.

    Attributes:
      classes: number of outputs.
      width: multiplies all channels; the paper has 1, 0.75, 0.5 and 0.25.
      dtype: the type in which layers compute.
      activation: `relu6` or `relu`.
      shallow: whether the five blocks of 512 channels at 14×14 are left out (the paper's Table 5).
      small: whether it takes images of 32×32: the first convolution and the second stage, the
        first two that would halve them, have stride 1.

    Raises:
      ValueError: another activation.
    """

    image: ClassVar = (224, 224, 3)
    settings: ClassVar[tuple[str, ...]] = ("activation", "shallow")

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    activation: str = "relu6"
    shallow: bool = False
    small: bool = False

    def __post_init__(self) -> None:
        chosen(self.activation)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        activation, x = chosen(self.activation), layers.as_images(inputs)
        strides, channels = 1 if self.small else 2, scaled(STEM, self.width)
        x = standard(channels, 3, name="conv1", dtype=self.dtype, strides=strides)(x)
        x = activation(layers.batch_norm("bn1", train, self.dtype)(x))
        for stage, blocks in enumerate(self.blocks(), 1):
            channels = scaled(V1[stage - 1][0], self.width)
            for block in range(1, blocks + 1):
                halves = block == 1 and stage > (2 if self.small else 1)
                strides, name = 2 if halves else 1, f"block{stage}_{block}"
                x = Block(channels, strides, activation, self.dtype, name=name)(x, train)
        x = layers.global_average(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=dense_init, name="output")(x)

    def blocks(self) -> list[int]:
        """Returns how many blocks each stage has."""
        return [1 if self.shallow and channels == 512 else blocks for channels, blocks in V1]


class MobileNetV2(nn.Module):
    """3,504,872 parameters: a 3×3 convolution, 17 inverted residual blocks, a 1×1 convolution.

    BatchNorm follows every convolution, ReLU6 all but a block's last; global average, dropout (in
    training, with `rngs={"dropout": key}`) and classes end it. Channels are rounded to multiples of
    8; the last convolution never has fewer than 1280. Padding is one pixel on every side, BatchNorm
    has momentum 0.9 and epsilon 1e-5; kernels are normal with variance 2 / fan out (depthwise:
    2 / 9), the last layer's normal with deviation 0.01, biases zero: as torchvision has them, on
    which the paper is silent.

    Source: Sandler et al., arXiv:1801.04381, Table 2 and Section 6.1. The 6.9 M parameters that it
    gives for width 1.4 are not what its table adds up to, 6,108,776.

    Attributes:
      classes: number of outputs.
      width: multiplies all channels; the paper has 0.35 to 1.4.
      dtype: the type in which layers compute.
      activation: `relu6` or `relu`.
      dropout: rate before the last layer, in [0, 1).
      small: whether it takes images of 32×32: the first convolution and the second stage, the
        first two that would halve them, have stride 1.

    Raises:
      ValueError: another activation or rate.
    """

    image: ClassVar = (224, 224, 3)
    settings: ClassVar[tuple[str, ...]] = ("activation", "dropout")

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    activation: str = "relu6"
    dropout: float = 0.2
    small: bool = False

    def __post_init__(self) -> None:
        chosen(self.activation)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be at least 0 and less than 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        def conv(x: jax.Array, channels: int, size: int, number: int, strides: int) -> jax.Array:
            name = f"conv{number}"
            x = standard(channels, size, name=name, dtype=self.dtype, strides=strides)(x)
            return activation(layers.batch_norm(f"bn{number}", train, self.dtype)(x))

        activation, x = chosen(self.activation), layers.as_images(inputs)
        x = conv(x, in_eights(STEM, self.width), 3, 1, 1 if self.small else 2)
        for number, stage in enumerate(self.stages(), 1):
            for block in range(1, stage.blocks + 1):
                x = InvertedResidual(
                    stage.channels,
                    stage.size,
                    stage.strides if block == 1 else 1,
                    stage.expansion,
                    self.dtype,
                    activation,
                    name=f"block{number}_{block}",
                )(x, train)
        x = layers.global_average(conv(x, in_eights(HEAD, max(1.0, self.width)), 1, 2, 1))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=dense_init, name="output")(x)

    def stages(self) -> list[Stage]:
        """Returns the stages as this network has them: scaled, with its strides."""
        return [
            stage._replace(
                channels=in_eights(stage.channels, self.width),
                strides=1 if self.small and number == 2 else stage.strides,
            )
            for number, stage in enumerate(V2, 1)
        ]


class MobileNetV1Small(MobileNetV1):
    """3,217,226 parameters for 3 channels and 10 classes."""

    image: ClassVar = (32, 32, 3)
    small: bool = True


class MobileNetV2Small(MobileNetV2):
    """2,236,682 parameters for 3 channels and 10 classes."""

    image: ClassVar = (32, 32, 3)
    small: bool = True
