"""The config's sections as dataclasses that check themselves; ConfigDicts stop here."""

import dataclasses
from collections.abc import Mapping, Sequence
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
    SourceSpec,
    TrainSpec,
    at_least,
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
from pruning.structured import CRITERIA, LOOKS, PENALTIES

METHODS = ("structured",)
BRANCHES = ("random_units", "scratch_e", "scratch_b")  # in the order in which they are made
TARGETS = ("multiply_adds", "parameters", "milliseconds")
SPARSE = ("none", *PENALTIES, "growing")

Ratio = Annotated[
    float | tuple[float, ...] | Mapping[str, float],
    "a share of the units in [0, 1), several of them, or patterns with such numbers",
]


class Point(NamedTuple):
    """One pruned network of the run: a ratio, or the one target."""

    ratio: float | Mapping[str, float] | None  # None: what the target needs
    label: str  # "0.5", "patterns" or "target"


@dataclasses.dataclass(frozen=True)
class TargetSpec:
    """`prune.target`: what the pruned network may cost, in the place of a ratio; 0 = no target.

    Attributes:
      multiply_adds: of one example; below 1, a share of the whole network's.
      parameters: likewise.
      milliseconds: of predictions of one batch, measured here.
    """

    multiply_adds: float = 0.0
    parameters: float = 0.0
    milliseconds: float = 0.0

    def __post_init__(self) -> None:
        at_least("prune.target", self, multiply_adds=0, parameters=0, milliseconds=0)
        if sum(getattr(self, name) > 0 for name in TARGETS) > 1:
            raise UserError("prune.target has several targets: leave all but one at 0")

    @property
    def chosen(self) -> tuple[str, float] | None:
        """The target that is set, by name, or None."""
        return next(((n, getattr(self, n)) for n in TARGETS if getattr(self, n)), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StructuredSpec:
    """`prune`: which units go.

    Attributes:
      method: `structured`.
      criterion: one of `structured.CRITERIA`.
      members: `all` or `first`; see `structured.scores`.
      ratio: of a group's units, or of all; several make several networks, and none at all, (),
        leaves the run with the original alone.
      target: what the network may cost; then the ratio is what that needs.
      scope: `group`, `isomorphic` or `global`; see `structured.choose`.
      round_to: each group keeps a multiple of it.
      limit: the largest share of a group that goes.
      iterations: of pruning and fine-tuning, in equal steps of what is left.
      keep_accuracy: how much validation accuracy may be lost before fine-tuning, as a share; then
        the ratio is the largest that does. 0 = the ratio or the target decides.
      compensate: how the next layers make up for what goes: `none`, `least_squares` or `merge`.
      ignored: patterns of variables whose units all stay.
      split: `outer` or `inner`; see `structured.groups`.
      examples: of training, that criteria of activations and gradients, and least squares look at.
    """

    method: str
    criterion: str
    members: Literal["all", "first"]
    ratio: Ratio
    target: Mapping[str, float]
    scope: Literal["group", "isomorphic", "global"]
    round_to: int
    limit: float
    iterations: int
    keep_accuracy: float
    compensate: Literal["none", "least_squares", "merge"]
    ignored: Annotated[tuple[str, ...], "texts, such as ('params/conv1/*',)"]
    split: Literal["outer", "inner"]
    examples: int

    def __post_init__(self) -> None:
        for key, known in (("method", METHODS), ("criterion", CRITERIA)):
            if getattr(self, key) not in known:
                raise unknown(f"prune.{key}", getattr(self, key), known)
        at_least("prune", self, round_to=1, iterations=1, examples=1)
        if not 0 < self.limit <= 1:
            raise UserError(f"prune.limit={self.limit} must be in (0, 1]")
        if not 0 <= self.keep_accuracy < 1:
            raise UserError(f"prune.keep_accuracy={self.keep_accuracy} must be in [0, 1)")
        if self.budget.chosen and self.keep_accuracy:
            raise UserError("prune.keep_accuracy and prune.target are both set: leave one at 0")
        if isinstance(self.ratio, Mapping) and not self.ratio:
            raise UserError(f"prune.ratio={self.ratio} is empty: give a pattern's, or () for none")
        for ratio in self._ratios:
            if not 0 <= ratio < 1:
                raise UserError(f"prune.ratio={self.ratio}: {ratio} must be in [0, 1)")
        labels = [point.label for point in self.points]
        if len(set(labels)) < len(labels):
            raise UserError(f"prune.ratio={self.ratio} has ratios that are alike in six digits")
        if isinstance(self.ratio, Mapping) and self.scope != "group":
            raise UserError(f"prune.scope={self.scope} ranks groups together: give one prune.ratio")

    @property
    def budget(self) -> TargetSpec:
        """The section `target`."""
        for key in self.target:
            if key not in TARGETS:
                raise unknown("prune.target", key, TARGETS)
        return TargetSpec(**self.target)

    @property
    def points(self) -> list[Point]:
        """The networks of a run, the largest first."""
        if self.budget.chosen or self.keep_accuracy:
            return [Point(None, "target")]
        if isinstance(self.ratio, Mapping):
            return [Point(self.ratio, "patterns")]
        return [Point(ratio, f"{ratio:g}") for ratio in sorted(set(self._ratios))]

    @property
    def looks(self) -> bool:
        """Whether examples are looked at."""
        return self.compensate != "none" or self.criterion in LOOKS

    @property
    def _ratios(self) -> Sequence[float]:
        if isinstance(self.ratio, Mapping):
            return list(self.ratio.values())
        return self.ratio if isinstance(self.ratio, tuple) else (self.ratio,)


@dataclasses.dataclass(frozen=True)
class SparsitySpec:
    """`sparsity`: under what units become small before they go.

    Attributes:
      penalty: `none`; one of `structured.PENALTIES`, a term of the original's loss; or `growing`,
        under which, after the original, the units that were chosen to go are trained to vanish.
      weight: of the penalty; of `growing`, the largest.
      step: of `growing`: by how much the weight grows.
      every: of `growing`: the updates after which it does.
      steps: of `growing`: the updates before the units go.
    """

    penalty: str
    weight: float
    step: float
    every: int
    steps: int

    def __post_init__(self) -> None:
        if self.penalty not in SPARSE:
            raise unknown("sparsity.penalty", self.penalty, SPARSE)
        at_least("sparsity", self, weight=0, every=1, steps=1)
        if not self.step > 0:
            raise UserError(f"sparsity.step={self.step} must be above 0")
        if self.penalty != "none" and not self.weight:
            raise UserError(f"sparsity.penalty={self.penalty} needs a sparsity.weight above 0")


@dataclasses.dataclass(frozen=True)
class BranchesSpec:
    """`branches`: controls beside each pruned network; see `work`.

    Attributes:
      scratch_e: new weights in the pruned shape, for as many steps as the original.
      scratch_b: likewise, for as many multiply-adds.
      random_units: as many units at random.
      scratch_b_at_most: the most steps of `scratch_b`, as a multiple of the original's; 0 = any.
    """

    scratch_e: bool
    scratch_b: bool
    random_units: bool
    scratch_b_at_most: float

    def __post_init__(self) -> None:
        most = self.scratch_b_at_most
        if most and not most >= 1:
            raise UserError(
                f"branches.scratch_b_at_most={most} must be at least 1; 0 bounds nothing"
            )

    @property
    def chosen(self) -> list[str]:
        """The names of those that are made."""
        return [name for name in BRANCHES if getattr(self, name)]


SECTIONS: dict[str, Any] = {
    **SHARED,
    "prune": StructuredSpec,
    "branches": BranchesSpec,
    "sparsity": SparsitySpec,
    "fine_tune": FineTuneSpec,
    "fine_tune_optimizer": FineTuneOptimizerSpec,
}


@dataclasses.dataclass(frozen=True)
class PruningSpec:
    """A whole experiment."""

    seed: Seed
    replicates: int
    eval_every: int
    train: TrainSpec
    optimizer: OptimizerSpec
    prune: StructuredSpec
    branches: BranchesSpec
    sparsity: SparsitySpec
    fine_tune: TrainSpec
    fine_tune_optimizer: OptimizerSpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec
    source: SourceSpec
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)

    def __post_init__(self) -> None:
        check_counts(self)
        if self.source.path and self.sparsity.penalty in PENALTIES:
            raise UserError(
                f"sparsity.penalty={self.sparsity.penalty} is a term of the original's training, "
                "but source.path has an original that is trained: set one of them alone"
            )


