"""The config's sections as dataclasses that check themselves. ConfigDicts stop here."""

import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError, unknown
from groundwork.sections import (
    SHARED,
    CheckpointSpec,
    LogSpec,
    TrainSpec,
    at_least,
    check_counts,
    check_keys,
    counts,
    sections,
)
from groundwork.train.optim import OptimizerSpec
from pruning.criteria import CRITERIA
from pruning.masks import SCOPES, Rate, Scope
from pruning.schedule import SCHEDULES

BRANCHES = ("random_reinit", "random_mask", "small_dense")


@dataclasses.dataclass(frozen=True)
class PruneSpec:
    """`prune`: what is removed at each level; see `pruning.masks.prune` and `schedule.plan`.

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
        at_least("rewind", self, step=0)
        if self.restore not in ("weights", "state"):
            raise unknown("rewind.restore", self.restore, ("weights", "state"))


SECTIONS: dict[str, Any] = {
    **SHARED,
    "prune": PruneSpec,
    "rewind": RewindSpec,
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
        check_counts(self)
        at_least("", self, levels=0)
        if self.rewind.step >= self.train.steps:
            raise UserError(
                f"rewind.step={self.rewind.step} must be less than train.steps={self.train.steps}"
            )


def from_config(config: Mapping[str, Any]) -> LotterySpec:
    """Check a resolved config (nested dicts) and turn it into a spec.

    Raises:
      UserError: names the key that is wrong and what would be right.
    """
    own = [field.name for field in dataclasses.fields(LotterySpec)]
    check_keys(config, [*own, "data", "model"], optional=["published"])
    return LotterySpec(
        **counts(config, "levels"),
        **sections(config, SECTIONS),
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
