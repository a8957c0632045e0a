"""The results of a run, read back from its folder for tables and figures."""

# R replicates, N examples, K exits

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from groundwork.errors import UserError
from groundwork.runs.results import RunResults, open_results, readable
from groundwork.runs.run import Run, result_of
from groundwork.trees import Variables
from msdnet import calibration, exits
from msdnet.cost import Cost
from msdnet.exits import Outcome
from msdnet.networks import NETWORKS
from msdnet.spec import unit_name


@dataclasses.dataclass(frozen=True)
class Network:
    """The answers of a trained network. Confidences are of the config's kind."""

    name: str
    parameters: int
    costs: list[Cost]
    milliseconds: list[float]  # per image, at each exit, earlier ones included
    answers: dict[str, dict[str, np.ndarray]]  # split → see `work.answer`
    sheet: dict[str, np.ndarray]  # "easy", "hard" → images, if there are any

    @property
    def macs(self) -> list[int]:
        """Multiply-adds of a prediction at each exit, all earlier classifiers included."""
        return [cost.macs_cumulative for cost in self.costs]

    @property
    def alone(self) -> bool:
        """Whether each exit is a network of its own, which needs no earlier one."""
        return getattr(NETWORKS[self.name], "alone", False)  # a function makes networks with heads

    @property
    def milliseconds_alone(self) -> list[float]:
        """Milliseconds per image of each block and classifier without the earlier ones."""
        return np.diff(self.milliseconds, prepend=0.0).tolist()

    @functools.cached_property
    def correct(self) -> np.ndarray:
        """Whether each exit is right on each test example, [R, N, K] bool."""
        test = self.answers["test"]
        return test["predictions"] == test["labels"][None, :, None]

    @property
    def accuracy(self) -> np.ndarray:
        """Accuracies on test, [R, K]."""
        return self.correct.mean(1)

    @property
    def calibration_errors(self) -> np.ndarray:
        """Expected calibration errors on test, [R, K]."""
        probabilities, count = self.answers["test"]["probabilities"], len(self.costs)
        return np.array(
            [
                [calibration.reliability(p[:, k], correct[:, k]).error for k in range(count)]
                for p, correct in zip(probabilities, self.correct, strict=True)
            ]
        )

    def anytime(self) -> list[list[Outcome]]:
        """Returns one curve per replicate, where all examples leave at one exit."""
        return [exits.anytime(correct, self.macs) for correct in self.correct]

    def budgeted(self) -> list[list[Outcome]]:
        """Returns one curve per replicate; thresholds are chosen on validation, applied to test."""
        return [exits.budgeted(*replicate, self.macs) for replicate in self._replicates()]

    @property
    def middle(self) -> float:
        """Half of the last exit's multiply-adds, or all of the first one's if they are more."""
        return max(self.macs[-1] / 2, self.macs[0])

    def at_budget(self, budget: float) -> list[tuple[np.ndarray, Outcome]]:
        """Returns, for each replicate, the exits [N] of the test examples and the outcome.

        Args:
          budget: the mean multiply-adds that an example may cost.

        Raises:
          UserError: the first exit costs more.
        """
        outcomes = []
        for validation, test, correct in self._replicates():
            limits = exits.thresholds(validation, self.macs, budget)
            routed = exits.route(test, limits)
            outcomes.append((routed, exits.outcome(correct, routed, self.macs)))
        return outcomes

    def _replicates(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields confidences [N, K] on validation and test, and right answers, per replicate."""
        validation, test = (self.answers[s]["confidences"] for s in ("validation", "test"))
        return zip(validation, test, self.correct, strict=True)


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run and its finished networks, in the order of `NETWORKS`."""

    networks: dict[str, Network]


def read(workdir: str | Path) -> Results:
    """Returns the finished part of a run.

    Raises:
      UserError: there is no run or no finished network, or a checkpoint is damaged.
    """
    run, fields = open_results(workdir, "msdnet")
    done = [name for name in NETWORKS if run.unit(unit_name(name)).done]
    with readable(run.folder):
        networks = {name: _network(run, name) for name in done}
    if not networks:
        raise UserError(f"{run.folder} has no finished network yet")
    return Results(**fields, networks=networks)


def load(workdir: str | Path, network: str = "msdnet") -> tuple[Variables, np.ndarray]:
    """Returns the variables, leaves [R, …], and temperatures [R, K] of a network, verified.

    Raises:
      UserError: the run has no such network, or its checkpoint is damaged.
    """
    tree = result_of(workdir, unit_name(network))
    return tree["variables"], tree["temperatures"]


def on_grid(curves: Sequence[Sequence[Outcome]], points: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Returns common costs [points], and the curves' accuracies at them [points, R].

    Curves are linear between their points; the costs are those that all of them reach.
    """
    lines = []
    for curve in curves:
        ordered = sorted(curve, key=lambda point: point.cost)
        lines.append(np.array([(point.cost, point.accuracy) for point in ordered]))
    low, high = max(line[0, 0] for line in lines), min(line[-1, 0] for line in lines)
    grid = np.linspace(low, high, points)
    return grid, np.stack([np.interp(grid, line[:, 0], line[:, 1]) for line in lines], 1)


def _network(run: Run, name: str) -> Network:
    tree, metadata = run.unit(unit_name(name)).result()
    return Network(
        name=name,
        parameters=metadata["parameters"],
        costs=[Cost(**cost) for cost in metadata["costs"]],
        milliseconds=metadata["milliseconds"],
        answers={split: tree[split] for split in ("validation", "test")},
        sheet=tree.get("sheet", {}),
    )
