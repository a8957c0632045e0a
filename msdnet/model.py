"""The multi-scale dense network: several exits, coarse features everywhere.

Source: Huang et al., arXiv:1703.09844, Section 4 and Appendix A; where the paper is silent, the
authors' code.
"""

# B batch, H W image, C channels, K exits

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.errors import UserError, unknown
from msdnet import plan
from msdnet.blocks import Block, Classifier, Stem
from msdnet.exit_network import ExitNetwork, Features

STEMS = ("cifar", "imagenet")


class MSDNet(ExitNetwork):
    """A multi-scale dense network: images [B, H, W, C] → the logits of each exit, K × [B, classes].

    Attributes:
      classes: number of classes.
      blocks: number of exits, K.
      base: layers before the first exit.
      step: layers between exits; see `plan.spans`.
      step_mode: `even` or `lin_grow`.
      channels: of the finest scale after the first layer.
      growth: channels that a layer adds to the finest scale.
      growth_factors: one factor per scale, finest first, for `channels` and `growth`.
      bottleneck_factors: one factor per scale for the bottleneck's width; 0 = no bottleneck.
      reduction: share of the channels that a transition keeps; 0 = no transitions.
      prune: how finer scales are dropped, `max` or `min`; see `plan.layers`.
      stem: `cifar`, or `imagenet` (which begins with a 7×7 convolution of stride 2 and pooling).
      head: channels of the classifiers' convolutions; 0 = as many as come in. The paper has 128 for
        CIFAR, 0 for ImageNet.
      dtype: the type in which layers compute; parameters stay float32.

    Departs: classifiers average over all pixels; at the paper's image sizes these are the 2×2 that
    it averages.
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
        """Check the attributes, and make blocks and classifiers."""
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
        self.classifier = [
            Classifier(self.classes, self.head, self.dtype) for _ in range(self.blocks)
        ]

    @property
    def exits(self) -> int:
        return self.blocks

    def advance(self, k: int, features: Features, train: bool = False) -> Features:
        features = features if k else layers.as_images(features)
        return self.backbone[k](features, train)

    def classify(self, k: int, features: Features, train: bool = False) -> jax.Array:
        return self.classifier[k](features, train)

    def _check(self) -> None:
        """Raises a UserError that names the first attribute that is wrong."""
        for name, known in (("step_mode", plan.STEP_MODES), ("prune", plan.PRUNE), ("stem", STEMS)):
            if getattr(self, name) not in known:
                raise unknown(f"msdnet.{name}", getattr(self, name), known)
        for name in ("classes", "blocks", "base", "step", "channels", "growth", "head"):
            least = 0 if name == "head" else 1
            if not _integers([getattr(self, name)], least):
                raise UserError(
                    f"msdnet.{name}={getattr(self, name)} must be an integer, at least {least}"
                )
        later = self.blocks - 1
        steps = later if self.step_mode == "even" else later * self.blocks // 2
        if self.base + self.step * steps + later > plan.MOST_LAYERS:
            raise UserError(
                f"msdnet.blocks={self.blocks}, base={self.base} and step={self.step} make more "
                f"than {plan.MOST_LAYERS} layers, which nothing compiles"
            )
        if not isinstance(self.reduction, float | int) or not 0 <= self.reduction < 1:
            raise UserError(f"msdnet.reduction={self.reduction} must be in [0, 1)")
        self._check_factors()

    def _check_factors(self) -> None:
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
                "have one entry per scale"
            )
        if any(self.growth * factor % 2 for factor in factors[1:]):
            raise UserError(
                f"msdnet.growth={self.growth} × msdnet.growth_factors={factors} must be even from "
                "the second scale on: half comes from the finer scale"
            )


def _integers(values: Sequence[Any], least: int) -> bool:
    """Are all of these integers, and at least `least`?"""
    return all(
        isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least
        for value in values
    )
