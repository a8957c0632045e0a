"""The results of a run, read back from its folder for tables and figures."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.errors import UserError
from groundwork.report.comparison import accuracy_fields
from groundwork.runs import metrics
from groundwork.runs.identity import read_about
from groundwork.runs.results import RunResults, open_results, readable
from groundwork.runs.run import Run
from groundwork.runs.unit import Unit
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
    written = metrics.read(run.metrics)
    rows, done = metrics.by_unit(written), _units(run)
    metric, replicates = RunResults(**fields).metric.name, fields["config"]["replicates"]
    points = {}
    with readable(run.folder):
        for name in done:
            metadata = run.unit(name).verify()
            if reason := _lost(run.unit(name), rows, replicates):
                again = f"start the run again, and {name} is done again"
                raise UserError(f"{run.metrics}: of {name}, {reason}: {again}")
            if name.startswith("levels/"):
                point = _point(rows[name], metadata, metric)
                points[point.branch, point.level] = point
        if not points:
            raise UserError(f"{folder} has no finished level yet")
        units = {name for name in done if name.startswith("levels/") or _shown(name, points)}
        curves = _curves([row for row in written if row["unit"] in units], metric)
    return Results(**fields, points=points, curves=curves)


def lost(run: Run) -> dict[str, str]:
    """Returns the finished units whose rows are not all there → what is missing."""
    rows = metrics.by_unit(metrics.read(run.metrics))
    replicates = read_about(run.folder)["config"]["replicates"]
    reasons = {name: _lost(run.unit(name), rows, replicates) for name in _units(run)}
    return {name: f"{run.metrics}: {reason}" for name, reason in reasons.items() if reason}


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


def _units(run: Run) -> list[str]:
    """Returns the finished units that are such a run's; people keep copies of some beside them."""
    names = rf"start|scored/\d+|levels/\d+/({'|'.join(('ticket', *BRANCHES))})"
    return [name for name in run.units() if re.fullmatch(names, name)]


def _lost(unit: Unit, rows: Mapping[str, Sequence[metrics.Row]], replicates: int) -> str:
    """Returns what is wrong with the rows of a finished unit; empty if nothing is."""
    ends = [row.get("replicate") for row in rows.get(unit.name, []) if row.get("at") == "end"]
    if unit.name.startswith("levels/") and ends != list(range(replicates)):
        return "its test rows are missing"  # older checkpoints do not know their rows
    return unit.lost_rows(rows)


def _shown(unit: str, points: Mapping[tuple[str, int], Point]) -> bool:
    """Returns whether a ticket's beginning, in a unit of its own, belongs to one that is done."""
    level = 0 if unit == "start" else int(unit.rpartition("/")[2])
    return ("ticket", level) in points


def _curves(rows: Sequence[metrics.Row], metric: str) -> dict[tuple[str, int, str, str], Curve]:
    curves: dict[tuple[str, int, str, str], Curve] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["split"] != "test":
            for value in dict.fromkeys(("loss", metric)):
                key = (row["branch"], row["level"], row["split"], value)
                curves[key][row["step"]].append(row[value])
    return {key: dict(sorted(curve.items())) for key, curve in curves.items()}


def _point(rows: Sequence[metrics.Row], metadata: dict[str, Any], metric: str) -> Point:
    end = [row for row in rows if row.get("at") == "end"]
    stopped = [row for row in rows if row.get("at") == "early_stop"]
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
