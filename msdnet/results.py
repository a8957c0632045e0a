"""The numbers of a run, read back from its folder: what tables and figures are made of."""

# R replicates, N examples, K exits

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.errors import UserError
from groundwork.runs import identity
from groundwork.runs import run as run_lib
from msdnet import calibration, exits
from msdnet.cost import Cost
from msdnet.exits import Outcome
from msdnet.networks import NETWORKS
from msdnet.spec import unit_name


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network's answers. Confidences are of the config's kind."""

    name: str
    parameters: int
    costs: list[Cost]
    milliseconds: list[float]  # an image, at each exit, earlier ones included
    answers: dict[str, dict[str, np.ndarray]]  # split → see `training.answer`
    sheet: dict[str, np.ndarray]  # "easy", "hard": images, where there are any

    @property
    def macs(self) -> list[int]:
        """Multiply-adds of a prediction at each exit, all earlier classifiers included."""
        return [cost.macs_cumulative for cost in self.costs]

    @functools.cached_property
    def correct(self) -> np.ndarray:
        """Which test examples each exit has right, [R, N, K] bool."""
        test = self.answers["test"]
        return test["predictions"] == test["labels"][None, :, None]

    @property
    def accuracy(self) -> np.ndarray:
        """On test, [R, K]."""
        return self.correct.mean(1)

    @property
    def calibration_errors(self) -> np.ndarray:
        """Expected calibration error on test, [R, K]."""
        probabilities, exit_count = self.answers["test"]["probabilities"], len(self.costs)
        return np.array(
            [
                [calibration.reliability(own[:, k], right[:, k]).error for k in range(exit_count)]
                for own, right in zip(probabilities, self.correct, strict=True)
            ]
        )

    def anytime(self) -> list[list[Outcome]]:
        """A curve a replicate: all leave at one exit."""
        return [exits.anytime(own, self.macs) for own in self.correct]

    def budgeted(self) -> list[list[Outcome]]:
        """A curve a replicate: thresholds chosen on validation, applied to test."""
        validation, test = (self.answers[s]["confidences"] for s in ("validation", "test"))
        each = zip(validation, test, self.correct, strict=True)
        return [exits.budgeted(*own, self.macs) for own in each]

    @property
    def middle(self) -> float:
        """Half of the last exit's multiply-adds, or the first one's where those are more."""
        return max(self.macs[-1] / 2, self.macs[0])

    def at_budget(self, budget: float) -> list[tuple[np.ndarray, Outcome]]:
        """A replicate each: exits of the test examples [N] at a mean budget, and what comes of it.

        Raises:
          UserError: the first exit costs more.
        """
        found = []
        validation, test = (self.answers[s]["confidences"] for s in ("validation", "test"))
        for own, other, correct in zip(validation, test, self.correct, strict=True):
            limits = exits.thresholds(own, self.macs, budget)
            routed = exits.route(other, limits)
            found.append((routed, exits.outcome(correct, routed, self.macs)))
        return found


@dataclasses.dataclass(frozen=True)
class Results:
    """A run and its finished networks, in the order of `NETWORKS`."""

    name: str
    folder: Path
    config: dict[str, Any]
    about: dict[str, Any]  # versions, commit
    networks: dict[str, Network]


def read(workdir: str | Path) -> Results:
    """The finished part of a run.

    Raises:
      UserError: no run, no finished network yet, or a damaged checkpoint.
    """
    folder = Path(workdir)
    about = identity.read_about(folder, command="msdnet")
    run = run_lib.Run(folder)
    found = {name: _network(run, name) for name in NETWORKS if run.unit(unit_name(name)).done}
    if not found:
        raise UserError(f"{folder} has no finished network yet")
    return Results(folder.resolve().name, folder, about.pop("config"), about, found)


def load(workdir: str | Path, network: str = "msdnet") -> tuple[Any, np.ndarray]:
    """Variables of a finished network, leaves [R, …], and temperatures [R, K]; verified.

    Raises:
      UserError: the run has no such network, or its checkpoint is damaged.
    """
    tree = run_lib.result_of(workdir, unit_name(network))
    return tree["variables"], tree["temperatures"]


def on_grid(curves: Sequence[Sequence[Outcome]], points: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Curves of replicates at common costs: [points], accuracies [points, R].

    Linear between a curve's points, over the costs that all of them reach.
    """
    found = []
    for curve in curves:
        ordered = sorted(curve, key=lambda point: point.cost)
        found.append(np.array([(point.cost, point.accuracy) for point in ordered]))
    low, high = max(c[0, 0] for c in found), min(c[-1, 0] for c in found)
    grid = np.linspace(low, high, points)
    return grid, np.stack([np.interp(grid, c[:, 0], c[:, 1]) for c in found], 1)


def _network(run: run_lib.Run, name: str) -> Network:
    tree, metadata = run.unit(unit_name(name)).result()
    return Network(
        name=name,
        parameters=metadata["parameters"],
        costs=[Cost(**cost) for cost in metadata["costs"]],
        milliseconds=metadata["milliseconds"],
        answers={split: tree[split] for split in ("validation", "test")},
        sheet=tree.get("sheet", {}),
    )
