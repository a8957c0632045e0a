"""The results of a run over stability, read back from its folder."""

# R replicates, P points of a path

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.errors import UserError
from groundwork.runs.metrics import mean_and_spread
from groundwork.runs.results import RunResults, open_results, readable
from lottery import analysis
from lottery.stability.errors import MATCHED


@dataclasses.dataclass(frozen=True)
class Between:
    """A path between two networks.

    Attributes:
      label: of the networks: "dense", "level 3", "random 3"; or "levels 3 to 4".
      step: from which the copies were trained; None between tickets of two levels.
      density: kept / prunable, the mean over replicates; between levels, that of the second.
      errors: "test", "train", "matched_test", … → errors [P, R] on the path.
    """

    label: str
    step: int | None
    density: float
    errors: dict[str, np.ndarray]

    def instability(self, split: str) -> list[float]:
        """Returns that of each replicate, [R]; [] if it was not measured."""
        if split not in self.errors:
            return []
        return [float(value) for value in analysis.of_errors(self.errors[split]).instability]

    def ends(self, split: str) -> list[float]:
        """Returns the mean of the two ends' errors, [R]."""
        both = self.errors[split][[0, -1]].mean(0)
        return [float(value) for value in both]


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run: its paths between copies, by network and step, and between levels."""

    copies: list[Between]
    levels: list[Between]

    @property
    def labels(self) -> list[str]:
        """The networks of which copies were trained, the dense one first, then the denser ones."""
        known = {path.label: path.density for path in self.copies}
        return sorted(known, key=lambda label: (-known[label], label))

    def of(self, label: str) -> list[Between]:
        """Returns the paths of a network, by step."""
        found = [path for path in self.copies if path.label == label]
        return sorted(found, key=lambda path: path.step or 0)

    @property
    def error(self) -> str:
        """The word for what lies on the paths."""
        return "error" if self.metric.is_share else self.metric.words


def read(workdir: str | Path) -> Results:
    """Returns the finished part of a run.

    Raises:
      UserError: there is no run or no finished path, or a checkpoint is damaged.
    """
    run, fields = open_results(workdir, "lottery.stability")
    copies: list[Between] = []
    levels: list[Between] = []
    with readable(run.folder):
        for name in run.units():
            kind = name.partition("/")[0]
            if kind not in ("paths", "between"):
                continue
            errors, about = run.unit(name).result()
            (copies if kind == "paths" else levels).append(_between(errors, about))
    if not copies + levels:
        raise UserError(f"{run.folder} has no finished path yet")
    return Results(**fields, copies=copies, levels=levels)


def records(name: str, run: Results) -> list[dict[str, Any]]:
    """Returns one record per path and split, with means over replicates, for other programs."""
    found = []
    for path in (*run.copies, *run.levels):
        for split in path.errors:
            values = path.instability(split)
            mean, deviation = mean_and_spread(values)
            found.append(
                {
                    "run": name,
                    "network": path.label,
                    "step": path.step,
                    "density": path.density,
                    "split": split,
                    "replicates": len(values),
                    "instability_mean": mean,
                    "instability_deviation": deviation,
                    "error_mean": float(np.mean(path.ends(split))),
                }
            )
    return found


def matched(path: Between) -> bool:
    """Returns whether a path was measured with units in the nearest order, too."""
    return any(split.startswith(MATCHED) for split in path.errors)


def _between(errors: dict[str, np.ndarray], about: dict[str, Any]) -> Between:
    if "levels" in about:
        first, second = about["levels"]
        density = float(np.mean(about["densities"][1]))
        return Between(f"{first} to {second}", None, density, errors)
    kind, _, number = about["network"].partition("-")
    label = f"{kind} {int(number)}" if number else kind
    return Between(label, about["step"], float(np.mean(about["density"])), errors)
