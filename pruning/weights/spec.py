"""The config of a run over single weights, checked; `section` has its `prune`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

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
    SourceSpec,
    TrainSpec,
    check_counts,
    check_keys,
    sections,
    source,
    values,
)
from groundwork.train import loss_spec
from groundwork.train.loss_spec import LossSpec
from groundwork.train.optim import OptimizerSpec
from groundwork.typed import Seed
from pruning.criteria import CRITERIA
from pruning.weights.section import Point, WeightsPruneSpec

SECTIONS: dict[str, Any] = {
    **SHARED,
    "prune": WeightsPruneSpec,
    "fine_tune": FineTuneSpec,
    "fine_tune_optimizer": FineTuneOptimizerSpec,
}


@dataclasses.dataclass(frozen=True)
class WeightsSpec:
    """A whole experiment."""

    seed: Seed
    replicates: int
    eval_every: int
    train: TrainSpec
    optimizer: OptimizerSpec
    prune: WeightsPruneSpec
    fine_tune: TrainSpec
    fine_tune_optimizer: OptimizerSpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec
    source: SourceSpec
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)

    def __post_init__(self) -> None:
        check_counts(self)
        if self.source.path:
            self._check_source()
        if self.prune.method == "gradual" and self.train.steps < 2:
            raise UserError(
                f"train.steps={self.train.steps} must be at least 2 for prune.method=gradual"
            )

    def _check_source(self) -> None:
        """Refuses a network that is given where only its training would tell what is needed."""
        if not self.prune.how.fine_tunes:
            raise UserError(
                f"source.path needs prune.method=one_shot or iterative: {self.prune.method} trains "
                "a new network"
            )
        if {"initial", "movement"} & set(CRITERIA[self.prune.criterion].needs):
            raise UserError(
                f"prune.criterion={self.prune.criterion} looks at what training changed, which a "
                "network of source.path does not tell: choose another"
            )


def from_config(config: Mapping[str, Any]) -> WeightsSpec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    keys = {field.name for field in dataclasses.fields(WeightsSpec)} - {"loss", "source"}
    check_keys(config, [*keys, "data", "model"], optional=[*LOSS, "source"])
    return WeightsSpec(
        **values(config, WeightsSpec),
        **sections(config, SECTIONS),
        source=source(config),
        loss=loss_spec.from_config(config),
    )


def without_effect(spec: WeightsSpec, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    prune = spec.prune
    trained = {"train": spec.optimizer}
    keys: dict[str, str] = {}
    if prune.how.fine_tunes:
        trained["fine_tune"] = spec.fine_tune_optimizer
    else:
        keys |= dict.fromkeys(
            ("fine_tune", "fine_tune_optimizer"),
            f"prune.method={prune.method} prunes while the network trains",
        )
    keys |= idle.of_optimizers(list(trained.values()))
    keys |= idle.of_data(config["data"]) | idle.of_source(spec.source.path)
    if spec.source.path:
        del trained["train"]
        keys |= dict.fromkeys(("train.steps", "optimizer"), "source.path has the dense network")
    used = {"method", "prunable", *prune.how.keys}
    if prune.how.fine_tunes:
        used |= {"keep_accuracy", "least_accuracy"}
    if prune.searches:
        used |= {"iterations", "least_density"}
    for field in dataclasses.fields(prune):
        if field.name not in used:
            keys[f"prune.{field.name}"] = f"prune.method={prune.method} does without"
    if prune.pattern != "none":
        keys["prune.scope"] = f"prune.pattern={prune.pattern} holds in each layer by itself"
    if ":" in prune.pattern:
        keys["prune.density"] = f"prune.pattern={prune.pattern} decides"
    if prune.how.first == "criterion" and not prune.seen:
        keys["prune.examples"] = f"prune.criterion={prune.criterion} looks at none"
    if prune.searches:
        keys["prune.density"] = "the target decides"
    return idle.warnings(idle.beyond_steps(spec, trained), keys, given)


def unit_name(point: Point) -> str:
    """Returns `sparse/0.1`."""
    return f"sparse/{point.label}"


def unit_names(spec: WeightsSpec) -> list[str]:
    """Returns the names of all units of a run, in their order."""
    return ["dense", *(unit_name(point) for point in spec.prune.points)]


def steps(spec: WeightsSpec, unit: str) -> int | None:
    """Returns the training steps of a unit; None for a search, which ends when it has found."""
    if unit == "dense":
        return 0 if spec.source.path else spec.train.steps
    if not spec.prune.how.fine_tunes:
        return spec.train.steps
    if spec.prune.searches:
        return None
    turns = spec.prune.iterations if spec.prune.method == "iterative" else 1
    return spec.fine_tune.steps * turns