def from_config(config: Mapping[str, Any]) -> PruningSpec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    keys = {field.name for field in dataclasses.fields(PruningSpec)} - {"loss", "source"}
    check_keys(config, [*keys, "data", "model"], optional=[*LOSS, "source"])
    return PruningSpec(
        **values(config, PruningSpec),
        **sections(config, SECTIONS),
        source=source(config),
        loss=loss_spec.from_config(config),
    )


def without_effect(spec: PruningSpec, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    optimizers = {"train": spec.optimizer, "fine_tune": spec.fine_tune_optimizer}
    keys = {**idle.of_optimizers(list(optimizers.values())), **idle.of_data(config["data"])}
    keys |= idle.of_source(spec.source.path)
    if spec.source.path and not {"scratch_e", "scratch_b"} & set(spec.branches.chosen):
        del optimizers["train"]
        keys |= dict.fromkeys(("train.steps", "optimizer"), "source.path has the original")
    if spec.prune.budget.chosen:
        keys["prune.ratio"] = f"prune.target.{spec.prune.budget.chosen[0]} decides"
    if spec.prune.keep_accuracy:
        keys["prune.ratio"] = "prune.keep_accuracy decides"
    if spec.sparsity.penalty == "none":
        keys["sparsity.weight"] = "sparsity.penalty=none"
    if spec.sparsity.penalty != "growing":
        for key in ("step", "every", "steps"):
            keys[f"sparsity.{key}"] = f"sparsity.penalty={spec.sparsity.penalty}"
    if not spec.branches.scratch_b:
        keys["branches.scratch_b_at_most"] = "branches.scratch_b=false"
    if not spec.prune.points:
        optimizers.pop("fine_tune")
        sections = ("branches", "fine_tune", "fine_tune_optimizer")
        keys |= dict.fromkeys(sections, f"prune.ratio={spec.prune.ratio} prunes nothing")
    if not spec.prune.looks:
        keys["prune.examples"] = f"criterion={spec.prune.criterion} looks at none"
    return idle.warnings(idle.beyond_steps(spec, optimizers), keys, given)


def unit_name(branch: str, point: Point) -> str:
    """Returns `pruned/0.5`, or `scratch_e/0.5` of a control."""
    return f"{branch}/{point.label}"


def plan_name(point: Point) -> str:
    """Returns `plans/0.5`, the unit that says which units are kept."""
    return f"plans/{point.label}"


def unit_names(spec: PruningSpec) -> list[str]:
    """Returns the names of all units of a run, in their order."""
    names = ["original", "fine_tuned"] if spec.prune.points else ["original"]
    for point in spec.prune.points:
        names += [unit_name(branch, point) for branch in ("pruned", *spec.branches.chosen)]
    return names


def steps(spec: PruningSpec, unit: str) -> int | None:
    """Returns the training steps of a unit, without those of units on the way to it.

    Where a network is pruned in several iterations, or fades before, these are not known here;
    neither are those of `scratch_b`, which trains as long as its multiply-adds allow.
    """
    if unit == "original":
        return 0 if spec.source.path else spec.train.steps
    branch = unit.partition("/")[0]
    if branch in ("scratch_e", "scratch_b"):
        return spec.train.steps if branch == "scratch_e" else None
    several = spec.prune.iterations > 1 or spec.sparsity.penalty == "growing"
    return None if several and branch == "pruned" else spec.fine_tune.steps
