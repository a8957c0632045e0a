"""The networks with which a multi-scale dense network is compared; all are `ExitNetwork`s.

Source: Huang et al., arXiv:1703.09844, Section 5.1: a ResNet with several classifiers (ResNet^MC)
and ensembles of ResNets of growing depth.
"""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled
from groundwork.architectures.resnet import CHANNELS, ResNet
from groundwork.architectures.resnet import Block as Residual
from groundwork.errors import UserError
from msdnet.exit_network import ExitNetwork, Features
from msdnet.plan import MOST_LAYERS


class Segment(nn.Module):
    """The residual blocks before one exit; the first segment begins with the 3×3 convolution."""

    blocks: tuple[tuple[int, int], ...]  # channels and strides
    stem: int  # channels of the first convolution; 0 = there is none
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if self.stem:
            conv = layers.conv(
                self.stem,
                3,
                name="conv1",
                kernel_init=layers.he,
                dtype=self.dtype,
                padding=1,
                bias=False,
            )
            x = conv(layers.as_images(x))
            x = nn.relu(layers.batch_norm("bn1", train, self.dtype)(x))
        for number, (channels, strides) in enumerate(self.blocks):
            x = Residual(channels, strides, self.dtype, name=f"block{number}")(x, train)
        return x


class Average(nn.Module):
    """Global average, linear layer."""

    classes: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        dense = nn.Dense(self.classes, dtype=self.dtype, kernel_init=layers.he, name="output")
        return dense(layers.global_average(x))


class ResNetExits(ExitNetwork):
    """A CIFAR ResNet with a classifier after every `every` residual blocks.

    Departs: each classifier is an average and a linear layer, like the ResNet's last one; any
    number of exits is possible (the paper's ResNet-62 has seven).

    Attributes:
      classes: number of classes.
      width: multiplies the channels 16, 32, 64.
      blocks: residual blocks in each stage; the network has 6 × blocks + 2 layers.
      every: residual blocks between exits; it divides 3 × blocks.
      dtype: the type in which layers compute.
    """

    classes: int
    width: float = 1.0
    blocks: int = 3
    every: int = 1
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Check the attributes, and make segments and classifiers."""
        _check_width("resnet_exits", self.width)
        for key in ("blocks", "every"):
            value = getattr(self, key)
            if not isinstance(value, int) or not 1 <= value <= MOST_LAYERS:
                raise UserError(
                    f"resnet_exits.{key}={value} must be an integer from 1 to {MOST_LAYERS}"
                )
        if 3 * self.blocks % self.every:
            raise UserError(
                f"resnet_exits.every={self.every} must divide the {3 * self.blocks} residual blocks"
            )
        widths = [scaled(channels, self.width) for channels in CHANNELS]
        blocks = [
            (channels, 2 if stage and not block else 1)
            for stage, channels in enumerate(widths)
            for block in range(self.blocks)
        ]
        starts = range(0, len(blocks), self.every)
        self.backbone = [
            Segment(tuple(blocks[i : i + self.every]), 0 if i else widths[0], self.dtype)
            for i in starts
        ]
        self.classifier = [Average(self.classes, self.dtype) for _ in starts]

    @property
    def exits(self) -> int:
        return 3 * self.blocks // self.every

    def advance(self, k: int, features: Features, train: bool = False) -> jax.Array:
        return self.backbone[k](features, train)

    def classify(self, k: int, features: Features, train: bool = False) -> jax.Array:
        return self.classifier[k](features, train)


class ResNets(ExitNetwork):
    """Separate ResNets of growing depth, evaluated in turn: exit k is the answer of the k-th one.

    Each network is trained by its exit's loss only, and is a plain ResNet.
    Departs: the answers of earlier networks are not averaged in.

    Attributes:
      classes: number of classes.
      width: multiplies the channels 16, 32, 64 of all networks.
      blocks: residual blocks in each stage, one entry per network.
      dtype: the type in which layers compute.
    """

    classes: int
    width: float = 1.0
    blocks: tuple[int, ...] = (1, 2, 3)
    dtype: DTypeLike = jnp.float32
    alone = True

    def setup(self) -> None:
        """Check the attributes, and make one network per exit."""
        _check_width("resnets", self.width)
        given = self.blocks if isinstance(self.blocks, Sequence) else ()
        if not given or not all(isinstance(b, int) and 1 <= b <= MOST_LAYERS for b in given):
            raise UserError(
                f"resnets.blocks={self.blocks} must be integers from 1 to {MOST_LAYERS}, one per "
                "network"
            )
        make = functools.partial(ResNet, self.classes, self.width, self.dtype)
        self.classifier = [make(blocks) for blocks in self.blocks]

    @property
    def exits(self) -> int:
        return len(self.blocks)

    def advance(self, k: int, features: Features, train: bool = False) -> jax.Array:
        return features

    def classify(self, k: int, features: Features, train: bool = False) -> jax.Array:
        return self.classifier[k](features, train)


def _check_width(name: str, width: float) -> None:
    if not 0 < width < math.inf:
        raise UserError(f"{name}.width={width} must be positive (1.0 = the paper's)")
