"""The config sections that every experiment has, as dataclasses that check themselves."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from groundwork import config as config_lib
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError, unknown
from groundwork.train.optim import OptimizerSpec


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """`train`: steps of each network (of each level, counted from step 0); examples per step."""

    steps: int
    batch_size: int
    SECTION: ClassVar[str] = "train"

    def __post_init__(self) -> None:
        at_least(self.SECTION, self, steps=1, batch_size=1)


class FineTuneSpec(TrainSpec):
    """`fine_tune`: like `train`, for a network that was changed."""

    SECTION = "fine_tune"


class FineTuneOptimizerSpec(OptimizerSpec):
    """`fine_tune_optimizer`: like `optimizer`."""

    SECTION = "fine_tune_optimizer"


@dataclasses.dataclass(frozen=True)
class CheckpointSpec:
    """`checkpoint`: how often an unfinished unit is saved, and checks whether it is to stop."""

    every_seconds: float
    poll_steps: int

    def __post_init__(self) -> None:
        if not self.every_seconds >= 0:
            raise UserError(f"checkpoint.every_seconds={self.every_seconds} must be at least 0")
        at_least("checkpoint", self, poll_steps=1)


@dataclasses.dataclass(frozen=True)
class LogSpec:
    """`log`: where rows are written besides metrics.jsonl."""

    tensorboard: bool


LOSS = ("loss", "loss_kwargs")  # keys that older configs lack; see `train.loss_spec`
SHARED: dict[str, Any] = {
    "train": TrainSpec,
    "optimizer": OptimizerSpec,
    "mesh": MeshSpec,
    "checkpoint": CheckpointSpec,
    "log": LogSpec,
}


def check_counts(spec: Any) -> None:
    """Checks `seed`, `replicates` and `eval_every` of an experiment.

    Raises:
      UserError: one is too small, or the seed has more than 32 bits.
    """
    at_least("", spec, seed=0, replicates=1, eval_every=1)
    if spec.seed >= 2**32:
        raise UserError(f"seed={spec.seed} must be less than 2**32: keys have 32 bits of it")


def check_keys(
    config: Mapping[str, Any], needed: Iterable[str], optional: Iterable[str] = ()
) -> None:
    """Checks that a config has all needed keys, and no others but the optional ones.

    Raises:
      UserError: a key is unknown or missing; the error names it.
    """
    known = {*needed, *optional}
    for key in config:
        if key not in known:
            raise unknown("config key", key, known)
    for key in known - set(optional):
        if key not in config:
            raise UserError(f"the config lacks the key {key!r}")


def counts(config: Mapping[str, Any], *more: str) -> dict[str, Any]:
    """Returns `seed`, `replicates`, `eval_every` and the integers named `more`, by name.

    Raises:
      UserError: one of them is not an integer.
    """
    values = {name: config[name] for name in ("seed", "replicates", "eval_every", *more)}
    for name, value in values.items():
        if type(value) is not int:
            raise UserError(f"{name}={value!r} must be an integer")
    return values


def sections(config: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Returns each section of the config as the dataclass in `kinds`, by name.

    Raises:
      UserError: see `config.build`.
    """
    return {key: config_lib.build(kind, config[key], key) for key, kind in kinds.items()}


def at_least(section: str, spec: Any, **least: float) -> None:
    """Raises a UserError if an attribute of a section is below its least value."""
    for key, low in least.items():
        if getattr(spec, key) < low:
            name = f"{section}.{key}" if section else key
            raise UserError(f"{name}={getattr(spec, key)} must be at least {low}")
