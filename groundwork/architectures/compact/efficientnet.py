"""EfficientNet and EfficientNet-Lite, their compound scaling, and forms for images of 32×32."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.blocks import Activation, InvertedResidual, Stage, standard
from groundwork.architectures.initializers import in_eights

STEM, HEAD = 32, 1280  # channels of the first and the last convolution
MOMENTUM = 0.99  # of BatchNorm: the paper's Section 5.2
REDUCED = 4  # squeeze-and-excite has the block's input channels divided by it
RATIOS = (1.2, 1.1, 1.15)  # α, β, γ of the paper's equation 3: depth, width, resolution
SWISH: Mapping[str, Activation] = MappingProxyType({"swish": nn.silu})
RELUS: Mapping[str, Activation] = MappingProxyType({"relu6": nn.relu6, "relu": nn.relu})

dense_init = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")  # ±1 / √classes


STAGES = (  # the paper's Table 1: expansion, window, strides, channels, blocks
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


class Compound(NamedTuple):
    """How a larger EfficientNet is scaled from B0.

    Attributes:
      width: multiplies all channels.
      depth: multiplies the blocks of each stage.
      resolution: pixels of the images, height and width.
      dropout: before the last layer.
    """

    width: float
    depth: float
    resolution: int
    dropout: float


PUBLISHED = {
    "b0": Compound(1.0, 1.0, 224, 0.2),
    "b1": Compound(1.0, 1.1, 240, 0.2),
    "b2": Compound(1.1, 1.2, 260, 0.3),
    "b3": Compound(1.2, 1.4, 300, 0.3),
    "b4": Compound(1.4, 1.8, 380, 0.4),
    "b5": Compound(1.6, 2.2, 456, 0.4),
    "b6": Compound(1.8, 2.6, 528, 0.5),
    "b7": Compound(2.0, 3.1, 600, 0.5),
}


def compound(scale: float | str) -> Compound:
    """Returns the multipliers of a larger EfficientNet, for the settings of `efficientnet_b0`.

    Source: Tan & Le, arXiv:1905.11946, equation 3. The released networks are not exactly on it.

    Args:
      scale: φ ≥ 0 of that equation (width 1.1^φ, depth 1.2^φ, resolution 224 × 1.15^φ, dropout
        0.2 + 0.3 × φ / 7, at most 0.5); or a released network, `b0` to `b7`.

    Raises:
      ValueError: it is neither.
    """
    if isinstance(scale, str):
        if scale not in PUBLISHED:
            raise ValueError(f"{scale!r} is no EfficientNet: take one of {', '.join(PUBLISHED)}")
        return PUBLISHED[scale]
    if not 0 <= scale < math.inf:
        raise ValueError(f"φ = {scale} must be at least 0")
    depth, width, resolution = (ratio**scale for ratio in RATIOS)
    return Compound(width, depth, round(224 * resolution), min(0.5, 0.2 + 0.3 * scale / 7))


class EfficientNet(nn.Module):
    """A 3×3 convolution, seven stages of inverted residual blocks, a 1×1 convolution, classes.

    Blocks have squeeze-and-excite, with a quarter of the block's input channels between its layers.
    Every convolution has BatchNorm, and swish follows unless it is a block's last. In training,
    blocks are dropped (the deeper, the more often) and dropout precedes the last layer; both need
    `rngs={"dropout": key}`. BatchNorm's momentum is 0.99.
    Kernels are normal with variance 2 / fan out (depthwise: 2 / k²), the last layer's uniform in
    ±1/√classes, biases zero. Channels are rounded to multiples of 8, blocks rounded up.

    The Lite form has no squeeze-and-excite and ReLU6 in place of swish; neither its first and last
    convolution are widened nor its first and last stage deepened.

    Source: Tan & Le, arXiv:1905.11946, Table 1 (B0), Section 5.2; Lite: the authors' release in
    tensorflow/tpu. Departs as torchvision and timm do, so that their weights compute the same:
    (k − 1) / 2 pixels are padded on every side (released: SAME), and BatchNorm's epsilon is 1e-5
    (released: 1e-3).

    Attributes:
      classes: number of outputs.
      width: multiplies all channels, see `compound`.
      dtype: the type in which layers compute.
      depth: multiplies the blocks of each stage, rounded up, see `compound`.
      dropout: rate before the last layer, in [0, 1).
      stochastic_depth: times the share of blocks before it, a block's probability to be dropped in
        training, in [0, 1).
      activation: `swish`; of the Lite form `relu6` or `relu`.
      lite: whether it is the Lite form.
      small: whether it takes images of 32×32: the first convolution and the second stage, the
        first two that would halve them, have stride 1.

    Raises:
      ValueError: another activation, or a depth or a rate outside its range.
    """

    image: ClassVar = (224, 224, 3)
    settings: ClassVar[tuple[str, ...]] = ("depth", "dropout", "stochastic_depth")
    activations: ClassVar[Mapping[str, Activation]] = SWISH

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    depth: float = 1.0
    dropout: float = 0.2
    stochastic_depth: float = 0.2
    activation: str = "swish"
    lite: bool = False
    small: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.depth < math.inf:
            raise ValueError(f"depth={self.depth} must be positive (1.0 = the paper's)")
        for key in ("dropout", "stochastic_depth"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)} must be at least 0 and less than 1")
        if self.activation not in self.activations:
            known = ", ".join(self.activations)
            raise ValueError(f"activation={self.activation!r} is none of {known}")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        activation, outside = self.activations[self.activation], 1.0 if self.lite else self.width
        x = layers.as_images(inputs)
        x = self._conv(x, in_eights(STEM, outside), 3, 1 if self.small else 2, "conv1", train)
        stages, done = self.stages(), 0
        blocks = sum(stage.blocks for stage in stages)
        for number, stage in enumerate(stages, 1):
            for block in range(1, stage.blocks + 1):
                x = InvertedResidual(
                    stage.channels,
                    stage.size,
                    stage.strides if block == 1 else 1,
                    stage.expansion,
                    self.dtype,
                    activation,
                    0 if self.lite else max(1, x.shape[-1] // REDUCED),
                    self.stochastic_depth * done / blocks,
                    MOMENTUM,
                    name=f"block{number}_{block}",
                )(x, train)
                done += 1
        x = layers.global_average(self._conv(x, in_eights(HEAD, outside), 1, 1, "conv2", train))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=dense_init, name="output")(x)

    def stages(self) -> list[Stage]:
        """Returns the stages as this network has them: scaled, with its strides."""
        found = []
        for number, stage in enumerate(STAGES, 1):
            fixed = self.lite and number in (1, len(STAGES))
            blocks = stage.blocks if fixed else math.ceil(stage.blocks * self.depth)
            strides = 1 if self.small and number == 2 else stage.strides
            channels = in_eights(stage.channels, self.width)
            found.append(stage._replace(blocks=blocks, strides=strides, channels=channels))
        return found

    def _conv(
        self, x: jax.Array, channels: int, size: int, strides: int, name: str, train: bool
    ) -> jax.Array:
        conv = standard(channels, size, name=name, dtype=self.dtype, strides=strides)
        norm = layers.batch_norm(name.replace("conv", "bn"), train, self.dtype, MOMENTUM)
        return self.activations[self.activation](norm(conv(x)))


class EfficientNetB0(EfficientNet):
    """5,288,548 parameters for 1000 classes; B1 to B7 by the settings that `compound` returns."""


class EfficientNetLite0(EfficientNet):
    """4,652,008 parameters for 1000 classes. `activation="relu"` makes it positively homogeneous.

    Between a block's convolutions, that is; released weights are for `relu6`.
    """

    settings: ClassVar[tuple[str, ...]] = (*EfficientNet.settings, "activation")
    activations: ClassVar[Mapping[str, Activation]] = RELUS

    activation: str = "relu6"
    lite: bool = True


class EfficientNetB0Small(EfficientNetB0):
    """4,020,358 parameters for 3 channels and 10 classes."""

    image: ClassVar = (32, 32, 3)
    small: bool = True


class EfficientNetLite0Small(EfficientNetLite0):
    """3,383,818 parameters for 3 channels and 10 classes."""

    image: ClassVar = (32, 32, 3)
    small: bool = True
