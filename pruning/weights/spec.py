"""The config of a run over single weights, as dataclasses that check themselves."""

import dataclasses
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, NamedTuple

from groundwork import idle
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError, unknown
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
from groundwork.trees import Params
from groundwork.typed import Seed
from pruning import masks, patterns
from pruning.criteria import CRITERIA
from pruning.weights.methods import METHODS, Method

Density = Annotated[float | tuple[float, ...], "a number in (0, 1], or several of them"]
Strength = Annotated[float | tuple[float, ...], "a number above 0, or several of them"]
SCOPES = ("layerwise", "erdos_renyi", "erdos_renyi_kernel", "global")


class Point(NamedTuple):
    """One sparse network of the run."""

    density: float | None  # that is asked for; None: what the training or a search leaves
    strength: float | None  # of the methods that shrink weights
    label: str  # "0.1", "2:4" or "target"; of methods that shrink weights the strength, "0.0001"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsPruneSpec:
    """`prune`: how single weights go. `configs/pruning/weights.py` says what each key means."""

    method: str
    density: Density
    criterion: str
    scope: Literal["layerwise", "erdos_renyi", "erdos_renyi_kernel", "global"]
    pattern: str
    prunable: Annotated[tuple[str, ...], "texts, such as ('*kernel',)"]
    iterations: int
    correct: bool
    begin: float
    end: float
    every: int
    drop: float
    strength: Strength
    threshold: float
    examples: int
    keep_accuracy: float
    least_accuracy: float
    least_density: float

    def __post_init__(self) -> None:
        for key, known in (("method", METHODS), ("criterion", CRITERIA)):
            if getattr(self, key) not in known:
                raise unknown(f"prune.{key}", getattr(self, key), known)
        at_least("prune", self, iterations=1, every=1, examples=0)
        self._check_numbers()
        self._check_method()
        if self.searches:
            self._check_search()
        labels = [point.label for point in self.points]
        if len(set(labels)) < len(labels):
            key = "strength" if "strength" in self.how.keys else "density"
            raise UserError(f"prune.{key}={getattr(self, key)} has numbers alike in six digits")

    def _check_numbers(self) -> None:
        for key, chosen, most in (
            ("density", self.densities, 1.0),
            ("strength", self.strengths, 0),
        ):
            if not chosen:
                raise UserError(f"prune.{key}=() is empty: give a number")
            for one in chosen:
                if not one > 0 or (most and one > most):
                    bounds = "in (0, 1]" if most else "above 0"
                    raise UserError(f"prune.{key}={getattr(self, key)}: {one} must be {bounds}")
        if not 0 <= self.begin <= self.end <= 1:
            raise UserError(
                f"prune.begin={self.begin} and prune.end={self.end} must be shares of the training,"
                " in [0, 1] and in this order"
            )
        for key, high in (("keep_accuracy", 1), ("least_accuracy", 1), ("drop", 1)):
            if not 0 <= getattr(self, key) < high:
                raise UserError(f"prune.{key}={getattr(self, key)} must be in [0, 1)")
        if not self.threshold > 0:
            raise UserError(f"prune.threshold={self.threshold} must be above 0")
        if not 0 < self.least_density < 1:
            raise UserError(f"prune.least_density={self.least_density} must be in (0, 1)")

    def _check_method(self) -> None:
        criterion, how = CRITERIA[self.criterion], self.how
        if how.first == "random" and self.scope == "global":
            raise UserError(
                f"prune.scope=global ranks layers together, but prune.method={self.method} begins "
                "with random weights: choose layerwise, erdos_renyi or erdos_renyi_kernel"
            )
        if self.method == "before_training" and (
            lacking := {"initial", "movement"} & set(criterion.needs)
        ):
            raise UserError(
                f"prune.criterion={self.criterion} looks at what training changed "
                f"({', '.join(sorted(lacking))}): with prune.method=before_training, choose another"
            )
        if self.correct and (how.first != "criterion" or criterion.correct is None):
            able = [name for name, one in CRITERIA.items() if one.correct]
            raise UserError(
                "prune.correct=true needs prune.method=one_shot or iterative and prune.criterion="
                f"{' or '.join(able)}"
            )
        if self.pattern != "none":
            try:
                patterns.parse(self.pattern)
            except ValueError as error:
                raise UserError(f"prune.pattern: {error}") from error
            if how.first != "criterion" or self.method == "iterative":
                raise UserError(
                    f"prune.pattern={self.pattern} needs prune.method=one_shot or before_training"
                )
            if criterion.rounds > 1:
                raise UserError(
                    f"prune.pattern={self.pattern} takes one round of scores, but "
                    f"prune.criterion={self.criterion} has {criterion.rounds}: choose another"
                )

    def _check_search(self) -> None:
        if self.keep_accuracy and self.least_accuracy:
            raise UserError(
                "prune.keep_accuracy and prune.least_accuracy are both set: leave one at 0"
            )
        if self.method not in ("one_shot", "iterative"):
            raise UserError(
                "prune.keep_accuracy and prune.least_accuracy need prune.method=one_shot or "
                "iterative"
            )
        if self.pattern != "none":
            raise UserError("prune.keep_accuracy and prune.least_accuracy need prune.pattern=none")

    @property
    def how(self) -> Method:
        """The method."""
        return METHODS[self.method]

    @property
    def seen(self) -> int:
        """The number of training examples that the criterion looks at."""
        own = CRITERIA[self.criterion].examples
        return self.examples or own if own else 0

    @property
    def densities(self) -> tuple[float, ...]:
        """The densities of the config."""
        return self.density if isinstance(self.density, tuple) else (self.density,)

    @property
    def strengths(self) -> tuple[float, ...]:
        """The strengths of the config."""
        return self.strength if isinstance(self.strength, tuple) else (self.strength,)

    @property
    def searches(self) -> bool:
        """Whether a target of the accuracy decides how many weights go."""
        return self.keep_accuracy > 0 or self.least_accuracy > 0

    @property
    def points(self) -> list[Point]:
        """The sparse networks of a run, the densest first."""
        if self.searches:
            return [Point(None, None, "target")]
        if "strength" in self.how.keys:
            return [Point(None, s, f"{s:g}") for s in sorted(set(self.strengths))]
        if self.pattern != "none" and isinstance(form := patterns.parse(self.pattern), patterns.NM):
            return [Point(form.n / form.m, None, str(form))]
        return [Point(d, None, f"{d:g}") for d in sorted(set(self.densities), reverse=True)]

    def is_prunable(self, path: str) -> bool:
        """Returns whether a pattern of `prunable` matches."""
        return any(fnmatchcase(path, pattern) for pattern in self.prunable)

    def leaves(self, params: Params) -> dict[str, Any]:
        """Returns path → leaf of all leaves that may be pruned.

        Raises:
          UserError: there are none.
        """
        leaves = masks.flatten(params, self.is_prunable)
        if not leaves:
            paths = ", ".join(masks.flatten(params, lambda path: True))
            raise UserError(f"prune.prunable={self.prunable} matches none of {paths}")
        return leaves


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
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)

    def __post_init__(self) -> None:
        check_counts(self)


