"""The numbers of a run, read back from its folder: what tables and figures are made of."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.errors import UserError
from groundwork.runs import checkpoint, identity, metrics
from groundwork.runs import run as run_lib
from lottery.branches import BRANCHES

Curve = dict[int, list[float]]  # step → a value a replicate


@dataclasses.dataclass(frozen=True)
class Point:
    """A branch at a level; lists have an entry a replicate."""

    branch: str
    level: int
    density: float  # mean over replicates
    parameters: int
    accuracy: list[float]  # on test, at the end of training
    stopped_accuracy: list[float]  # on test, at the early-stopping step; empty without validation
    stopped_step: list[int]
    kept: dict[str, list[int]]  # layer → kept weights
    sizes: dict[str, int]
    requested: dict[str, float]  # group → density before rounding


@dataclasses.dataclass(frozen=True)
class Results:
    """A run: its finished points by (branch, level) and its learning curves."""

    name: str
    folder: Path
    config: dict[str, Any]
    about: dict[str, Any]  # versions, commit
    points: dict[tuple[str, int], Point]
    curves: dict[tuple[str, int, str, str], Curve]  # branch, level, split, "loss" / "accuracy"

    def branches(self) -> list[str]:
        """Branches that have points, the ticket first."""
        return [b for b in ("ticket", *BRANCHES) if any(b == branch for branch, _ in self.points)]

    def of(self, branch: str) -> list[Point]:
        """A branch's points by level."""
        return [self.points[key] for key in sorted(self.points) if key[0] == branch]


def read(folder: Path) -> Results:
    """The finished part of a run.

    Raises:
      UserError: no run, no finished level yet, or a damaged checkpoint.
    """
    about = identity.read_about(folder, command="lottery")
    run = run_lib.Run(folder)
    rows = metrics.read(run.metrics)
    tests: dict[str, list[metrics.Row]] = defaultdict(list)
    curves: dict[tuple[str, int, str, str], Curve] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["split"] == "test":
            tests[row["unit"]].append(row)
        else:
            for value in ("loss", "accuracy"):
                key = (row["branch"], row["level"], row["split"], value)
                curves[key][row["step"]].append(row[value])
    points = {}
    for name in run.units():
        if name.startswith("levels/"):
            metadata = checkpoint.verify(run.unit(name).folder / "final")
            if not any(row["at"] == "end" for row in tests[name]):
                raise UserError(f"{run.metrics} lacks the test rows of {name}")
            point = _point(tests[name], metadata)
            points[point.branch, point.level] = point
    if not points:
        raise UserError(f"{folder} has no finished level yet")
    return Results(folder.resolve().name, folder, about.pop("config"), about, points, dict(curves))


def records(run: Results) -> list[dict[str, Any]]:
    """A record a branch and level, for a table that other programs read."""
    found = []
    for point in run.points.values():
        mean, spread = metrics.mean_and_spread(point.accuracy)
        found.append(
            {
                "run": run.name,
                "branch": point.branch,
                "level": point.level,
                "density": point.density,
                "parameters": point.parameters,
                "replicates": len(point.accuracy),
                "accuracy_mean": mean,
                "accuracy_deviation": spread,
            }
        )
    return found


def _point(rows: Sequence[metrics.Row], metadata: dict[str, Any]) -> Point:
    end = [row for row in rows if row["at"] == "end"]
    stopped = [row for row in rows if row["at"] == "early_stop"]
    return Point(
        branch=metadata["branch"],
        level=metadata["level"],
        density=float(np.mean([row["density"] for row in end])),
        parameters=round(np.mean([row["parameters"] for row in end])),
        accuracy=[row["accuracy"] for row in end],
        stopped_accuracy=[row["accuracy"] for row in stopped],
        stopped_step=[row["step"] for row in stopped],
        kept=metadata["kept"],
        sizes=metadata["sizes"],
        requested=metadata["requested"],
    )
