"""The config's sections as dataclasses that check themselves; ConfigDicts stop here."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from groundwork import idle
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError, about
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
    values,
)
from groundwork.train import loss_spec
from groundwork.train.loss_spec import LossSpec
from groundwork.train.optim import OptimizerSpec
from groundwork.typed import Seed
from lowrank.choose.rules import (
    Rules,
    check_leave,
    check_measure,
    check_methods,
    check_rule,
    check_shares,
)

FINE_TUNED = "fine_tuned"  # the unit of the original after as many steps as the factorised ones


class Point(NamedTuple):
    """One factorised network of the sweep."""

    method: str
    share: float  # of the cost, or of the energy; 0 if neither decides

    @property
    def name(self) -> str:
        """Such as `tucker-0.25` or `svd-vbmf`."""
        return f"{self.method}-{self.share:g}" if self.share else f"{self.method}-vbmf"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecomposeSpec(Rules):
    """`decompose`: the sweep, whose plans `Rules` choose.

    Attributes:
      scratch: whether each plan is also trained from its decomposed initialisation, as a control.
      frobenius_decay: the weight in the loss of half the squared norm of the reassembled kernels.
        The weight_decay of the optimiser acts besides, unless it is 0.
    """

    scratch: bool
    frobenius_decay: float

    def __post_init__(self) -> None:
        check_rules(self, "decompose")
        if self.frobenius_decay < 0:
            raise UserError(f"decompose.frobenius_decay={self.frobenius_decay} must be at least 0")

    @property
    def points(self) -> list[Point]:
        """The points of the sweep, method by method, the most expensive first."""
        return [Point(method, share) for method in self.methods for share in self.settings]


def check_rules(rules: Rules, section: str, methods: str = "methods") -> None:
    """Refuses rules that cannot be applied.

    Args:
      rules: from a section of a config.
      section: its name, such as `decompose`.
      methods: the section's key for the methods.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    with about(f"{section}.ranks"):
        check_rule(rules.ranks)
    with about(f"{section}.{methods}"):
        check_methods(rules.methods, rules.ranks)
    with about(f"{section}.shares"):
        check_shares(rules.shares, rules.ranks)
    with about(f"{section}.measure"):
        check_measure(rules.measure)
    with about(f"{section}.leave"):
        check_leave(rules.leave)


def idle_rules(rules: Rules) -> dict[str, str]:
    """Returns the keys that change nothing, and why; see `groundwork.idle`."""
    keys = {"shares": "ranks=vbmf needs none"} if rules.ranks == "vbmf" else {}
    if rules.ranks != "budget":
        keys["measure"] = f"ranks={rules.ranks} has no budget"
    return keys


SECTIONS: dict[str, Any] = {
    **SHARED,
    "source": SourceSpec,
    "decompose": DecomposeSpec,
    "fine_tune": FineTuneSpec,
    "fine_tune_optimizer": FineTuneOptimizerSpec,
}


@dataclasses.dataclass(frozen=True)
class LowRankSpec:
    """A whole experiment."""

    seed: Seed
    replicates: int
    eval_every: int
    predict: Annotated[
        tuple[str, ...], "paths of layers, such as ('fc1',)"
    ]  # layers of which a few weights are used to predict the rest
    source: SourceSpec
    train: TrainSpec
    optimizer: OptimizerSpec
    decompose: DecomposeSpec
    fine_tune: TrainSpec
    fine_tune_optimizer: OptimizerSpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)

    def __post_init__(self) -> None:
        check_counts(self)
        if len(set(self.predict)) < len(self.predict):
            raise UserError(f"predict={self.predict} must name layers, each once")


def from_config(config: Mapping[str, Any]) -> LowRankSpec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    keys = {field.name for field in dataclasses.fields(LowRankSpec)} - {"loss"}
    check_keys(config, [*keys, "data", "model"], optional=LOSS)
    return LowRankSpec(
        **values(config, LowRankSpec, "predict"),
        **sections(config, SECTIONS),
        loss=loss_spec.from_config(config),
    )


def without_effect(spec: LowRankSpec, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    optimizers = [spec.optimizer, spec.fine_tune_optimizer]
    trained = {"train": spec.optimizer, "fine_tune": spec.fine_tune_optimizer}
    keys = {**idle.of_optimizers(optimizers), **idle.of_data(config["data"])}
    keys |= idle.of_source(spec.source.path)
    if spec.source.path and not spec.decompose.scratch:
        del trained["train"]
        for key in ("train.steps", "optimizer"):
            keys[key] = "source.path has the network, which is not trained"
    keys |= {f"decompose.{key}": reason for key, reason in idle_rules(spec.decompose).items()}
    return idle.warnings(idle.beyond_steps(spec, trained), keys, given)


def predict_name(path: str) -> str:
    """Returns `predict/fc1`, the unit that predicts a layer's weights from a few of them."""
    return f"predict/{path}"


def plan_name(point: Point) -> str:
    """Returns `plans/tucker-0.25`, the unit with the method and rank of each layer."""
    return f"plans/{point.name}"


def sweep_name(point: Point) -> str:
    """Returns `sweep/tucker-0.25`, the unit of the network that is decomposed and fine-tuned."""
    return f"sweep/{point.name}"


def scratch_name(point: Point) -> str:
    """Returns `scratch/tucker-0.25`, the unit of the same layers trained from initialisation."""
    return f"scratch/{point.name}"


def point_of(unit: str) -> Point:
    """Returns the point of a unit such as `sweep/tucker-0.25` or `plans/tucker-0.25`."""
    method, _, share = unit.rpartition("/")[2].partition("-")  # the share may be 1e-05
    return Point(method, 0.0 if share == "vbmf" else float(share))


def unit_names(spec: LowRankSpec) -> list[str]:
    """Returns the names of all units of a run, in their order."""
    names = ["original", FINE_TUNED, *map(predict_name, spec.predict)]
    for point in spec.decompose.points:
        names += [plan_name(point), sweep_name(point)]
        names += [scratch_name(point)] if spec.decompose.scratch else []
    return names


def steps(spec: LowRankSpec, unit: str) -> int:
    """Returns the training steps of a unit."""
    if unit == "original":
        return 0 if spec.source.path else spec.train.steps
    kinds = {sweep_name: spec.fine_tune, scratch_name: spec.train}
    found = {kind(p): of.steps for p in spec.decompose.points for kind, of in kinds.items()}
    return {**found, FINE_TUNED: spec.fine_tune.steps}.get(unit, 0)


def following(spec: LowRankSpec, folder: str) -> str:
    """Returns what the user of a finished run may do next."""
    del spec
    run = shlex.quote(folder)
    return f"python -m deploy.main --source={run} writes files of engines, and times them"
