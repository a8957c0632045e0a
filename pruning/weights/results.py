"""The results of a run over single weights, read back from its folder."""

# R replicates

import dataclasses
from pathlib import Path
from typing import Any

from groundwork.errors import UserError
from groundwork.runs import operations
from groundwork.runs.results import RunResults, open_results, readable
from groundwork.runs.run import Run, result_of
from groundwork.train.judging import JUDGED, SHOWN
from groundwork.trees import Variables
from pruning.masks import Mask
from pruning.weights.methods import METHODS


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a run: dense, or sparse.

    Attributes:
      label: "dense"; or what was asked for, such as "0.1", "2:4" or "target".
      density: kept / prunable, [R].
      test: accuracies, or values of the run's other metric, after training, [R].
      before: likewise, before the last training, [R].
      steps: of all trainings that led here, from the initialisation.
      seconds: spent in these steps, without compilation; None if the run does not tell.
      kept: path → (kept weights, means over replicates, and all weights).
      untouched: path → why a pattern leaves it dense.
      judged: what the loss's judge says: name → split → [R] numbers.
    """

    label: str
    density: list[float]
    test: list[float]
    before: list[float]
    steps: int
    seconds: float | None
    kept: dict[str, tuple[float, int]]
    untouched: dict[str, str]
    judged: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run, its dense network, and the sparse ones, the densest first."""

    dense: Network
    sparse: list[Network]


def of_weights(workdir: str | Path) -> bool:
    """Returns whether a run of the command is one over single weights.

    Raises:
      UserError: there is no run of the command.
    """
    _, fields = open_results(workdir, "pruning")
    section = fields["config"].get("prune")
    return isinstance(section, dict) and section.get("method") in METHODS


def read(workdir: str | Path) -> Results:
    """Returns the finished part of a run.

    Raises:
      UserError: there is no run or no finished network, or a checkpoint is damaged.
    """
    run, fields = open_results(workdir, "pruning")
    if not run.unit("dense").done:
        raise UserError(f"{run.folder} has no finished network yet")
    with readable(run.folder):
        seconds = {u: s.seconds for u, s in operations.spent(operations.read(run.metrics)).items()}
        dense = _network(run, "dense", seconds)
        names = [unit for unit in run.units() if unit.startswith("sparse/")]
        sparse = [_network(run, name, seconds) for name in names]
        sparse.sort(key=lambda network: -sum(network.density))
    return Results(**fields, dense=dense, sparse=sparse)


def load(workdir: str | Path, unit: str) -> tuple[Mask, Variables]:
    """Returns mask and variables of a unit such as `sparse/0.1`, as NumPy arrays [R, …].

    Raises:
      UserError: the run has no such unit (the error lists its units), or its checkpoint is damaged.
    """
    tree: dict[str, Any] = result_of(workdir, unit)
    return tree["mask"], tree["variables"]


def shown(run: Results, network: Network) -> dict[str, Any]:
    """Returns what a network answers to a few test examples; empty without a judge of the loss."""
    unit = "dense" if network is run.dense else f"sparse/{network.label}"
    tree: dict[str, Any] = result_of(run.folder, unit) if network.judged else {}
    return tree.get(SHOWN, {})


def _network(run: Run, unit: str, seconds: dict[str, float]) -> Network:
    metadata = run.unit(unit).verify()
    spent = [seconds.get(name) for name in metadata["trainings"]]
    return Network(
        label=unit.partition("/")[2] or unit,
        density=metadata["density"],
        test=metadata["test"],
        before=metadata["before"]["test"],
        steps=metadata["steps"],
        seconds=None if None in spent else sum(s for s in spent if s is not None),
        kept={path: (mean, size) for path, (mean, size) in metadata["kept"].items()},
        untouched=metadata["untouched"],
        judged=metadata.get(JUDGED, {}),
    )
