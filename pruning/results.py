"""The results of a run, read back from its folder for tables and figures."""

# R replicates

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from groundwork import trees
from groundwork.errors import UserError, about
from groundwork.runs import trained
from groundwork.runs.results import RunResults, open_results, readable
from groundwork.runs.run import Run, result_of
from groundwork.train.judging import JUDGED, SHOWN
from groundwork.trees import Variables
from pruning import structured
from pruning.spec import BRANCHES
from pruning.structured import Narrowed


@dataclasses.dataclass(frozen=True)
class Network:
    """The costs of one network, and its accuracy or its value of the run's other metric."""

    test: list[float]  # after training, [R]
    before: list[float]  # before it, [R]
    steps: int  # of this training
    parameters: int
    macs: int  # multiply-adds of one example
    bytes: int  # of an .npz file of one replicate's variables
    milliseconds: dict[str, list[float]]  # batch size → the original's and its own, in one run
    # What the loss's judge says, name → split → numbers; and what it answers to a few test examples
    judged: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    shown: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)


@dataclasses.dataclass(frozen=True)
class Pruned:
    """A pruned network, and its controls.

    Attributes:
      label: "0.5", "patterns" or "target".
      ratio: that was asked for, or that the target needed.
      kept: group → units that are left.
      network: after fine-tuning.
      branches: control → network.
    """

    label: str
    ratio: float | dict[str, float]
    kept: dict[str, int]
    network: Network
    branches: dict[str, Network]


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run, its original network, and the pruned ones, the largest first."""

    original: Network
    fine_tuned: Network | None  # the original, with as much fine-tuning as the others
    units: dict[str, int]  # group → units of the original
    coupling: dict[str, dict[str, list[str]]]  # layer → the groups that it makes and takes
    pruned: list[Pruned]


def read(workdir: str | Path) -> Results:
    """Returns the finished part of a run.

    Raises:
      UserError: there is no run or no finished network, or a checkpoint is damaged.
    """
    run, fields = open_results(workdir, "pruning")
    if not run.unit("original").done:
        raise UserError(f"{run.folder} has no finished network yet")
    with readable(run.folder):
        labels = [u.partition("/")[2] for u in run.units() if u.startswith("pruned/")]
        pruned = sorted((_pruned(run, label) for label in labels), key=lambda p: -p.network.macs)
        plan = next((unit for unit in run.units() if unit.startswith("plans/")), None)
        keep, metadata = run.unit(plan).result() if plan else ({}, {})
        units = {name: kept.shape[-1] for name, kept in keep.items()}
        tuned = _network(run, "fine_tuned") if run.unit("fine_tuned").done else None
        original = _network(run, "original")
    return Results(
        **fields,
        original=original,
        fine_tuned=tuned,
        units=units,
        coupling=metadata.get("coupling", {}),
        pruned=pruned,
    )


def load(workdir: str | Path, unit: str) -> Variables:
    """Returns the variables, leaves [R, …], of a unit such as `original` or `pruned/0.5`.

    Raises:
      UserError: the run has no such unit (the error lists its units), or its checkpoint is damaged.
    """
    return result_of(workdir, unit)["variables"]


def load_network(
    workdir: str | Path, unit: str, model: Any, example: Any, *, replicate: int = 0
) -> tuple[Narrowed, Variables]:
    """Returns a network of a run that lacks units, and the variables of one of its replicates.

    Args:
      workdir: the folder of the run.
      unit: such as `pruned/0.5`, or `scratch_e/0.5`, which keeps the same units.
      model: the original network, as `architectures.build` makes it of the run's config; or, of a
        Linen module, the module.
      example: inputs, or the shape of one example: see `structured.groups`.
      replicate: which one.

    Raises:
      UserError: the run has no such network or replicate, or the model is another one.
    """
    run, fields = open_results(workdir, "pruning")
    kind, _, label = unit.partition("/")
    if kind not in ("pruned", "scratch_e", "scratch_b"):
        raise UserError(
            f"{unit} has no plan that says which units it keeps: give pruned/… or scratch_…"
        )
    replicates = fields["config"]["replicates"]
    if not 0 <= replicate < replicates:
        raise UserError(f"replicate={replicate} must be one of the run's {replicates}, from 0")
    variables = trees.replicate(load(workdir, unit), replicate)
    whole = trees.replicate(load(workdir, "original"), replicate)
    keep, prune = run.unit(_last_plan(run, label)).result()[0], fields["config"]["prune"]
    kept = {name: np.asarray(units[replicate], bool) for name, units in keep.items()}
    with about(f"the model is not that of {workdir}"):
        graph = structured.groups(
            model, whole, example, ignored=prune["ignored"], split=prune["split"]
        )
        structured.check(graph, kept)
    return Narrowed(graph=graph, keep=kept), variables


def _pruned(run: Run, label: str) -> Pruned:
    keep, metadata = run.unit(_last_plan(run, label)).result()
    branches = {
        branch: _network(run, f"{branch}/{label}")
        for branch in BRANCHES
        if run.unit(f"{branch}/{label}").done
    }
    return Pruned(
        label=label,
        ratio=metadata["ratio"],
        kept={name: int(units[0].sum()) for name, units in keep.items()},
        network=_network(run, f"pruned/{label}"),
        branches=branches,
    )


def _last_plan(run: Run, label: str) -> str:
    names = [name for name in run.units() if name.startswith(f"plans/{label}/")]
    return max(names, key=lambda name: int(name.rpartition("/")[2]))


def _network(run: Run, unit: str) -> Network:
    tree, metadata = run.unit(unit).result()
    names = ("test", "steps", "parameters", "macs", "milliseconds")
    return Network(
        **{name: metadata[name] for name in names},
        before=metadata["before"]["test"],
        bytes=trained.size(trees.replicate(tree["variables"], 0)),
        judged=metadata.get(JUDGED, {}),
        shown=tree.get(SHOWN, {}),
    )
