"""The multi-scale dense network: several exits, coarse features everywhere.

Read `MSDNet` first. Source: Huang et al., arXiv:1703.09844, Section 4 and Appendix A; what the
paper leaves open is as in the authors' code.
"""

# B batch, H W image, C channels, K exits
# Features: one [B, H / 2ˢ, W / 2ˢ, C] a scale s, finest first

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.errors import UserError, unknown
from msdnet import plan
from msdnet.plan import Layer

Features = Any  # the images, before the first block; then a tuple of arrays
STEMS = ("cifar", "imagenet")
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
        if self.bottleneck:
            inner = min(x.shape[-1], self.bottleneck * self.channels)
            x = ConvNorm(inner, 1, dtype=self.dtype, name="bottleneck")(x, train)
        return ConvNorm(self.channels, 3, self.strides, self.dtype, name="conv")(x, train)


class Stem(nn.Module):
    """The first layer: images → a feature map a scale, each made of the next finer one."""

    channels: tuple[int, ...]  # a scale
    kind: str
    dtype: DTypeLike

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        unit = functools.partial(ConvNorm, dtype=self.dtype)
        first, *coarser = self.channels
        if self.kind == "cifar":
            x = unit(first, name="scale0")(images, train)
        else:
            x = unit(first, 7, 2, name="scale0")(images, train)
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        found = [x]
        for scale, channels in enumerate(coarser, 1):
            found.append(unit(channels, 3, 2, name=f"scale{scale}")(found[-1], train))
        return tuple(found)


