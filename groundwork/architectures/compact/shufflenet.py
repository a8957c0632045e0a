"""ShuffleNet v1 and v2, and forms for images of 32×32."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.blocks import depthwise, group, pointwise, shuffle, standard
from groundwork.architectures.initializers import scaled

STEM = 24  # channels of the first convolution
BLOCKS = (4, 8, 4)  # of stages 2 to 4
V1: Mapping[int, int] = MappingProxyType({1: 144, 2: 200, 3: 240, 4: 272, 8: 384})
"""Groups → channels of stage 2: the paper's Table 1. Each further stage has twice as many."""
V2: Mapping[float, tuple[int, int]] = MappingProxyType(
    {0.5: (48, 1024), 1.0: (116, 1024), 1.5: (176, 1024), 2.0: (244, 2048)}
)
"""Width → channels of stage 2 and of the last convolution: the paper's Table 5."""

dense_init = nn.initializers.normal(0.01)


class UnitV1(nn.Module):
    """A residual unit of group convolutions with a channel shuffle between them.

    A 1×1 group convolution to M = ⌈channels / 4 / groups⌉ · groups channels with BatchNorm and
    ReLU, the shuffle, a 3×3 depthwise convolution with BatchNorm, a 1×1 group convolution with
    BatchNorm. With strides 1 the inputs are added to its outputs; with strides 2 the outputs
    follow the inputs, averaged over 3×3, and have as many channels as these lack. ReLU ends it.

    [B, H, W, C] → [B, ⌈H / strides⌉, ⌈W / strides⌉, O]. With F = O, or O − C with strides 2,
    M·(C / first + 9 + F / groups) + 2·(2·M + F) parameters and H·W·M·C / first +
    H'·W'·M·(9 + F / groups) multiply-adds.

    Attributes:
      channels: O.
      groups: g.
      first: groups of the first convolution.
      strides: of the depthwise convolution.
      dtype: the type in which layers compute.
    """

    channels: int
    groups: int
    first: int
    strides: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        def norm(name: str, x: jax.Array) -> jax.Array:
            return layers.batch_norm(name, train, self.dtype)(x)

        inside = multiple(self.channels / 4, self.groups)
        outputs = self.channels - (inputs.shape[-1] if self.strides > 1 else 0)
        x = group(inside, 1, self.first, name="pointwise1", dtype=self.dtype)(inputs)
        x = shuffle(nn.relu(norm("bn1", x)), self.groups)
        x = depthwise(inside, 3, name="depthwise", dtype=self.dtype, strides=self.strides)(x)
        x = norm("depthwise_bn", x)
        x = norm("bn2", group(outputs, 1, self.groups, name="pointwise2", dtype=self.dtype)(x))
        if self.strides == 1:
            return nn.relu(x + inputs)
        shrunk = layers.average_pool(inputs, 3, 2, padding=1)
        return nn.relu(jnp.concatenate([shrunk.astype(x.dtype), x], -1))


class ShuffleNetV1(nn.Module):
    """A 3×3 convolution, max-pooling, three stages of shuffled group convolutions, classes.

    1,865,728 parameters for 1000 classes with 3 groups. Each stage begins with strides 2; the first
    convolution of stage 2 has no groups. Padding is one pixel on every side, BatchNorm has momentum
    0.9 and epsilon 1e-5; kernels are normal with variance 2 / fan in (without groups 2 / fan out),
    the last layer's with deviation 0.01, biases zero. The paper says nothing on these.

    Source: Zhang et al., arXiv:1707.01083, Table 1. Where a width does not fit the groups, channels
    are rounded up to the next multiple of them: the paper's own 0.5× has 12 channels in the first
    convolution, which 8 groups cannot concatenate to 192, and bottlenecks of 34 with 4 groups. All
    filters are scaled, as it says, although its 292 M multiply-adds at 1.5× and 13 M at 0.25×
    (3 groups) are those of 24 and 12 channels in the first convolution, not of 36 and 6.

    Attributes:
      classes: number of outputs.
      width: multiplies all channels; the paper has 0.25, 0.5, 1, 1.5 and 2.
      dtype: the type in which layers compute.
      groups: 1, 2, 3, 4 or 8, which also decide the channels.
      small: whether it takes images of 32×32: the first convolution has strides 1, and no pooling
        follows it.

    Raises:
      ValueError: another number of groups.
    """

    image: ClassVar = (224, 224, 3)
    settings: ClassVar[tuple[str, ...]] = ("groups",)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    groups: int = 3
    small: bool = False

    def __post_init__(self) -> None:
        if self.groups not in V1:
            known = ", ".join(map(str, V1))
            raise ValueError(f"groups={self.groups} of ShuffleNet v1 must be one of {known}")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = stem(inputs, multiple(STEM * self.width, self.groups), self.small, train, self.dtype)
        for stage, blocks in enumerate(BLOCKS, 2):
            channels = multiple((V1[self.groups] << (stage - 2)) * self.width, self.groups)
            for block in range(1, blocks + 1):
                first = 1 if stage == 2 and block == 1 else self.groups
                strides, name = 2 if block == 1 else 1, f"block{stage}_{block}"
                x = UnitV1(channels, self.groups, first, strides, self.dtype, name=name)(x, train)
        x = layers.global_average(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=dense_init, name="output")(x)


