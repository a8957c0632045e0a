"""The results of a run, read back from its folder for tables and figures."""

# R replicates, E epochs

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.errors import UserError
from groundwork.runs import operations
from groundwork.runs.results import RunResults, open_results, readable
from groundwork.runs.run import Run, result_of
from groundwork.trees import Variables
from lottery.early_bird.spec import CONTROLS, epoch_name

PASSES = 3  # of the multiply-adds of a prediction, in a step: one forward, two backward


@dataclasses.dataclass(frozen=True)
class Network:
    """One network, and what led to it.

    Attributes:
      test: accuracies, or values of the run's other metric, after training, [R].
      before: likewise, before its own training, [R].
      epoch: of the dense training, at which it was drawn; the last one of the dense network.
      macs: multiply-adds of one example.
      training_macs: of all training that led to it, of one replicate: see `PASSES`.
      seconds: spent in that training, of all replicates; None if the run does not tell.
    """

    test: list[float]
    before: list[float]
    epoch: int
    macs: int
    training_macs: int
    seconds: float | None


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run.

    Attributes:
      distances: [R, E, E] between the masks of all epochs.
      fired: the epoch at which each replicate's detector fired, from 1, or None.
      epoch: at which the ticket was drawn, the last of `fired`, or None.
      from_own: how far each replicate's ticket is from the mask that its detector saw, [R].
      dense: the dense network.
      networks: `ticket` and controls, by name; those that are done.
      absent: networks that could not be made → why.
    """

    distances: np.ndarray
    fired: list[int | None]
    epoch: int | None
    from_own: list[float]
    dense: Network
    networks: dict[str, Network]
    absent: dict[str, str]


def read(workdir: str | Path) -> Results:
    """Returns the finished part of a run.

    Raises:
      UserError: there is no run or no finished dense network, or a checkpoint is damaged.
    """
    run, fields = open_results(workdir, "lottery.early_bird")
    if not run.unit("dense").done:
        raise UserError(f"{run.folder} has no finished network yet")
    with readable(run.folder):
        tree, about = run.unit("distances").result()
        done = [name for name in ("ticket", *CONTROLS) if run.unit(name).done]
        found = {name: run.unit(name).verify() for name in done}
        absent = {name: m["absent"] for name, m in found.items() if "absent" in m}
        costs = _Costs(run, fields["config"])
        made = {name: found[name] for name in done if name not in absent}
        epochs = {name: costs.epochs if name == "late" else about["epoch"] for name in made}
        drawn = run.unit("drawn/ticket").verify() if "ticket" in made else {}
        return Results(
            **fields,
            distances=np.asarray(tree["distances"]),
            fired=about["fired"],
            epoch=about["epoch"],
            from_own=drawn.get("from_own", []),
            dense=costs.network("dense", run.unit("dense").verify(), costs.epochs),
            networks={n: costs.network(n, m, epochs[n]) for n, m in made.items()},
            absent=absent,
        )


def load(workdir: str | Path, unit: str) -> Variables:
    """Returns the variables, leaves [R, …], of a unit such as `dense`, `ticket` or `epochs/003`.

    Raises:
      UserError: the run has no such unit (the error lists its units), or its checkpoint is damaged.
    """
    tree: dict[str, Any] = result_of(workdir, unit)
    if "variables" not in tree:
        raise UserError(f"{unit} of {workdir} holds no variables of a network")
    variables: Variables = tree["variables"]
    return variables


class _Costs:
    """What the trainings of a run took."""

    def __init__(self, run: Run, config: dict[str, Any]) -> None:
        self._train, self._tune = config["train"], config["fine_tune"]
        self._every = config["early_bird"]["every"]
        self.epochs = self._train["steps"] // self._every
        self._dense_macs = run.unit("dense").verify()["macs"]
        spent = operations.spent(operations.read(run.metrics))
        self._seconds = {unit: one.seconds for unit, one in spent.items()}

    def network(self, name: str, metadata: dict[str, Any], epoch: int) -> Network:
        """Returns a network that was drawn at an epoch."""
        examples = epoch * self._every * self._train["batch_size"]
        macs, units = examples * self._dense_macs, [epoch_name(e + 1) for e in range(epoch)]
        if name != "dense":
            macs += self._tune["steps"] * self._tune["batch_size"] * metadata["macs"]
            units.append(name)
        known = self._seconds.keys() >= set(units)
        return Network(
            test=metadata["test"],
            before=metadata["before"]["test"],
            epoch=epoch,
            macs=metadata["macs"],
            training_macs=PASSES * macs,
            seconds=sum(self._seconds[unit] for unit in units) if known else None,
        )
