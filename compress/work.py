"""The work of a run: every network after its parent, each one a file. Read `prepare`."""

# R replicates

import functools
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from compress import archive, fit
from compress import form as form_lib
from compress.archive import contents, reading
from compress.form import Form
from compress.made import Experiment, Made
from compress.spec import ORIGINAL, CompressSpec, Node, nodes, unit_name
from compress.stages import all_stages as stages
from compress.stages import refused
from groundwork import architectures, keys
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.devices.interruption import Interruption
from groundwork.errors import UserError
from groundwork.runs import checkpoint
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run
from groundwork.study import Prepared
from groundwork.train import latency
from groundwork.train import networks as shared

FILES = "files"  # folder of a run: NETWORK/REPLICATE.cna
LOADS = 5  # times that a file is loaded, to see how long it takes


def prepare(spec: CompressSpec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Devices and the network, checked.

    Raises:
      UserError: what `refused.check` refuses, or batches that the devices cannot share.
    """
    refused.check(spec, config, dataset)
    model = architectures.build(config, dataset.classes)
    sizes = {"train": spec.train.batch_size, "fine_tune": spec.fine_tune.batch_size}
    mesh = shared.mesh_for(spec.mesh, spec.replicates, sizes, dataset.examples)

    def work(run: Run, reporter: Reporter, interruption: Interruption) -> None:
        shared.say_mesh(reporter, mesh)
        roots = mesh_lib.put(mesh, keys.roots(spec.seed, spec.replicates), mesh_lib.BY_REPLICATE)
        compiled = fit.compiler(spec, dataset, mesh)
        everything = (spec, model, dataset, mesh, run, reporter, interruption, roots, compiled)
        make_networks(Experiment(*everything))

    begin = functools.partial(refused.begin, spec, config, model, dataset)
    return Prepared(mesh, computed_by(model, dataset.shape), work, begin)


def mend(run: Run) -> list[str]:
    """Set networks aside whose files are gone or damaged, to be made again; a warning for each."""
    warnings = []
    for name in run.units():
        if not name.startswith(unit_name("")):
            continue
        sizes = checkpoint.metadata(run.unit(name).folder / "final")["bytes"]
        for r, size in enumerate(sizes):
            path = run.folder / FILES / name.removeprefix(unit_name("")) / f"{r}.cna"
            if reason := _lost(path, size):
                run.unit(name).set_aside()
                warnings.append(f"{path}: {reason}; {name} is done again")
                break
    return warnings


def make_networks(experiment: Experiment) -> None:
    """The original, then what each stage makes; what is done already is passed over."""
    done = set(processes.on_first(experiment.run.units))
    for node in nodes(experiment.spec):
        if node.unit in done:
            continue
        experiment.reporter.begin(node.unit, 0, 1)
        if node.stage == ORIGINAL:
            made = stages.original(experiment, node)
        else:
            made = stages.STAGES[node.stage](experiment, node, load(experiment, node.parent))
        finish(experiment, node, made)


def load(experiment: Experiment, name: str) -> Made:
    """A finished network, as its files have it."""
    tree, metadata = experiment.run.unit(unit_name(name)).result()
    form = Form(
        architectures.build(metadata["model"], experiment.dataset.classes),
        metadata["plan"],
        tuple(map(tuple, metadata["groups"])),
        metadata["activations"],
    )
    return Made(form, tree["variables"], tree.get("mask", {}), metadata["bits"])


def finish(experiment: Experiment, node: Node, made: Made) -> None:
    """Write a network's files, see what they hold and how good that is, and save the unit."""
    folder = experiment.run.folder / FILES / node.name
    written = processes.on_first(_write, experiment, folder, made)
    variables = _loaded(folder, experiment.spec.replicates)
    network = form_lib.network(made.form)
    found = fit.accuracies(experiment, network, made.form, variables)
    params = variables["params"]
    described = architectures.described(made.form.model)
    assert described is not None  # every module of a config is one of `architectures`
    metadata = {
        **{key: getattr(node, key) for key in ("name", "parent", "stage", "setting", "leaf")},
        "model": described[0],
        "plan": dict(made.form.plan),
        "groups": made.form.groups,
        "bits": dict(made.bits),
        "activations": dict(made.form.activations),
        **found,
        **written,
        "float_bytes": 4
        * architectures.count(
            architectures.shapes(experiment.model, experiment.dataset.shape)["params"]
        ),
        "milliseconds": {},
        **_counts(params, made.mask),
    }
    if node.leaf:
        one = jax.tree.map(lambda leaf: leaf[0], variables)
        metadata["milliseconds"] = processes.on_first(
            latency.milliseconds, experiment.model, network, one, experiment.dataset.shape
        )
    tree = {"variables": variables, **({"mask": made.mask} if made.mask else {})}
    experiment.run.unit(node.unit).finish(tree, metadata)
    size = np.mean(written["bytes"])
    experiment.reporter.end(
        f"{size:,.0f} bytes, {metadata['float_bytes'] / size:.1f} times fewer; "
        f"test accuracy {np.mean(found['test']):.4f}"
    )


def _write(experiment: Experiment, folder: Path, made: Made) -> dict[str, Any]:
    """A file a replicate; their sizes, what is in them, and how long loading takes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{r}.cna" for r in range(experiment.spec.replicates)]
    for r, path in enumerate(paths):
        archive.save(
            path,
            made.form.model,
            jax.tree.map(lambda leaf, r=r: leaf[r], made.variables),
            made.form.plan,
            experiment.dataset.shape,
            made.form.groups,
            made.form.activations,
        )
    seconds = []
    for _ in range(LOADS):
        begun = time.perf_counter()
        jax.block_until_ready(archive.load(paths[0])[1])
        seconds.append(time.perf_counter() - begun)
    return {
        "bytes": [path.stat().st_size for path in paths],
        "streams": _streams(paths),
        "load_seconds": statistics.median(seconds),
    }


def _lost(path: Path, size: int) -> str:
    """Why a file is not what was written; empty if it is."""
    try:
        data = reading.read(path)
        reading.parse(data)
    except (ValueError, UserError) as error:
        return str(error)
    return "" if len(data) == size else f"{len(data):,} bytes, not {size:,}"


def _streams(paths: list[Path]) -> list[dict[str, Any]]:
    """A row a stream, its numbers [R]; 0 in replicates that have no such stream."""
    each = [contents.describe(path).streams for path in paths]
    numbers = ("bytes", "symbols", "bits", "coded_bits", "entropy_bits")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for r, own in enumerate(each):
        for stream in own:
            key = (stream.path, stream.kind)
            empty = {name: [0] * len(paths) for name in numbers}
            row = rows.setdefault(key, {"path": key[0], "kind": key[1], **empty})
            for name in numbers:
                row[name][r] = getattr(stream, name)
    return list(rows.values())


def _loaded(folder: Path, replicates: int) -> Any:
    """Variables [R, …] of the files, on the host."""
    each = [archive.load(folder / f"{r}.cna")[1] for r in range(replicates)]
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *each)


def _counts(params: Any, mask: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of each leaf, and how many of them are not pruned, [R]."""
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    sizes = {path: leaf[0].size for path, leaf in leaves.items()}
    kept = {
        path: [int(np.sum(own)) for own in mask[path]]
        if path in mask
        else [size] * len(leaves[path])
        for path, size in sizes.items()
    }
    return {"sizes": sizes, "kept": kept}