class UnitV2(nn.Module):
    """Half of the channels pass as they are, half go through three convolutions; then a shuffle.

    The convolutions, 1×1, 3×3 depthwise and 1×1, all have N = O / 2 outputs; BatchNorm follows
    each, ReLU the 1×1 ones. With strides 2 all channels take both ways, and the first way has a
    3×3 depthwise and a 1×1 convolution.

    [B, H, W, C] → [B, ⌈H / strides⌉, ⌈W / strides⌉, O]; with strides 1 (C = O) N·(2·N + 9) + 6·N
    parameters and H·W·N·(2·N + 9) multiply-adds; with strides 2 N·(2·C + N + 9) + 9·C + 2·C + 8·N
    parameters and H·W·N·C + H'·W'·(N·(N + 9 + C) + 9·C) multiply-adds.
    """

    channels: int
    strides: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        def mixed(name: str, x: jax.Array) -> jax.Array:
            x = pointwise(half, name=name, dtype=self.dtype)(x)
            return nn.relu(layers.batch_norm(f"{name}_bn", train, self.dtype)(x))

        def filtered(name: str, x: jax.Array) -> jax.Array:
            conv = depthwise(x.shape[-1], 3, name=name, dtype=self.dtype, strides=self.strides)
            return layers.batch_norm(f"{name}_bn", train, self.dtype)(conv(x))

        half = self.channels // 2
        if self.strides > 1:
            kept = mixed("shortcut_pointwise", filtered("shortcut_depthwise", inputs))
            x = inputs
        else:
            kept, x = inputs[..., :half], inputs[..., half:]
        x = mixed("pointwise2", filtered("depthwise", mixed("pointwise1", x)))
        return shuffle(jnp.concatenate([kept.astype(x.dtype), x], -1), 2)


class ShuffleNetV2(nn.Module):
    """A 3×3 convolution, max-pooling, three stages of units, a 1×1 convolution, classes.

    2,278,604 parameters for 1000 classes at width 1. Padding, BatchNorm and initial values are
    `ShuffleNetV1`'s.

    Source: Ma et al., arXiv:1807.11164, Section 3.2 and Table 5.

    Attributes:
      classes: number of outputs.
      width: 0.5, 1, 1.5 or 2: which of the paper's networks; the first convolution has 24 channels
        in all of them.
      dtype: the type in which layers compute.
      small: whether it takes images of 32×32: the first convolution has strides 1, and no pooling
        follows it.

    Raises:
      ValueError: another width.
    """

    image: ClassVar = (224, 224, 3)
    widths: ClassVar = tuple(V2)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    small: bool = False

    def __post_init__(self) -> None:
        if self.width not in V2:
            known = ", ".join(map(str, V2))
            raise ValueError(f"width={self.width} of ShuffleNet v2 must be one of {known}")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = stem(inputs, STEM, self.small, train, self.dtype)
        channels, last = V2[self.width]
        for stage, blocks in enumerate(BLOCKS, 2):
            for block in range(1, blocks + 1):
                strides, name = 2 if block == 1 else 1, f"block{stage}_{block}"
                units = channels << (stage - 2)
                x = UnitV2(units, strides, self.dtype, name=name)(x, train)
        x = pointwise(last, name="conv5", dtype=self.dtype)(x)
        x = nn.relu(layers.batch_norm("bn5", train, self.dtype)(x))
        x = layers.global_average(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=dense_init, name="output")(x)


class ShuffleNetV1Small(ShuffleNetV1):
    """914,338 parameters for 3 channels and 10 classes with 3 groups."""

    image: ClassVar = (32, 32, 3)
    small: bool = True


class ShuffleNetV2Small(ShuffleNetV2):
    """1,263,854 parameters for 3 channels and 10 classes."""

    image: ClassVar = (32, 32, 3)
    small: bool = True


def multiple(channels: float, groups: int) -> int:
    """Returns the channels, rounded, and then up to the next multiple of `groups`."""
    return -(-scaled(1, channels) // groups) * groups


def stem(inputs: jax.Array, channels: int, small: bool, train: bool, dtype: DTypeLike) -> jax.Array:
    """Returns images after the first convolution, BatchNorm, ReLU and max-pooling."""
    strides = 1 if small else 2
    conv = standard(channels, 3, name="conv1", dtype=dtype, strides=strides)
    x = nn.relu(layers.batch_norm("bn1", train, dtype)(conv(layers.as_images(inputs))))
    return x if small else layers.max_pool(x, 3, 2, padding=1)
