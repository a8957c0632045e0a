"""The numbers of a run, read back from its folder: what tables and figures are made of."""

# R replicates

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.errors import UserError
from groundwork.runs import identity
from groundwork.runs import run as run_lib
from lowrank import factorization, spec
from lowrank.choose.plans import JOINT
from lowrank.factorization.layers import METHODS
from lowrank.prediction import Curve
from lowrank.spec import Point


@dataclasses.dataclass(frozen=True)
class Network:
    """What one network costs, and how often it is right."""

    test: list[float]  # accuracy, [R]
    parameters: int
    macs: int  # multiply-adds of one example
    milliseconds: dict[str, list[float]]  # batch size → the original's, its own, in one run


@dataclasses.dataclass(frozen=True)
class Factorised(Network):
    """A point of the sweep. `test` is after fine-tuning."""

    point: Point
    plan: dict[str, dict[str, Any]]
    before: list[float]  # test accuracy before fine-tuning, [R]
    errors: dict[str, list[float]]  # path → relative error, [R]
    stalled: list[str]  # whose iterations had not converged
    layers: list[dict[str, Any]]  # a row each; see `planner`
    slow: list[str]  # this and the next: see `planning.Planned`
    needed: list[str]
    not_reached: dict[str, str]  # path → why
    scratch: Network | None


@dataclasses.dataclass(frozen=True)
class Results:
    """A run and its finished points, method by method."""

    name: str
    folder: Path
    config: dict[str, Any]
    about: dict[str, Any]  # versions, commit
    original: Network
    fine_tuned: Network | None  # the original, with as much fine-tuning as the others
    points: list[Factorised]
    predicted: dict[str, dict[str, Curve]]  # path → what is known of its inputs → curve

    def by_method(self) -> dict[str, list[Factorised]]:
        """Points of each method, the cheapest first."""
        found: dict[str, list[Factorised]] = {}
        for point in sorted(self.points, key=lambda point: point.macs):
            found.setdefault(point.point.method, []).append(point)
        return dict(sorted(found.items()))

    def kernels(self) -> dict[str, np.ndarray]:
        """Path → [R, …]: the original's kernels of the layers in the tables; verified."""
        variables = load(self.folder, "original")
        rows = self.points[0].layers if self.points else []
        paths = [row["path"] for row in rows]
        return {p: np.asarray(factorization.parameters(variables, p)["kernel"]) for p in paths}


def read(workdir: str | Path) -> Results:
    """The finished part of a run.

    Raises:
      UserError: no run, no finished network yet, or a damaged checkpoint.
    """
    folder = Path(workdir)
    about = identity.read_about(folder, command="lowrank")
    config = about.pop("config")
    run = run_lib.Run(folder)
    if not run.unit("original").done:
        raise UserError(f"{folder} has no finished network yet")
    points = [spec.point_of(unit) for unit in run.units() if unit.startswith("sweep/")]
    points = [point for point in points if run.unit(spec.plan_name(point)).done]  # else: made again
    order = [*METHODS["Conv"], JOINT]
    points.sort(key=lambda point: (order.index(point.method), -point.share))
    found = [_point(run, point) for point in points]
    original = _network(run, "original")
    predicted = {
        unit.partition("/")[2]: _curves(run, unit)
        for unit in run.units()
        if unit.startswith("predict/")
    }
    tuned = _network(run, spec.FINE_TUNED) if run.unit(spec.FINE_TUNED).done else None
    return Results(
        name=folder.resolve().name,
        folder=folder,
        config=config,
        about=about,
        original=original,
        fine_tuned=tuned,
        points=found,
        predicted=predicted,
    )


def load(workdir: str | Path, unit: str) -> Any:
    """Variables of a finished unit, `original` or such as `sweep/svd-0.5`: leaves [R, …]; verified.

    Raises:
      UserError: the run has no such unit (lists those it has), or its checkpoint is damaged.
    """
    return run_lib.result_of(workdir, unit)["variables"]


def _curves(run: run_lib.Run, unit: str) -> dict[str, Curve]:
    tree = run.unit(unit).result()[0]
    return {
        name: Curve(**{**curve, "shares": tuple(np.asarray(curve["shares"]).tolist())})
        for name, curve in tree.items()
    }


def _point(run: run_lib.Run, point: Point) -> Factorised:
    planned = run.unit(spec.plan_name(point)).result()[1]
    metadata = run.unit(spec.sweep_name(point)).result()[1]
    scratch = spec.scratch_name(point)
    return Factorised(
        **dataclasses.asdict(_network(run, spec.sweep_name(point))),
        **{key: planned[key] for key in ("plan", "layers", "slow", "needed", "not_reached")},
        point=point,
        before=metadata["before"]["test"],
        errors=metadata["errors"],
        stalled=metadata.get("stalled", []),  # runs of an earlier version do not say
        scratch=_network(run, scratch) if run.unit(scratch).done else None,
    )


def _network(run: run_lib.Run, unit: str) -> Network:
    metadata = run.unit(unit).result()[1]
    names = (field.name for field in dataclasses.fields(Network))
    return Network(**{name: metadata[name] for name in names})