class Block(nn.Module):
    """The layers up to one exit: features of the block before (images, for the first) → features.

    Each layer adds channels to every scale that goes on: from its own past, and beside it from the
    next finer scale's by a convolution of stride 2. A scale that does not go on is read once more.
    """

    layers: tuple[Layer, ...]
    growth: int
    growth_factors: tuple[int, ...]
    bottleneck_factors: tuple[int, ...]
    stem: Stem | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self, features: Features, train: bool) -> tuple[jax.Array, ...]:
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
        scales, grown = len(self.growth_factors), []
        features = features[-layer.inputs :]  # a shallow network's stem makes more
        for scale in range(scales - layer.outputs, scales):
            place = scale - (scales - layer.inputs)
            own, new = features[place], self.growth * self.growth_factors[scale]
            step = functools.partial(Step, dtype=self.dtype)
            factors = self.bottleneck_factors
            name = f"layer{number}_{scale}"
            if place == 0:  # nothing finer
                added = [step(new, factors[scale], 1, name=f"{name}_own")(own, train)]
            else:
                finer = features[place - 1]
                added = [
                    step(new // 2, factors[scale - 1], 2, name=f"{name}_finer")(finer, train),
                    step(new // 2, factors[scale], 1, name=f"{name}_own")(own, train),
                ]
            grown.append(jnp.concatenate([own, *added], -1))
        return tuple(grown)


class Classifier(nn.Module):
    """Two 3×3 convolutions of stride 2 on the coarsest scale, average, linear: [B, classes].

    `channels` in between, or (0) as many as come in.
    """

    classes: int
    channels: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, features: tuple[jax.Array, ...], train: bool) -> jax.Array:
        x = features[-1]
        channels = self.channels or x.shape[-1]
        for name in ("conv1", "conv2"):
            x = ConvNorm(channels, 3, 2, self.dtype, name=name)(x, train)
        x = layers.global_average(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=linear, name="linear")(x)


class ExitNetwork(nn.Module):
    """What `cost`, `objective` and `predict` need; a network has the last three of its own."""

    def __post_init__(self) -> None:
        """Lists become tuples: a network must have a hash."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name, None)
            if isinstance(value, list):
                setattr(self, field.name, tuple(value))
        super().__post_init__()

    def __call__(self, images: jax.Array, train: bool = False) -> list[jax.Array]:
        """Logits of all exits, K × [B, classes]."""
        features, found = images, []
        for k in range(self.exits):
            features, logits = self.block(k, features, train)
            found.append(logits)
        return found

    def block(self, k: int, features: Features, train: bool = False) -> tuple[Features, jax.Array]:
        """What the next block takes, and exit k's logits [B, classes]."""
        features = self.advance(k, features, train)
        return features, self.classify(k, features, train)

    @property
    def exits(self) -> int:
        """How many exits there are."""
        raise NotImplementedError

    def advance(self, k: int, features: Features, train: bool = False) -> Features:
        """Block k without its classifier."""
        raise NotImplementedError

    def classify(self, k: int, features: Features, train: bool = False) -> jax.Array:
        """Exit k's logits, [B, classes]."""
        raise NotImplementedError


class MSDNet(ExitNetwork):
    """A multi-scale dense network. Called: images [B, H, W, C] → logits, one [B, classes] an exit.

    The same parameters serve the network block by block: `features, logits = block(k, features)`
    (`model.apply(variables, k, features, method="block")`), where block 0 takes the images.

    Attributes:
      classes: number of classes.
      blocks: exits, K.
      base: layers before the first exit.
      step: layers between exits; see `plan.spans`.
      step_mode: `even` or `lin_grow`.
      channels: of the finest scale after the first layer.
      growth: channels that a layer adds to the finest scale.
      growth_factors: a factor a scale on `channels` and `growth`, finest first.
      bottleneck_factors: a factor a scale on the bottleneck's width; 0 = no bottleneck.
      reduction: share of the channels that a transition keeps; 0 = no transitions.
      prune: how finer scales are dropped, `max` or `min`; see `plan.layers`.
      stem: `cifar`, or `imagenet` (7×7 of stride 2 and pooling first).
      head: channels of the classifiers' convolutions; 0 = as many as come in. The paper has 128 for
        CIFAR, 0 for ImageNet.
      dtype: what layers compute in; parameters stay float32.

    Departs: classifiers end in an average over all pixels, which at the paper's image sizes are the
    2×2 that it averages.
    """

    classes: int
    blocks: int = 7
    base: int = 4
    step: int = 2
    step_mode: str = "even"
    channels: int = 16
    growth: int = 6
    growth_factors: tuple[int, ...] = (1, 2, 4)
    bottleneck_factors: tuple[int, ...] = (1, 2, 4)
    reduction: float = 0.5
    prune: str = "max"
    stem: str = "cifar"
    head: int = 128
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Check what was asked for, and make blocks and classifiers."""
        self._check()
        factors = tuple(self.growth_factors)
        spans = plan.spans(self.blocks, self.base, self.step, self.step_mode)
        laid_out = plan.layers(
            spans, len(factors), self.channels, self.growth, self.reduction, self.prune
        )
        stem = Stem(tuple(self.channels * f for f in factors), self.stem, self.dtype)
        bottlenecks = tuple(self.bottleneck_factors)
        self.backbone = [
            Block(tuple(b), self.growth, factors, bottlenecks, None if k else stem, self.dtype)
            for k, b in enumerate(laid_out)
        ]
        heads = range(self.blocks)
        self.classifier = [Classifier(self.classes, self.head, self.dtype) for _ in heads]

    @property
    def exits(self) -> int:
        return self.blocks

    def advance(self, k: int, features: Features, train: bool = False) -> Features:
        features = features if k else layers.as_images(features)
        return self.backbone[k](features, train)

    def classify(self, k: int, features: Features, train: bool = False) -> jax.Array:
        return self.classifier[k](features, train)

    def _check(self) -> None:
        for name, known in (("step_mode", plan.STEP_MODES), ("prune", plan.PRUNE), ("stem", STEMS)):
            if getattr(self, name) not in known:
                raise unknown(f"msdnet.{name}", getattr(self, name), known)
        for name in ("classes", "blocks", "base", "step", "channels", "growth", "head"):
            least = 0 if name == "head" else 1
            if not _integers([getattr(self, name)], least):
                raise UserError(
                    f"msdnet.{name}={getattr(self, name)} must be an integer, at least {least}"
                )
        if not isinstance(self.reduction, float | int) or not 0 <= self.reduction < 1:
            raise UserError(f"msdnet.reduction={self.reduction} must be in [0, 1)")
        factors, bottlenecks = self.growth_factors, self.bottleneck_factors
        for name, given, least in (
            ("growth_factors", factors, 1),
            ("bottleneck_factors", bottlenecks, 0),
        ):
            if not isinstance(given, Sequence) or not _integers(given, least):
                raise UserError(f"msdnet.{name}={given} must be integers, at least {least}")
        if len(factors) != len(bottlenecks) or not factors:
            raise UserError(
                f"msdnet.growth_factors={factors} and msdnet.bottleneck_factors={bottlenecks} must "
                "have an entry a scale"
            )
        if any(self.growth * factor % 2 for factor in factors[1:]):
            raise UserError(
                f"msdnet.growth={self.growth} × msdnet.growth_factors={factors} must be even from "
                "the second scale on: half comes from the finer scale"
            )


def _integers(values: Sequence[Any], least: int) -> bool:
    known = (isinstance(value, int | np.integer) and value >= least for value in values)
    return all(known) and not any(isinstance(value, bool) for value in values)
