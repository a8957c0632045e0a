"""The config of a run over stability, checked."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from groundwork import idle
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError
from groundwork.sections import (
    LOSS,
    SHARED,
    CheckpointSpec,
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

DENSE = "dense"


@dataclasses.dataclass(frozen=True)
class StabilitySpec:
    """`stability`: what is trained twice, from where, and how the path between is measured.

    Attributes:
      steps: of the dense training, from which two copies go on with other data orders each.
      source: the folder of a finished run of `lottery.main` with the same training, whose masks
        are the tickets'; "" = the dense network alone.
      levels: of the source, whose masks are put on the dense weights at each step.
      random_mask: whether random masks that keep as many weights of each layer stand beside them.
      between: levels of the source; the path between the trained tickets of each two neighbours in
        this list is measured, too.
      restore: `weights`: the copies begin with fresh moments of the optimiser; `state`: with those
        of the dense training.
      points: of the path, both ends among them.
      train_examples: the number of training examples on which errors are measured; 0 = all.
      match: whether paths are measured once more with the second end's units in the order that is
        nearest to the first's.
    """

    steps: tuple[int, ...]
    source: str
    levels: tuple[int, ...]
    random_mask: bool
    between: tuple[int, ...]
    restore: Literal["weights", "state"]
    points: int
    train_examples: int
    match: bool

    def __post_init__(self) -> None:
        at_least("stability", self, points=2, train_examples=0)
        for key in ("steps", "levels", "between"):
            if list(getattr(self, key)) != sorted({*getattr(self, key)}):
                raise UserError(f"stability.{key}={getattr(self, key)} must rise, without repeats")
            if min(getattr(self, key), default=0) < 0:
                raise UserError(f"stability.{key}={getattr(self, key)} must be at least 0")
        if 0 in self.levels:
            raise UserError("stability.levels: level 0 is the dense network, which is always there")
        if len(self.between) == 1:
            raise UserError(f"stability.between={self.between} must name two levels or more")
        if (self.levels or self.between) and not self.source:
            key = "levels" if self.levels else "between"
            raise UserError(
                f"stability.{key}={getattr(self, key)} are levels of a run: set "
                "stability.source=RUN, a finished run of lottery.main"
            )
        if not (self.steps or self.between):
            raise UserError("stability.steps=() leaves nothing to measure: give such as (0, 100)")

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that are trained twice: `dense`, `level-03`, `random-03`."""
        if not self.steps:
            return ()
        kinds = ("level", "random") if self.random_mask else ("level",)
        return (DENSE, *(f"{kind}-{level:02d}" for level in self.levels for kind in kinds))

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The levels whose trained tickets are the ends of a path."""
        return tuple(zip(self.between, self.between[1:], strict=False))


SECTIONS: dict[str, Any] = {**SHARED, "stability": StabilitySpec}


@dataclasses.dataclass(frozen=True)
class Spec:
    """A whole experiment."""

    seed: Seed
    replicates: int
    eval_every: int
    train: TrainSpec
    optimizer: OptimizerSpec
    stability: StabilitySpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)

    def __post_init__(self) -> None:
        check_counts(self)
        if max(self.stability.steps, default=0) >= self.train.steps:
            raise UserError(
                f"stability.steps={self.stability.steps} must all be less than "
                f"train.steps={self.train.steps}"
            )


def from_config(config: Mapping[str, Any]) -> Spec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    keys = {field.name for field in dataclasses.fields(Spec)} - {"loss"}
    check_keys(config, [*keys, "data", "model"], optional=LOSS)
    return Spec(
        **values(config, Spec), **sections(config, SECTIONS), loss=loss_spec.from_config(config)
    )


def without_effect(spec: Spec, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    keys = {**idle.of_optimizers([spec.optimizer]), **idle.of_data(config["data"])}
    if not spec.stability.levels:
        keys["stability.random_mask"] = "stability.levels=() has no masks"
    if not (spec.stability.levels or spec.stability.between):
        keys["stability.source"] = "neither stability.levels nor stability.between names a level"
    if not any(spec.stability.steps):
        keys["stability.restore"] = "at step 0 there are no moments to restore"
    return idle.warnings(idle.beyond_steps(spec, {"train": spec.optimizer}), keys, given)


def point_name(step: int) -> str:
    """Returns `dense/00000100`, the unit of the dense training up to a step above 0."""
    return f"dense/{step:08d}"


def copy_name(network: str, step: int, copy: int) -> str:
    """Returns `copies/level-03/00000100/1`."""
    return f"copies/{network}/{step:08d}/{copy}"


def path_name(network: str, step: int) -> str:
    """Returns `paths/level-03/00000100`."""
    return f"paths/{network}/{step:08d}"


def pair_name(first: int, second: int) -> str:
    """Returns `between/03-04`."""
    return f"between/{first:02d}-{second:02d}"


def paths(spec: StabilitySpec) -> Iterator[tuple[str, int]]:
    """Yields the networks and steps of all paths between copies, in the order of the work."""
    for step in spec.steps:
        for network in spec.networks:
            yield network, step


def unit_names(spec: Spec) -> list[str]:
    """Returns the names of all units of a run, in their order."""
    names = [point_name(step) for step in spec.stability.steps if step]
    for network, step in paths(spec.stability):
        names += [copy_name(network, step, copy) for copy in (1, 2)]
        names.append(path_name(network, step))
    return names + [pair_name(*pair) for pair in spec.stability.pairs]


def steps(spec: Spec, unit: str) -> int:
    """Returns the training steps of a unit."""
    before = 0
    for step in spec.stability.steps:
        if unit == point_name(step):
            return step - before
        before = step
    copies = (copy_name(*path, copy) for path in paths(spec.stability) for copy in (1, 2))
    return spec.train.steps - int(unit.split("/")[-2]) if unit in copies else 0
