"""The networks that a config's `source` names: of a run of any command, of a file, or trained here.

A command's runs have an entry in `COMMANDS`: which of its units are networks, and how one is read.
"""

# R replicates

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from compress import work as compress_work
from compress.form import Form
from compress.results import ORIGINAL
from deploy.graphs import trace
from deploy.sources import archives
from deploy.sources.network import Network
from groundwork import architectures, buckets, copies, paths, trees
from groundwork.architectures import pretrained
from groundwork.data.dataset import Dataset
from groundwork.errors import UserError, reason
from groundwork.runs import checkpoint, identity, trained
from groundwork.runs.run import Run
from lowrank import spec as lowrank_spec
from msdnet import networks as msdnet_networks
from pruning import results as pruning_results

ARCHIVE = ".cna"
TRAINED = "trained"  # the network that a run of this command trains itself


class Source(NamedTuple):
    """The config's `source`: which networks.

    Attributes:
      path: the folder of a run, a `.cna` file or a file of weights; "" trains a network.
      unit: of the run: a pattern of units' names; "" takes the command's usual ones.
      replicate: of the run, from 0.
    """

    path: str
    unit: str = ""
    replicate: int = 0


class Command(NamedTuple):
    """How a command's runs are read.

    Attributes:
      networks: patterns of the units that hold networks.
      usual: run, their names → those that are taken if no unit is named.
      load: source, unit, the run's config, data → the network.
    """

    networks: Sequence[str]
    usual: Callable[[Run, list[str]], list[str]]
    load: Callable[[Source, str, Mapping[str, Any], Dataset], Network]


def names(source: Source) -> list[str]:
    """Returns the names of the networks of a source, which is not read.

    Raises:
      UserError: there is no such source, or it has no such finished network; it names the key.
    """
    if not source.path:
        return [TRAINED]
    if pretrained.is_file(source.path):
        return [Path(source.path).stem]
    if not buckets.is_url(source.path) and not paths.given(source.path).exists():
        raise UserError(f"source.path: {source.path} does not exist")
    if source.path.endswith(ARCHIVE):
        return [Path(source.path).stem]
    if not buckets.is_url(source.path) and not paths.given(source.path).is_dir():
        raise UserError(
            f"source.path: {source.path} is no run's folder, no {ARCHIVE} file, and no file of "
            f"weights ({', '.join(sorted(pretrained.SUFFIXES))})"
        )
    run, command, _ = _run(source)
    done = run.units()
    found = [u for u in done if any(fnmatch.fnmatchcase(u, p) for p in command.networks)]
    chosen = command.usual(run, found)
    if source.unit:
        chosen = [unit for unit in found if fnmatch.fnmatchcase(unit, source.unit)]
    if not chosen:
        wanted = f" that is {source.unit!r}" if source.unit else ""
        there = ", ".join(found) or "none"
        raise UserError(
            f"source.unit: {source.path} has no finished network{wanted} (finished: {there})"
        )
    return chosen


def load(source: Source, name: str, config: Mapping[str, Any], dataset: Dataset) -> Network:
    """Returns a network of a source.

    Args:
      source: of the config, with a path.
      name: one of `names`.
      config: of this run; its `model` is that of a file of weights, and of a `.cna` file that does
        not describe its network.
      dataset: of this run.

    Raises:
      UserError: the network cannot be read, or lacks the replicate.
    """
    try:
        network = _load(source, name, config, dataset)
        _check_takes(network, name, dataset)
    except UserError as error:
        raise UserError(f"source.path: {error}") from error
    return network


def _check_takes(network: Network, name: str, dataset: Dataset) -> None:
    """Checks that a network takes the examples of the data.

    Raises:
      UserError: it does not; the error has their shape.
    """
    try:
        jax.eval_shape(trace.evaluation(network.model), network.variables, dataset.example)
    except Exception as error:  # a network may raise anything
        shapes = jax.tree.map(lambda leaf: leaf.shape[1:], dataset.example)
        raise UserError(
            f"{name} does not take the data's examples {shapes} (data.pad and data.image_size "
            f"change images): {reason(error)}"
        ) from error


def section(path: str) -> dict[str, Any] | None:
    """Returns the config of the run that a source is, or that a `.cna` file lies in; None if none.

    Raises:
      UserError: the folder of a run is damaged.
    """
    if pretrained.is_file(path):
        return None
    if path.endswith(ARCHIVE):
        above = paths.given(path).resolve().parents if not buckets.is_url(path) else []
        folder = next((up for up in above if (up / identity.FILE).is_file()), None)
        return None if folder is None else identity.read_about(folder)["config"]
    config: dict[str, Any] = identity.read_about(copies.near(path, identity.FILE))["config"]
    return config


