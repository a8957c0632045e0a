"""The config's sections as dataclasses that check themselves. ConfigDicts stop here."""

import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from experiment import config as config_lib
from experiment.errors import UserError, unknown
from experiment.mesh import MeshSpec
from experiment.optim import OptimizerSpec
from lottery.criteria import CRITERIA
from lottery.masks import SCOPES, Rate, Scope
from lottery.schedule import SCHEDULES

BRANCHES = ("random_reinit", "random_mask", "small_dense")


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """`train`: steps of a level (counted from step 0) and examples a step."""

    steps: int
    batch_size: int

    def __post_init__(self) -> None:
        _at_least("train", self, steps=1, batch_size=1)


@dataclasses.dataclass(frozen=True)
class PruneSpec:
    """`prune`: what is removed at each level; see `lottery.masks.prune` and `schedule.plan`.

    `prunable` are patterns (fnmatch) of the paths of the leaves that may be pruned.
    """

    rate: Rate
    scope: Scope
    criterion: str
    schedule: str
    prunable: tuple[str, ...]

    def __post_init__(self) -> None:
        for key, known in (("scope", SCOPES), ("criterion", CRITERIA), ("schedule", SCHEDULES)):
            if getattr(self, key) not in known:
                raise unknown(f"prune.{key}", getattr(self, key), known)
        if isinstance(self.prunable, str):
            raise UserError(f"prune.prunable={self.prunable!r} must be patterns, as ('*kernel',)")
        rates = self.rate if isinstance(self.rate, Mapping) else {"": self.rate}
        for pattern, rate in rates.items():
            if not isinstance(pattern, str):
                raise UserError(f"prune.rate: the pattern {pattern!r} must be a text, as 'fc1'")
            if not isinstance(rate, int | float) or not 0 <= rate < 1:
                of = f" of {pattern!r}" if pattern else ""
                raise UserError(f"prune.rate={rate}{of} must be a number in [0, 1), a share of 1")

    def is_prunable(self, path: str) -> bool:
        """Does one of the patterns match?"""
        return any(fnmatchcase(path, pattern) for pattern in self.prunable)


@dataclasses.dataclass(frozen=True)
class RewindSpec:
    """`rewind`: to which step, and what comes back.

    `restore`: `weights` = parameters and batch statistics, with fresh optimiser moments;
    `state` = the optimiser's moments too. The learning rate's schedule and the data order go on
    at `step` under both.
    """

    step: int
    restore: str

    def __post_init__(self) -> None:
        _at_least("rewind", self, step=0)
        if self.restore not in ("weights", "state"):
            raise unknown("rewind.restore", self.restore, ("weights", "state"))


@dataclasses.dataclass(frozen=True)
class CheckpointSpec:
    """`checkpoint`: how often an unfinished level is saved, and looks whether it shall stop."""

    every_seconds: float
    poll_steps: int

    def __post_init__(self) -> None:
        if not self.every_seconds >= 0:
            raise UserError(f"checkpoint.every_seconds={self.every_seconds} must be at least 0")
        _at_least("checkpoint", self, poll_steps=1)


@dataclasses.dataclass(frozen=True)
class LogSpec:
    """`log`: where rows go besides metrics.jsonl."""

    tensorboard: bool


SECTIONS: dict[str, Any] = {
    "train": TrainSpec,
    "optimizer": OptimizerSpec,
    "prune": PruneSpec,
    "rewind": RewindSpec,
    "mesh": MeshSpec,
    "checkpoint": CheckpointSpec,
    "log": LogSpec,
}


@dataclasses.dataclass(frozen=True)
class LotterySpec:
    """A whole experiment. `branches`: branch → levels to train it at."""

    seed: int
    levels: int
    replicates: int
    eval_every: int
    train: TrainSpec
    optimizer: OptimizerSpec
    prune: PruneSpec
    rewind: RewindSpec
    branches: Mapping[str, tuple[int, ...]]
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec

    def __post_init__(self) -> None:
        _at_least("", self, seed=0, levels=0, replicates=1, eval_every=1)
        if self.seed >= 2**32:
            raise UserError(f"seed={self.seed} must be less than 2**32: keys have 32 bits of it")
        if self.rewind.step >= self.train.steps:
            raise UserError(
                f"rewind.step={self.rewind.step} must be less than train.steps={self.train.steps}"
            )


def from_config(config: Mapping[str, Any]) -> LotterySpec:
    """Check a resolved config (nested dicts) and turn it into a spec.

    Raises:
      UserError: names the key that is wrong and what would be right.
    """
    own = {field.name for field in dataclasses.fields(LotterySpec)}
    known = own | {"data", "model", "published"}
    for key in config:
        if key not in known:
            raise unknown("config key", key, known)
    for key in known - {"published"}:
        if key not in config:
            raise UserError(f"the config lacks the key {key!r}")
    for key in ("seed", "levels", "replicates", "eval_every"):
        if type(config[key]) is not int:
            raise UserError(f"{key}={config[key]!r} must be an integer")
    return LotterySpec(
        **{key: config[key] for key in ("seed", "levels", "replicates", "eval_every")},
        **{key: config_lib.build(kind, config[key], key) for key, kind in SECTIONS.items()},
        branches=_branches(config["branches"], config["levels"]),
    )


def _branches(section: Mapping[str, Any], levels: int) -> dict[str, tuple[int, ...]]:
    """Levels of each branch: "all" or a sequence of integers; those past the last are left out."""
    branches = {}
    for name, chosen in section.items():
        if name not in BRANCHES:
            raise unknown("branch", name, BRANCHES)
        if chosen == "all":
            chosen = range(1, levels + 1)
        chosen = (chosen,) if isinstance(chosen, int) else chosen
        sequence = isinstance(chosen, tuple | list | range)
        if not sequence or not all(isinstance(k, int) and k > 0 for k in chosen):
            raise UserError(f"branches.{name}={chosen!r} must be 'all' or levels from 1, as (4, 8)")
        branches[name] = tuple(level for level in chosen if level <= levels)
    return branches


def _at_least(section: str, spec: Any, **least: float) -> None:
    for key, low in least.items():
        if getattr(spec, key) < low:
            name = f"{section}.{key}" if section else key
            raise UserError(f"{name}={getattr(spec, key)} must be at least {low}")
