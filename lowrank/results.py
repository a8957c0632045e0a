"""The results of a run, read back from its folder for tables and figures."""

# R replicates

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.errors import UserError
from groundwork.runs.results import RunResults, open_results, readable
from groundwork.runs.run import Run, result_of
from groundwork.trees import Variables
from lowrank import factorization, spec
from lowrank.choose.plans import JOINT
from lowrank.factorization.layers import METHODS
from lowrank.prediction import Curve
from lowrank.spec import Point


@dataclasses.dataclass(frozen=True)
class Network:
    """The costs and the accuracy of one network, or its value of the run's other metric."""

    test: list[float]  # accuracy, [R]
    parameters: int
    macs: int  # multiply-adds of one example
    milliseconds: dict[str, list[float]]  # batch size → the original's and its own, in one run


@dataclasses.dataclass(frozen=True)
class Factorised(Network):
    """A point of the sweep. `test` is after fine-tuning."""

    point: Point
    plan: dict[str, dict[str, Any]]
    before: list[float]  # test accuracy before fine-tuning, [R]
    errors: dict[str, list[float]]  # path → relative error, [R]
    stalled: list[str]  # paths of layers whose iterations had not converged
    layers: list[dict[str, Any]]  # one row per layer; this and the next two: see `choose.planner`
    slow: list[str]
    needed: list[str]
    not_reached: dict[str, str]  # path → the reason
    scratch: Network | None


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run and its finished points, method by method."""

    original: Network
    fine_tuned: Network | None  # the original, with as much fine-tuning as the others
    points: list[Factorised]
    predicted: dict[str, dict[str, Curve]]  # path → name of the inputs' covariance → curve

    def by_method(self) -> dict[str, list[Factorised]]:
        """Returns the points of each method, the cheapest first."""
        points: dict[str, list[Factorised]] = {}
        for point in sorted(self.points, key=lambda point: point.macs):
            points.setdefault(point.point.method, []).append(point)
        return dict(sorted(points.items()))

    def kernels(self) -> dict[str, np.ndarray]:
        """Returns path → the original's kernels [R, …] of the layers in the tables, verified.

        The layers of a stack follow one another on the first axis.
        """
        variables = load(self.folder, "original")
        rows = self.points[0].layers if self.points else []
        kernels = {}
        for row in rows:
            layer = factorization.assumed(variables, row["path"])
            leaf = np.asarray(factorization.kernel(variables, layer))
            kernels[row["path"]] = leaf.reshape(-1, *row["shape"])
        return kernels


def read(workdir: str | Path) -> Results:
    """Returns the finished part of a run.

    Raises:
      UserError: there is no run or no finished network, or a checkpoint is damaged.
    """
    run, fields = open_results(workdir, "lowrank")
    if not run.unit("original").done:
        raise UserError(f"{run.folder} has no finished network yet")
    with readable(run.folder):
        return Results(**fields, **_finished(run))


def _finished(run: Run) -> dict[str, Any]:
    """Returns the fields of `Results` that a run's units fill."""
    points = [spec.point_of(unit) for unit in run.units() if unit.startswith("sweep/")]
    points = [point for point in points if run.unit(spec.plan_name(point)).done]  # else made again
    order = [*METHODS["Conv"], JOINT]
    points.sort(key=lambda point: (order.index(point.method), -point.share))
    predicted = {
        unit.partition("/")[2]: _curves(run, unit)
        for unit in run.units()
        if unit.startswith("predict/")
    }
    tuned = _network(run, spec.FINE_TUNED) if run.unit(spec.FINE_TUNED).done else None
    return {
        "original": _network(run, "original"),
        "fine_tuned": tuned,
        "points": [_point(run, point) for point in points],
        "predicted": predicted,
    }


def load(workdir: str | Path, unit: str) -> Variables:
    """Returns the variables, leaves [R, …], of a unit such as `original` or `sweep/svd-0.5`.

    Raises:
      UserError: the run has no such unit (the error lists its units), or its checkpoint is damaged.
    """
    return result_of(workdir, unit)["variables"]


def _curves(run: Run, unit: str) -> dict[str, Curve]:
    tree = run.unit(unit).result()[0]
    return {
        name: Curve(**{**curve, "shares": tuple(np.asarray(curve["shares"]).tolist())})
        for name, curve in tree.items()
    }


def _point(run: Run, point: Point) -> Factorised:
    planned = run.unit(spec.plan_name(point)).result()[1]
    metadata = run.unit(spec.sweep_name(point)).result()[1]
    scratch = spec.scratch_name(point)
    return Factorised(
        **dataclasses.asdict(_network(run, spec.sweep_name(point))),
        **{key: planned[key] for key in ("plan", "layers", "slow", "needed", "not_reached")},
        point=point,
        before=metadata["before"]["test"],
        errors=metadata["errors"],
        stalled=metadata.get("stalled", []),  # older runs lack it
        scratch=_network(run, scratch) if run.unit(scratch).done else None,
    )


def _network(run: Run, unit: str) -> Network:
    metadata = run.unit(unit).result()[1]
    names = (field.name for field in dataclasses.fields(Network))
    return Network(**{name: metadata[name] for name in names})
