"""The config's sections as dataclasses that check themselves. ConfigDicts stop here."""

import dataclasses
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError, unknown
from groundwork.sections import (
    SHARED,
    CheckpointSpec,
    LogSpec,
    TrainSpec,
    check_counts,
    check_keys,
    counts,
    sections,
)
from groundwork.train.optim import OptimizerSpec
from lowrank.choose import plans, ranks
from lowrank.factorization.layers import METHODS

RULES = ("budget", "energy", "vbmf")
FINE_TUNED = "fine_tuned"  # the unit of the original after as many steps as the factorised ones


class Point(NamedTuple):
    """One factorised network of the sweep."""

    method: str
    share: float  # of the cost, or of the energy; 0 where neither decides

    @property
    def name(self) -> str:
        """`tucker-0.25`, `svd-vbmf`."""
        return f"{self.method}-{self.share:g}" if self.share else f"{self.method}-vbmf"


@dataclasses.dataclass(frozen=True)
class SourceSpec:
    """`source`: a network that was trained before.

    Attributes:
      path: folder of a run, or an `.npz` file (see `groundwork.runs.trained`); "" = train one.
      unit: of the run.
    """

    path: str
    unit: str


@dataclasses.dataclass(frozen=True)
class DecomposeSpec:
    """`decompose`: the sweep.

    Attributes:
      methods: a sweep each, of `svd`, `svd_outputs`, `spatial`, `tucker`, `cp`, `any`.
      ranks: what chooses them: `budget`, `energy`, `vbmf`.
      shares: of the dense layers' cost (`budget`), of the energy (`energy`); unused by `vbmf`.
      measure: what budgets count: `macs`, `parameters`, `milliseconds`.
      leave: patterns (fnmatch) of layers that are left alone.
      keep_slow: factorise layers also where that is not faster on this machine.
      scratch: train each plan from its own decomposed initialisation too, as a control.
      frobenius_decay: weight of half the squared norm of the reassembled kernels in the loss; the
        optimiser's own weight_decay stays as it is, and is to be 0 for this one alone.
    """

    methods: tuple[str, ...]
    ranks: str
    shares: tuple[float, ...]
    measure: str
    leave: tuple[str, ...]
    keep_slow: bool
    scratch: bool
    frobenius_decay: float

    def __post_init__(self) -> None:
        known = (*METHODS["Conv"], plans.JOINT)
        for key in ("methods", "shares", "leave"):
            if not isinstance(getattr(self, key), tuple | list):
                raise UserError(f"decompose.{key}={getattr(self, key)!r} must be a sequence")
        for method in self.methods:
            if method not in known:
                raise unknown("decompose.methods", method, known)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise UserError(f"decompose.methods={self.methods} must name methods, each once")
        for key, names in (("ranks", RULES), ("measure", plans.MEASURES)):
            if getattr(self, key) not in names:
                raise unknown(f"decompose.{key}", getattr(self, key), names)
        for share in self.shares:
            number = isinstance(share, int | float) and not isinstance(share, bool)
            if not number or not 0 < share <= 1:
                raise UserError(f"decompose.shares={self.shares} must lie in (0, 1]")
        for pattern in self.leave:
            if not isinstance(pattern, str):
                raise UserError(f"decompose.leave={self.leave} must be patterns, as ('conv1',)")
        if self.ranks != "vbmf" and not self.shares:
            raise UserError("decompose.shares is empty: give shares in (0, 1], as (0.5, 0.25)")
        if len({f"{share:g}" for share in self.shares}) < len(self.shares):
            raise UserError(
                f"decompose.shares={self.shares} must name each share once (six digits count)"
            )
        if self.ranks != "budget":
            for method in self.methods:
                plans.has_rules(method)
        if not 0 <= self.frobenius_decay < np.inf:
            raise UserError(f"decompose.frobenius_decay={self.frobenius_decay} must be at least 0")

    @property
    def points(self) -> list[Point]:
        """Method by method, the dearest first."""
        shares = (0.0,) if self.ranks == "vbmf" else sorted(self.shares, reverse=True)
        return [Point(method, float(share)) for method in self.methods for share in shares]

    def rule(self, share: float) -> Callable[[np.ndarray], int]:
        """What chooses the rank of a matrix, if no budget does."""
        if self.ranks == "vbmf":
            return ranks.vbmf
        return lambda matrix: ranks.energy(matrix, share)

    def left(self, path: str) -> bool:
        """Is the layer to be left alone?"""
        return any(fnmatchcase(path, pattern) for pattern in self.leave)


SECTIONS: dict[str, Any] = {
    **SHARED,
    "source": SourceSpec,
    "decompose": DecomposeSpec,
    "fine_tune": TrainSpec,
    "fine_tune_optimizer": OptimizerSpec,
}


@dataclasses.dataclass(frozen=True)
class LowRankSpec:
    """A whole experiment."""

    seed: int
    replicates: int
    eval_every: int
    predict: tuple[str, ...]  # layers of which a few weights are to predict the rest
    source: SourceSpec
    train: TrainSpec
    optimizer: OptimizerSpec
    decompose: DecomposeSpec
    fine_tune: TrainSpec
    fine_tune_optimizer: OptimizerSpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec

    def __post_init__(self) -> None:
        check_counts(self)
        paths = self.predict
        listed = isinstance(paths, tuple | list) and all(isinstance(path, str) for path in paths)
        if not listed or len(set(paths)) < len(paths):
            raise UserError(f"predict={paths!r} must be paths of layers, each once, as ('fc1',)")


def from_config(config: Mapping[str, Any]) -> LowRankSpec:
    """Check a resolved config (nested dicts) and turn it into a spec.

    Raises:
      UserError: names the key that is wrong and what would be right.
    """
    own = [field.name for field in dataclasses.fields(LowRankSpec)]
    check_keys(config, [*own, "data", "model"])
    return LowRankSpec(**counts(config), predict=config["predict"], **sections(config, SECTIONS))


def predict_name(path: str) -> str:
    """`predict/fc1`: how well a few of a layer's weights predict the rest."""
    return f"predict/{path}"


def plan_name(point: Point) -> str:
    """`plans/tucker-0.25`: what is done to which layer."""
    return f"plans/{point.name}"


def sweep_name(point: Point) -> str:
    """`sweep/tucker-0.25`: decomposed and fine-tuned."""
    return f"sweep/{point.name}"


def scratch_name(point: Point) -> str:
    """`scratch/tucker-0.25`: the same layers, trained from their initialisation."""
    return f"scratch/{point.name}"


def point_of(unit: str) -> Point:
    """The point of a unit's name, `sweep/tucker-0.25` or another one of it."""
    method, _, share = unit.rpartition("/")[2].partition("-")  # the share may be 1e-05
    return Point(method, 0.0 if share == "vbmf" else float(share))


def unit_names(spec: LowRankSpec) -> list[str]:
    """All units of a run, in the order in which they are done."""
    found = ["original", FINE_TUNED, *map(predict_name, spec.predict)]
    for point in spec.decompose.points:
        found += [plan_name(point), sweep_name(point)]
        found += [scratch_name(point)] if spec.decompose.scratch else []
    return found
