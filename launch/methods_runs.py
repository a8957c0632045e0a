"""Runs of lottery and of pruning over single weights as rows of one table."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from groundwork.errors import UserError
from groundwork.runs import identity, operations
from groundwork.runs.operations import Spent
from groundwork.runs.results import RunResults, readable
from lottery import results as tickets
from lottery.results import Point
from lottery.tickets import scored_names, unit_name
from pruning.weights import results as weights
from pruning.weights.methods import METHODS

CHAINS = ("finetune", "lr_rewind")  # branches that go on from their own level before


class Sparse(NamedTuple):
    """A network, and what led to it."""

    density: float  # the mean over replicates
    accuracy: list[float]  # on test, at the end, [R]
    spent: Spent  # from the initialisation on


class Method(NamedTuple):
    """A row of the table."""

    name: str
    networks: list[Sparse]
    kind: str = ""  # which panel of the figure has it


def methods_of(folder: Path) -> tuple[RunResults, list[Method]]:
    """Returns a run and the methods that it has networks of; "dense" is one of them.

    Raises:
      UserError: there is no such run, or it removes whole units.
    """
    command = identity.read_about(folder)["command"]
    with readable(folder):
        if command == "lottery":
            return _of_lottery(folder)
        if command == "pruning" and weights.of_weights(folder):
            return _of_pruning(folder)
    raise UserError(f"{folder} has no run over single weights: give runs of lottery or pruning")


def _of_lottery(folder: Path) -> tuple[RunResults, list[Method]]:
    run = tickets.read(folder)
    prune = run.config["prune"]
    spent = operations.spent(operations.read(run.folder / "metrics.jsonl"))
    scored = any(unit.startswith("scored/") for unit in spent)
    at_step_0 = bool(prune.get("before_training"))

    def network(point: Point) -> Sparse:
        units = _trainings(point.branch, point.level, scored, at_step_0)
        return Sparse(point.density, point.accuracy, _sum(spent, units))

    how = "" if prune["criterion"] == "magnitude" else f": {prune['criterion']}"
    how += ", before training" if at_step_0 else ""
    methods = [
        Method(
            f"{branch}{how}",
            [network(point) for point in run.of(branch) if point.level],
            "before training" if at_step_0 else "tickets and their controls",
        )
        for branch in run.branches()
    ]
    if ("ticket", 0) in run.points:
        methods.append(Method("dense", [network(run.points["ticket", 0])]))
    return run, [method for method in methods if method.networks]


def _trainings(branch: str, level: int, scored: bool = False, at_step_0: bool = False) -> list[str]:
    """Returns the units that led to a branch at a level.

    Args:
      branch: or `ticket`.
      level: of it.
      scored: whether tickets stop over at a step at which they are scored, in a unit of its own.
      at_step_0: whether masks are chosen before any training.
    """

    def ticket(level: int) -> list[str]:
        return [*scored_names(scored, level), unit_name(level, "ticket")]

    dense = ["start", *ticket(0)]
    if branch in CHAINS:
        return [*dense, *(unit_name(k, branch) for k in range(1, level + 1))]
    own = ticket(level) if branch == "ticket" else [unit_name(level, branch)]
    if branch == "small_dense":
        return own
    if branch == "random_mask" or at_step_0:
        return ["start", *own]
    return ["start", *(ticket(k)[0] for k in range(level)), *own]


def _of_pruning(folder: Path) -> tuple[RunResults, list[Method]]:
    run = weights.read(folder)
    prune = run.config["prune"]
    name = prune["method"]
    used = METHODS[name].keys
    if "criterion" in used:
        corrected = ", corrected" if prune["correct"] else ""
        name = f"{name}: {prune['criterion']}{corrected}"
    if prune["pattern"] != "none":
        name = f"{name}, {prune['pattern']}"
    elif "scope" in used:
        name = f"{name}, {prune['scope']}"
    networks = [
        Sparse(float(np.mean(n.density)), n.test, Spent(n.steps, n.seconds or 0.0))
        for n in run.sparse
    ]
    dense = Sparse(1.0, run.dense.test, Spent(run.dense.steps, run.dense.seconds or 0.0))
    return run, [Method(name, networks, _kind(prune["method"])), Method("dense", [dense])]


def _kind(method: str) -> str:
    """Returns when a method prunes."""
    if METHODS[method].fine_tunes:
        return "after training"
    return "before training" if method == "before_training" else "while training"


def _sum(spent: dict[str, Spent], units: Iterable[str]) -> Spent:
    found = [spent[unit] for unit in units if unit in spent]
    return Spent(sum(one.steps for one in found), sum(one.seconds for one in found))


def gather(folders: Sequence[Path]) -> tuple[list[RunResults], list[Method]]:
    """Returns the runs and their methods, "dense" first and once: the first run's.

    Raises:
      UserError: see `methods_of`; or two runs have the same method.
    """
    runs, methods = [], dict[str, Method]()
    for folder in folders:
        run, found = methods_of(folder)
        runs.append(run)
        for method in found:
            if method.name == "dense":
                methods.setdefault("dense", method)
            elif method.name in methods:
                raise UserError(f"{folder}: another run has the method {method.name!r}, too")
            else:
                methods[method.name] = method
    return runs, sorted(methods.values(), key=lambda method: method.name != "dense")