def _load(source: Source, name: str, config: Mapping[str, Any], dataset: Dataset) -> Network:
    if source.path.endswith(ARCHIVE):
        try:
            return archives.load(copies.near_file(source.path))
        except UserError as error:
            if "model" not in str(error):
                raise
            model = architectures.build(config, dataset.classes)
            return archives.load(copies.near_file(source.path), model)
    if pretrained.is_file(source.path):
        model = architectures.build(config, dataset.classes)
        shapes = architectures.shapes(model, dataset.example)
        variables = trained.load(source.path, "", shapes, model)
        checked = trained.replicated(variables, shapes, 1, source.path)
        return Network(model=model, variables=trees.replicate(checked, 0))
    _, command, theirs = _run(source)
    return command.load(source, name, theirs, dataset)


def _run(source: Source) -> tuple[Run, Command, dict[str, Any]]:
    folder = copies.near(source.path)
    about = identity.read_about(folder)
    name = about["command"]
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise UserError(f"source.path: {source.path} is a run of {name}, not of {known}")
    return Run(folder, id=identity.run_id(folder)), COMMANDS[name], about["config"]


def _replicate(source: Source, variables: Any) -> Any:
    count = trees.replicates(variables)
    if not 0 <= source.replicate < count:
        raise UserError(f"{source.path} has {count} replicates: set source.replicate below it")
    return trees.replicate(variables, source.replicate)


def _as_built(source: Source, unit: str, config: Mapping[str, Any], dataset: Dataset) -> Network:
    """Returns a network that is the config's own."""
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.example)
    return Network(
        model=model, variables=_replicate(source, trained.load(source.path, unit, shapes, model))
    )


def _pruned(source: Source, unit: str, config: Mapping[str, Any], dataset: Dataset) -> Network:
    if unit.partition("/")[0] not in ("pruned", "scratch_e", "scratch_b"):
        return _as_built(source, unit, config, dataset)
    model = architectures.build(config, dataset.classes)
    narrow, variables = pruning_results.load_network(
        source.path, unit, model, dataset.example, replicate=source.replicate
    )
    return Network(model=narrow, variables=variables)


def _lowrank(source: Source, unit: str, config: Mapping[str, Any], dataset: Dataset) -> Network:
    if not unit.startswith("sweep/"):
        return _as_built(source, unit, config, dataset)
    model = architectures.build(config, dataset.classes)
    run = Run(copies.near(source.path))
    run = Run(run.folder, id=identity.run_id(run.folder))
    plan = run.unit(lowrank_spec.plan_name(lowrank_spec.point_of(unit))).result()[1]["plan"]
    variables = trained.load(source.path, unit)
    return Network(model=Form(model, plan), variables=_replicate(source, variables))


def _msdnet(source: Source, unit: str, config: Mapping[str, Any], dataset: Dataset) -> Network:
    name = unit.partition("/")[2]
    section = config[msdnet_networks.section_of(name)]
    model = msdnet_networks.build(name, section, dataset.classes)
    return Network(model=model, variables=_replicate(source, trained.load(source.path, unit)))


def _compressed(source: Source, unit: str, config: Mapping[str, Any], dataset: Dataset) -> Network:
    name = "chosen" if unit.startswith("chosen/") else unit.partition("/")[2]
    file = f"{compress_work.FILES}/{name}/{source.replicate}{ARCHIVE}"
    path = copies.near(source.path, file) / file
    if not path.is_file():
        raise UserError(
            f"{source.path} has no file {file}: set source.replicate to one that it has"
        )
    model = architectures.build(config, dataset.classes)
    described = architectures.described(model) is not None
    return archives.load(path, None if described else model)


def _last_ticket(run: Run, found: list[str]) -> list[str]:
    return [unit for unit in found if unit.endswith("/ticket")][-1:]


def _chosen(run: Run, found: list[str]) -> list[str]:
    """Returns the original and the network that a search has chosen last, whose files are there."""
    chosen = [unit for unit in found if unit.startswith("chosen/")]
    return [*(unit for unit in found if unit not in chosen), *chosen[-1:]]


def _all(run: Run, found: list[str]) -> list[str]:
    return found


def _leaves(run: Run, found: list[str]) -> list[str]:
    """Returns the original and the networks at the end of the pipeline."""
    return [
        unit
        for unit in found
        if unit.endswith(f"/{ORIGINAL}")
        or checkpoint.metadata(run.unit(unit).folder / "final")["leaf"]
    ]


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "lottery": Command(("levels/*/*",), _last_ticket, _as_built),
        "pruning": Command(
            ("original", "pruned/*", "dense", "sparse/*", "scratch_?/*"),
            lambda run, found: [u for u in found if not u.startswith("scratch_")],
            _pruned,
        ),
        "lowrank": Command(("original", "sweep/*"), _all, _lowrank),
        "msdnet": Command(("networks/*",), _all, _msdnet),
        "compress": Command(("networks/*",), _leaves, _compressed),
        "compress.search": Command(("networks/original", "chosen/*"), _chosen, _compressed),
    }
)
