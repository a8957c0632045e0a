"""How single weights go: `METHODS`, the table of `prune.method`. Each method is a line of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import jax
import optax

from pruning import dynamic
from pruning.masks import Mask

if TYPE_CHECKING:
    from pruning.weights.section import WeightsPruneSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What an optimiser's wrapper needs to know of a training.

    Attributes:
      section: the config's `prune`.
      steps: of the training.
      paths: group → the paths that are ranked together.
      counts: group → the weights that it keeps in the end.
      strength: of the methods that shrink weights; 0 of others.
    """

    section: "WeightsPruneSpec"
    steps: int
    paths: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, int]
    strength: float

    @property
    def begin(self) -> int:
        """The step before which the mask stays."""
        return round(self.section.begin * self.steps)

    @property
    def end(self) -> int:
        """The step from which the mask stays."""
        return max(self.begin + 1, round(self.section.end * self.steps))


Optimizer: TypeAlias = optax.GradientTransformation
Wrap = Callable[[Setting, Optimizer, Mask | None, jax.Array | None], Optimizer]
"""(setting, optimiser, mask, key) → the optimiser that holds the mask, and may change it"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A way in which single weights go.

    Attributes:
      about: what it does and whose it is, in a sentence or two.
      first: the mask that training starts from: `dense`, `random` or by the `criterion`.
      fine_tunes: whether the trained dense network is pruned and fine-tuned, in the section
        `fine_tune`; else a new network is trained, in the section `train`.
      keys: of the config's `prune` that have an effect.
      wrap: see `Wrap`.
    """

    about: str
    first: Literal["dense", "random", "criterion"]
    fine_tunes: bool = False
    keys: tuple[str, ...]
    wrap: Wrap


def _static(setting: Setting, optimizer: Optimizer, mask: Any, key: Any) -> Optimizer:
    del setting, key
    return dynamic.static(optimizer, mask)


def _gradual(setting: Setting, optimizer: Optimizer, mask: Any, key: Any) -> Optimizer:
    del key
    end = min(setting.end, setting.steps - 1)  # the last step at which a mask can change
    return dynamic.gradual(
        optimizer,
        mask,
        setting.counts,
        begin=min(setting.begin, end - 1),
        end=end,
        every=setting.section.every,
        paths=setting.paths,
    )


def _set(setting: Setting, optimizer: Optimizer, mask: Any, key: Any) -> Optimizer:
    section = setting.section
    return dynamic.set(
        optimizer, mask, key=key, end=setting.end, every=section.every, fraction=section.drop
    )


def _rigl(setting: Setting, optimizer: Optimizer, mask: Any, key: Any) -> Optimizer:
    del key
    section = setting.section
    return dynamic.rigl(
        optimizer, mask, end=setting.end, every=section.every, fraction=section.drop
    )


def _proximal_l1(setting: Setting, optimizer: Optimizer, mask: Any, key: Any) -> Optimizer:
    del mask, key
    return dynamic.proximal_l1(optimizer, setting.strength, setting.section.is_prunable)


def _proximal_l2(setting: Setting, optimizer: Optimizer, mask: Any, key: Any) -> Optimizer:
    del mask, key
    section = setting.section
    return dynamic.proximal_l2(optimizer, setting.strength, section.threshold, section.is_prunable)


def _unmasked(setting: Setting, optimizer: Optimizer, mask: Any, key: Any) -> Optimizer:
    del setting, mask, key
    return optimizer


SCORED = ("density", "criterion", "scope", "examples")
METHODS: dict[str, Method] = {
    "one_shot": Method(
        about="The trained network loses the weights of the lowest scores at once, and is "
        "fine-tuned (Han et al., arXiv:1506.02626, in one step).",
        first="criterion",
        fine_tunes=True,
        keys=(*SCORED, "pattern", "correct"),
        wrap=_static,
    ),
    "iterative": Method(
        about="The trained network is pruned and fine-tuned in turns, by the same share each time "
        "(Han et al., arXiv:1506.02626).",
        first="criterion",
        fine_tunes=True,
        keys=(*SCORED, "correct", "iterations"),
        wrap=_static,
    ),
    "before_training": Method(
        about="A new network is pruned before its first step, and trained "
        "(Lee et al., arXiv:1810.02340; Wang et al., arXiv:2002.07376; Tanaka et al., "
        "arXiv:2006.05467).",
        first="criterion",
        keys=(*SCORED, "pattern"),
        wrap=_static,
    ),
    "static": Method(
        about="A new network is trained with a random mask, which stays.",
        first="random",
        keys=("density", "scope"),
        wrap=_static,
    ),
    "set": Method(
        about="A new network is trained with a random mask, whose smallest weights give way to "
        "random ones (Mocanu et al., arXiv:1707.04780).",
        first="random",
        keys=("density", "scope", "end", "every", "drop"),
        wrap=_set,
    ),
    "rigl": Method(
        about="A new network is trained with a random mask, whose smallest weights give way to "
        "those of the largest gradients (Evci et al., arXiv:1911.11134).",
        first="random",
        keys=("density", "scope", "end", "every", "drop"),
        wrap=_rigl,
    ),
    "gradual": Method(
        about="A new network loses its smallest weights while it trains, along a cubic curve "
        "(Zhu & Gupta, arXiv:1710.01878).",
        first="dense",
        keys=("density", "scope", "begin", "end", "every"),
        wrap=_gradual,
    ),
    "straight_through": Method(
        about="A new network sees its largest weights alone at each step, but all of them learn, "
        "by straight-through gradients (Bengio et al., arXiv:1308.3432).",
        first="dense",
        keys=("density", "scope"),
        wrap=_unmasked,
    ),
    "proximal_l1": Method(
        about="All weights of a new network shrink by a strength at each step, and stay at zero "
        "while no gradient is stronger: an L1 norm by proximal steps "
        "(Daubechies et al., arXiv:math/0307152). The strength decides how many.",
        first="dense",
        keys=("strength",),
        wrap=_proximal_l1,
    ),
    "proximal_l2": Method(
        about="All weights of a new network decay by a strength at each step, and those below a "
        "threshold become zero. The strength decides how many.",
        first="dense",
        keys=("strength", "threshold"),
        wrap=_proximal_l2,
    ),
}
