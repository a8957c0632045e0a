"""The config sections that every experiment has, as dataclasses that check themselves."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from groundwork import config as config_lib
from groundwork import typed
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError, unknown
from groundwork.train.optim import OptimizerSpec
from groundwork.typed import Unbounded


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """`train`: steps of each network (of each level, counted from step 0); examples per step."""

    steps: int
    batch_size: int
    SECTION: ClassVar[str] = "train"
    LEAST_STEPS: ClassVar[int] = 1

    def __post_init__(self) -> None:
        at_least(self.SECTION, self, steps=self.LEAST_STEPS, batch_size=1)


class FineTuneSpec(TrainSpec):
    """`fine_tune`: like `train`, for a network that was changed."""

    SECTION = "fine_tune"


class FineTuneOptimizerSpec(OptimizerSpec):
    """`fine_tune_optimizer`: like `optimizer`."""

    SECTION = "fine_tune_optimizer"


@dataclasses.dataclass(frozen=True)
class SourceSpec:
    """`source`: a network that was trained before.

    Attributes:
      path: the folder of a run, or a file of weights (see `groundwork.runs.trained`); "" = a new
        network is trained.
      unit: of the run.
    """

    path: str
    unit: str


@dataclasses.dataclass(frozen=True)
class CheckpointSpec:
    """`checkpoint`: how often an unfinished unit is saved, and checks whether it is to stop."""

    every_seconds: Unbounded
    poll_steps: int
    hang_seconds: Unbounded = 3600.0  # older configs lack it

    def __post_init__(self) -> None:
        at_least("checkpoint", self, every_seconds=0, poll_steps=1, hang_seconds=0)


@dataclasses.dataclass(frozen=True)
class LogSpec:
    """`log`: where rows are written besides metrics.jsonl, and when the page is."""

    tensorboard: bool
    page: bool = False  # older configs lack it


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
      UserError: one is too small.
    """
    at_least("", spec, seed=0, replicates=1, eval_every=1)


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


def values(config: Mapping[str, Any], kind: Any, *more: str) -> dict[str, Any]:
    """Returns the keys of a config that are in no section, by name.

    Args:
      config: nested dicts.
      kind: the spec, whose annotations say what the values must be.
      *more: the keys besides `seed`, `replicates` and `eval_every`.

    Raises:
      UserError: a value is another than its annotation asks for (see `typed.value`).
    """
    kinds, names = typed.fields(kind), ("seed", "replicates", "eval_every", *more)
    return {name: typed.value(name, config[name], kinds[name]) for name in names}


def sections(config: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Returns each section of the config as the dataclass in `kinds`, by name.

    Raises:
      UserError: see `config.build`.
    """
    return {key: config_lib.build(kind, config[key], key) for key, kind in kinds.items()}


def source(config: Mapping[str, Any]) -> SourceSpec:
    """Returns the section `source`, which older configs of pruning lack: nothing is given there.

    Raises:
      UserError: see `config.build`.
    """
    return config_lib.build(SourceSpec, config.get("source", {"path": "", "unit": ""}), "source")


def at_least(section: str, spec: Any, **least: float) -> None:
    """Raises a UserError if an attribute of a section is below its least value."""
    for key, low in least.items():
        if getattr(spec, key) < low:
            name = f"{section}.{key}" if section else key
            raise UserError(f"{name}={getattr(spec, key)} must be at least {low}")
