"""The config's sections as dataclasses that check themselves; ConfigDicts stop here."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from groundwork import idle
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError
from groundwork.sections import (
    LOSS,
    SHARED,
    CheckpointSpec,
    FineTuneOptimizerSpec,
    FineTuneSpec,
    LogSpec,
    TrainSpec,
    at_least,
    check_counts,
    check_keys,
    sections,
    values,
)
from groundwork.train import loss_spec
from groundwork.train.loss_spec import LossSpec
from groundwork.train.optim import OptimizerSpec
from groundwork.typed import Seed
from lottery.early_bird.low_precision import BITS

CONTROLS = ("reinit", "random", "late")  # in the order in which they are made


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyBirdSpec:
    """`early_bird`: how masks are drawn, and when the ticket is.

    Attributes:
      masks: `channels`, by the scales of BatchNorm, or `weights`, by magnitude.
      ratio: the share of the channels or weights that goes.
      scope: `global` ranks all together, `layerwise` each group of channels or kernel by itself.
      every: the steps of an epoch, after each of which a mask is drawn.
      threshold: see `detection.detect`.
      patience: likewise.
      penalty: of the dense training's loss: times Σ |γ|, for masks of channels.
      bits: of weights and gradients in the dense training; 32 rounds nothing.
    """

    masks: Literal["channels", "weights"]
    ratio: float
    scope: Literal["global", "layerwise"]
    every: int
    threshold: float
    patience: int
    penalty: float
    bits: int

    def __post_init__(self) -> None:
        at_least("early_bird", self, every=1, patience=1, penalty=0)
        if not 0 < self.ratio < 1:
            raise UserError(f"early_bird.ratio={self.ratio} must be a share between 0 and 1")
        if not 0 < self.threshold <= 1:
            raise UserError(f"early_bird.threshold={self.threshold} must be in (0, 1]")
        if self.bits not in BITS:
            known = ", ".join(map(str, BITS))
            raise UserError(f"early_bird.bits={self.bits} must be one of {known}")


@dataclasses.dataclass(frozen=True)
class ControlsSpec:
    """`controls`: what is trained beside the ticket.

    Attributes:
      reinit: the ticket's mask, with new weights.
      random: as many channels or weights of each layer, drawn at random, with the ticket's weights.
      late: the ticket that is drawn at the end of the dense training.
    """

    reinit: bool
    random: bool
    late: bool

    @property
    def chosen(self) -> list[str]:
        """The names of those that are made."""
        return [name for name in CONTROLS if getattr(self, name)]


SECTIONS: dict[str, Any] = {
    **SHARED,
    "early_bird": EarlyBirdSpec,
    "controls": ControlsSpec,
    "fine_tune": FineTuneSpec,
    "fine_tune_optimizer": FineTuneOptimizerSpec,
}


@dataclasses.dataclass(frozen=True)
class Spec:
    """A whole experiment."""

    seed: Seed
    replicates: int
    eval_every: int
    train: TrainSpec
    optimizer: OptimizerSpec
    early_bird: EarlyBirdSpec
    controls: ControlsSpec
    fine_tune: TrainSpec
    fine_tune_optimizer: OptimizerSpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)

    def __post_init__(self) -> None:
        check_counts(self)
        steps, every = self.train.steps, self.early_bird.every
        if steps % every:
            raise UserError(
                f"train.steps={steps} must be a multiple of early_bird.every={every}, the steps of "
                "an epoch"
            )
        if self.epochs <= self.early_bird.patience:
            raise UserError(
                f"early_bird.patience={self.early_bird.patience} distances need "
                f"{self.early_bird.patience + 1} epochs, but train.steps={steps} has {self.epochs}"
            )

    @property
    def epochs(self) -> int:
        """The number of masks."""
        return self.train.steps // self.early_bird.every


def from_config(config: Mapping[str, Any]) -> Spec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    keys = {field.name for field in dataclasses.fields(Spec)} - {"loss"}
    check_keys(config, [*keys, "data", "model"], optional=LOSS)
    return Spec(
        **values(config, Spec),
        **sections(config, SECTIONS),
        loss=loss_spec.from_config(config),
    )


def without_effect(spec: Spec, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    optimizers = {"train": spec.optimizer, "fine_tune": spec.fine_tune_optimizer}
    keys = {**idle.of_optimizers(list(optimizers.values())), **idle.of_data(config["data"])}
    if spec.early_bird.masks == "weights":
        keys["early_bird.penalty"] = "early_bird.masks=weights looks at no scales"
    return idle.warnings(idle.beyond_steps(spec, optimizers), keys, given)


def epoch_name(number: int) -> str:
    """Returns `epochs/007`, the unit of the dense network after so many epochs."""
    return f"epochs/{number:03d}"


def unit_names(spec: Spec) -> list[str]:
    """Returns the names of all units of a run, in their order."""
    epochs = [epoch_name(number) for number in range(1, spec.epochs + 1)]
    names = [*epochs, "distances", "dense", "drawn/ticket", "ticket", *spec.controls.chosen]
    if spec.controls.late:
        names.insert(names.index("late"), "drawn/late")
    return names


def steps(spec: Spec, unit: str) -> int:
    """Returns the training steps of a unit; where the detector does not fire, they are fewer."""
    if unit.startswith("epochs/"):
        return spec.early_bird.every
    trains = unit not in ("distances", "dense") and not unit.startswith("drawn/")
    return spec.fine_tune.steps if trains else 0
