"""The parts of a multi-scale dense network: stem, blocks of layers, classifiers.

Source: Huang et al., arXiv:1703.09844, Section 4 and Appendix A; where the paper is silent, the
authors' code.
"""

# B batch, H W image, C channels
# Features: one [B, H / 2ˢ, W / 2ˢ, C] for each scale s, finest first

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from msdnet.exit_network import Features
from msdnet.plan import Layer

# The authors' code draws kernels from normal(0, √(2 / (k·k·outputs))), He et al.'s for outputs.
he_outputs = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's default


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, ReLU; padded by half a window."""

    channels: int
    size: int = 3
    strides: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] → [B, ⌈H / strides⌉, ⌈W / strides⌉, channels]."""
        x = layers.conv(
            self.channels,
            self.size,
            strides=self.strides,
            padding=self.size // 2,
            bias=False,
            kernel_init=he_outputs,
            dtype=self.dtype,
            name="conv",
        )(x)
        return nn.relu(layers.batch_norm("bn", train, self.dtype)(x))


class Step(nn.Module):
    """A 1×1 bottleneck to at most `bottleneck` × channels (0 = none), then a 3×3 convolution."""

    channels: int
    bottleneck: int
    strides: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] → [B, ⌈H / strides⌉, ⌈W / strides⌉, channels]."""
        if self.bottleneck:
            inner = min(x.shape[-1], self.bottleneck * self.channels)
            x = ConvNorm(inner, 1, dtype=self.dtype, name="bottleneck")(x, train)
        return ConvNorm(self.channels, 3, self.strides, self.dtype, name="conv")(x, train)


class Stem(nn.Module):
    """The first layer; it makes each scale's features from those of the next finer scale."""

    channels: tuple[int, ...]  # of each scale
    kind: str
    dtype: DTypeLike

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """Images [B, H, W, C] → features."""
        unit = functools.partial(ConvNorm, dtype=self.dtype)
        first, *coarser = self.channels
        if self.kind == "cifar":
            x = unit(first, name="scale0")(images, train)
        else:
            x = unit(first, 7, 2, name="scale0")(images, train)
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        features = [x]
        for scale, channels in enumerate(coarser, 1):
            features.append(unit(channels, 3, 2, name=f"scale{scale}")(features[-1], train))
        return tuple(features)


class Block(nn.Module):
    """The layers before one exit, behind those of the block before.

    Each layer adds channels to every scale that goes on: half of them by a convolution of the scale
    itself, half by a convolution with stride 2 of the next finer scale. A scale that does not go on
    is read once more.
    """

    layers: tuple[Layer, ...]
    growth: int
    growth_factors: tuple[int, ...]
    bottleneck_factors: tuple[int, ...]
    stem: Stem | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self, features: Features, train: bool) -> tuple[jax.Array, ...]:
        """Features of the block before (the images, if there is a stem) → features."""
        if self.stem is not None:
            features = self.stem(features, train)
        for number, layer in enumerate(self.layers):
            features = self._grow(number, layer, features, train)
            if layer.transition:
                factors = self.growth_factors[-layer.outputs :]
                features = tuple(
                    ConvNorm(
                        layer.transition * factor,
                        1,
                        dtype=self.dtype,
                        name=f"transition{number}_{len(self.growth_factors) - layer.outputs + i}",
                    )(x, train)
                    for i, (x, factor) in enumerate(zip(features, factors, strict=True))
                )
        return tuple(features)

    def _grow(
        self, number: int, layer: Layer, features: tuple[jax.Array, ...], train: bool
    ) -> tuple[jax.Array, ...]:
        """Returns the features that the layer writes, from those that it reads."""
        scales, grown = len(self.growth_factors), []
        step = functools.partial(Step, dtype=self.dtype)
        bottlenecks = self.bottleneck_factors
        features = features[-layer.inputs :]  # a shallow network's stem makes more
        for scale in range(scales - layer.outputs, scales):
            place = scale - (scales - layer.inputs)
            past, new = features[place], self.growth * self.growth_factors[scale]
            name = f"layer{number}_{scale}"
            if place == 0:  # nothing finer
                added = [step(new, bottlenecks[scale], 1, name=f"{name}_own")(past, train)]
            else:
                finer = features[place - 1]
                added = [
                    step(new // 2, bottlenecks[scale - 1], 2, name=f"{name}_finer")(finer, train),
                    step(new // 2, bottlenecks[scale], 1, name=f"{name}_own")(past, train),
                ]
            grown.append(jnp.concatenate([past, *added], -1))
        return tuple(grown)


class Classifier(nn.Module):
    """Two 3×3 convolutions of stride 2 on the coarsest scale, average, linear layer.

    The convolutions have `channels`, or (0) as many as come in.
    """

    classes: int
    channels: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, features: tuple[jax.Array, ...], train: bool) -> jax.Array:
        """Features → logits [B, classes]."""
        x = features[-1]
        channels = self.channels or x.shape[-1]
        for name in ("conv1", "conv2"):
            x = ConvNorm(channels, 3, 2, self.dtype, name=name)(x, train)
        x = layers.global_average(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=linear, name="linear")(x)
