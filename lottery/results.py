"""The results of a run, read back from its folder for tables and figures."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.errors import UserError
from groundwork.report.comparison import accuracy_fields
from groundwork.runs import checkpoint, metrics
from groundwork.runs.results import RunResults, open_results
from lottery.branches import BRANCHES

Curve = dict[int, list[float]]  # step → one value per replicate


@dataclasses.dataclass(frozen=True)
class Point:
    """A branch at a level; lists have one entry per replicate."""

    branch: str
    level: int
    density: float  # mean over replicates
    parameters: int
    accuracy: list[float]  # or the run's other metric, on test, at the end of training
    stopped_accuracy: list[float]  # on test, at the early-stopping step; empty without validation
    stopped_step: list[int]
    kept: dict[str, list[int]]  # layer → kept weights
    sizes: dict[str, int]
    requested: dict[str, float]  # group → density before rounding


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run: its finished points by (branch, level) and its learning curves."""

    points: dict[tuple[str, int], Point]
    curves: dict[tuple[str, int, str, str], Curve]  # branch, level, split, loss or metric

    def branches(self) -> list[str]:
        """Returns the branches that have points, the ticket first."""
        return [b for b in ("ticket", *BRANCHES) if any(b == branch for branch, _ in self.points)]

    def of(self, branch: str) -> list[Point]:
        """Returns the points of a branch, by level."""
        return [self.points[key] for key in sorted(self.points) if key[0] == branch]


def read(folder: Path) -> Results:
    """Returns the finished part of a run.

    Raises:
      UserError: there is no run or no finished level, or a checkpoint is damaged.
    """
    run, fields = open_results(folder, "lottery")
    rows = metrics.read(run.metrics)
    metric = RunResults(**fields).metric.name
    tests: dict[str, list[metrics.Row]] = defaultdict(list)
    curves: dict[tuple[str, int, str, str], Curve] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["split"] == "test":
            tests[row["unit"]].append(row)
        else:
            for value in dict.fromkeys(("loss", metric)):
                key = (row["branch"], row["level"], row["split"], value)
                curves[key][row["step"]].append(row[value])
    points = {}
    for name in run.units():
        if name.startswith("levels/"):
            metadata = checkpoint.verify(run.unit(name).folder / "final")
            if not any(row["at"] == "end" for row in tests[name]):
                raise UserError(f"{run.metrics} lacks the test rows of {name}")
            point = _point(tests[name], metadata, metric)
            points[point.branch, point.level] = point
    if not points:
        raise UserError(f"{folder} has no finished level yet")
    return Results(**fields, points=points, curves=dict(curves))


def records(run: Results) -> list[dict[str, Any]]:
    """Returns one record per branch and level, for other programs."""
    return [
        {
            "run": run.name,
            "branch": point.branch,
            "level": point.level,
            "density": point.density,
            "parameters": point.parameters,
            "replicates": len(point.accuracy),
            **accuracy_fields(point.accuracy, run.metric),
        }
        for point in run.points.values()
    ]


def _point(rows: Sequence[metrics.Row], metadata: dict[str, Any], metric: str) -> Point:
    end = [row for row in rows if row["at"] == "end"]
    stopped = [row for row in rows if row["at"] == "early_stop"]
    return Point(
        branch=metadata["branch"],
        level=metadata["level"],
        density=float(np.mean([row["density"] for row in end])),
        parameters=round(np.mean([row["parameters"] for row in end])),
        accuracy=[row[metric] for row in end],
        stopped_accuracy=[row[metric] for row in stopped],
        stopped_step=[row["step"] for row in stopped],
        kept=metadata["kept"],
        sizes=metadata["sizes"],
        requested=metadata["requested"],
    )