def from_config(config: Mapping[str, Any]) -> WeightsSpec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    keys = {field.name for field in dataclasses.fields(WeightsSpec)} - {"loss"}
    check_keys(config, [*keys, "data", "model"], optional=LOSS)
    return WeightsSpec(
        **values(config, WeightsSpec),
        **sections(config, SECTIONS),
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
    keys |= idle.of_optimizers(list(trained.values())) | idle.of_data(config["data"])
    used = {"method", "prunable", *prune.how.keys}
    if prune.how.fine_tunes:
        used |= {"keep_accuracy", "least_accuracy"}
    if prune.searches:
        used |= {"iterations", "least_density"}
    for field in dataclasses.fields(prune):
        if field.name not in used:
            keys[f"prune.{field.name}"] = f"prune.method={prune.method} does without"
    if ":" in prune.pattern:
        keys["prune.density"] = f"prune.pattern={prune.pattern} decides"
    if prune.searches:
        keys["prune.density"] = "the target decides"
    return idle.warnings(idle.beyond_steps(spec, trained), keys, given)


def unit_name(point: Point) -> str:
    """Returns `sparse/0.1`."""
    return f"sparse/{point.label}"


def unit_names(spec: WeightsSpec) -> list[str]:
    """Returns the names of all units of a run, in their order."""
    return ["dense", *(unit_name(point) for point in spec.prune.points)]
