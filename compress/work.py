"""The work of a run: it makes every network after its parent. Read `prepare` first."""

# R replicates

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from compress import archive, fit
from compress import form as form_lib
from compress import made as made_lib
from compress.archive import contents, reading
from compress.form import Form
from compress.made import ORIGINAL, CompressSpec, Made, Node, Pipeline, Shaped, unit_name
from compress.spec import nodes
from compress.stages import original, structured, students
from compress.stages.all_stages import STAGES
from groundwork import architectures, trees
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.context import Context
from groundwork.data.dataset import AnyDataset
from groundwork.devices import processes
from groundwork.errors import UserError
from groundwork.runs import checkpoint, place, trained
from groundwork.runs.run import Run
from groundwork.study import Prepared
from groundwork.traced import macs
from groundwork.train import footprint, latency, loss_spec, networks, own
from groundwork.train.programs import Programs
from groundwork.trees import Variables
from pruning.structured import Graph, Narrowed

FILES = "files"  # folder of a run: NETWORK/REPLICATE.cna
LOADS = 5  # how often a file is loaded to measure the time


def prepare(spec: CompressSpec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Returns the devices and the work, which are checked by shapes alone.

    Raises:
      UserError: a stage cannot do what the config says, or devices cannot share the batches.
    """
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.example)
    footprint.check("this model", shapes, spec.optimizer, spec.replicates)
    loss, code = own.checked_loss(spec.loss, dataset, model, shapes)
    shaped = Shaped(form=Form(model), shapes=shapes, dataset=dataset)
    for stage in spec.stages:
        shaped = STAGES[stage].check(spec, shaped)
    if "distill" in spec.stages:
        for key, section in students.sections(spec.sections["distill"]).items():
            student = architectures.build(section, dataset.classes)
            code |= own.digests_of(key, student, dataset)
    sizes = {"train": spec.train.batch_size, "fine_tune": spec.fine_tune.batch_size}
    mesh = networks.mesh_for(spec.mesh, spec.replicates, sizes, dataset)

    def work(context: Context) -> None:
        compiled = fit.compiler(context)
        make_networks(Pipeline(context=context, spec=spec, model=model, compiled=compiled))

    def begin() -> None:
        if spec.source.path:
            trained.check_data(spec.source.path, config["data"], "source.path", apart=True)
            made_lib.given(spec, model, shapes)
        for stage in STAGES.values():
            stage.begin(spec, config, dataset)

    return Prepared(
        mesh=mesh,
        convolutions=computed_by(model, dataset.example),
        work=work,
        begin=begin,
        metric=loss.metric,
        own=code,
    )


def lost(run: Run) -> dict[str, str]:
    """Returns the units of networks whose files are lost or damaged → what is wrong with a file.

    Raises:
      UserError: something else is where a folder of files is to be.
    """
    found: dict[str, str] = {}
    for name in run.units():
        if not name.startswith(unit_name("")):
            continue
        sizes = checkpoint.metadata(run.unit(name).folder / "final")["bytes"]
        found |= lost_files(run, name, name.removeprefix(unit_name("")), sizes)
    return found


def lost_files(run: Run, unit: str, folder: str, sizes: Sequence[int]) -> dict[str, str]:
    """Returns the unit → what is wrong with the first of its files that is lost or damaged.

    Args:
      run: the run.
      unit: the name of the unit.
      folder: of its files, in that of all files.
      sizes: [R], that the files had.

    Raises:
      UserError: see `lost`.
    """
    for r, size in enumerate(sizes):
        path = run.folder / FILES / folder / f"{r}.cna"
        place.check_inside([path.parent])
        if reason := _lost(path, size):
            return {unit: f"{path}: {reason}"}
    return {}


def make_networks(pipeline: Pipeline) -> None:
    """Makes the original, then the networks of each stage; those that are done are skipped."""
    context = pipeline.context
    done = set(processes.on_first(context.run.units))
    for node in nodes(pipeline.spec):
        if node.unit in done:
            continue
        context.reporter.begin(node.unit, 0, 1)
        if node.stage == ORIGINAL:
            made = original.run(pipeline, node)
        else:
            made = STAGES[node.stage].run(pipeline, node, load(context, node.parent))
        finish(pipeline, node, made)


def load(context: Context, name: str) -> Made:
    """Returns a finished network."""
    return read_back(context, *context.run.unit(unit_name(name)).result())


def read_back(
    context: Context, tree: Any, metadata: Mapping[str, Any], graph: Graph | None = None
) -> Made:
    """Returns a network of which a unit has the variables, the mask, and what `described` says.

    Args:
      context: of the run.
      tree: `variables`, and `mask` where there is one.
      metadata: of the unit.
      graph: of the whole network's units, if it is known; programs are compiled for one graph.
    """
    model: Any = architectures.build(metadata["model"], context.dataset.classes)
    if "units" in metadata:
        example = context.dataset.example
        if graph is None:
            graph = structured.graph_of(Form(model), architectures.shapes(model, example), example)
        sizes = {group.name: np.arange(group.units) for group in graph.groups}
        keep = {
            name: np.stack([np.isin(sizes[name], one) for one in places])
            for name, places in metadata["units"].items()
        }
        model = Narrowed(graph=graph, keep=keep)
    form = Form(
        model,
        metadata["plan"],
        tuple(map(tuple, metadata["groups"])),
        metadata["activations"],
    )
    return Made(form, tree["variables"], tree.get("mask", {}), metadata["bits"])


def filed(context: Context, name: str, made: Made) -> tuple[Variables, dict[str, Any]]:
    """Writes the files of a network; returns the variables [R, …] in them, and what they are.

    Args:
      context: of the run.
      name: of the network, and of its folder in that of all files.
      made: after any stage.

    Returns:
      The variables, on the host; and bytes and streams of the files, and the time to load one.
    """
    folder = context.run.folder / FILES / name
    written = processes.on_first(_write, context, folder, made)
    context.run.share(folder)
    return _loaded(folder, context.replicates, unnamed(made.form.model)), written


def finish(
    pipeline: Pipeline,
    node: Node,
    made: Made,
    unit: str = "",
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Writes the files of a network, evaluates what they hold, and saves the unit.

    Args:
      pipeline: of the run.
      node: the network's place in the run, and its name.
      made: the network.
      unit: the name of its unit, if it is not the node's.
      more: what else its metadata say.
    """
    context = pipeline.context
    variables, written = filed(context, node.name, made)
    compiled = pipeline.compiled(pipeline.spec.as_original(made.form)).programs
    on_devices = context.put(variables)
    accuracies = _accuracies(context, compiled, on_devices)
    judged = compiled.judge(on_devices)
    shapes = architectures.shapes(pipeline.model, context.dataset.example)
    metadata = {
        **_about(node, made),
        **accuracies,
        **judged.metadata,
        **written,
        "float_bytes": 4 * architectures.count(shapes["params"]),
        "multiply_adds": multiply_adds(made.form, variables, context.dataset.example),
        "milliseconds": _milliseconds(pipeline, made.form, variables) if node.leaf else {},
        **made_lib.counts(variables["params"], made.mask),
        **more,
    }
    beside = {"mask": made.mask, "peers": made.peers}
    saved = {name: dict(tree) for name, tree in beside.items() if tree}
    tree = {"variables": variables, **saved, **judged.tree}
    context.run.unit(unit or node.unit).finish(tree, metadata)
    size = np.mean(written["bytes"])
    loss = loss_spec.build(pipeline.spec.loss, context.dataset.target)
    context.reporter.end(
        f"{size:,.0f} bytes, {metadata['float_bytes'] / size:.1f} times fewer; "
        f"test {loss.metric.words} {np.mean(accuracies['test']):.4f}{judged.words}"
    )


def _about(node: Node, made: Made) -> dict[str, Any]:
    """Returns a description of a network: its place in the run, and its form."""
    place = {key: getattr(node, key) for key in ("name", "parent", "stage", "setting", "leaf")}
    return {**place, **described(made)}


def described(made: Made) -> dict[str, Any]:
    """Returns a description of a network's form, for `read_back`."""
    model: Any = made.form.model
    section = architectures.section(whole(model))
    assert section is not None  # every module of a config is described by one
    return {
        "model": section,
        "plan": dict(made.form.plan),
        "groups": made.form.groups,
        "bits": dict(made.bits),
        "activations": dict(made.form.activations),
        **({"units": _places(model)} if isinstance(model, Narrowed) else {}),
    }


def _places(narrow: Narrowed) -> dict[str, Any]:
    """Returns group → the places of the units kept, [R] lists."""
    return {
        name: [np.flatnonzero(one).tolist() for one in np.atleast_2d(units)]
        for name, units in narrow.keep.items()
    }


def _accuracies(context: Context, compiled: Programs, variables: Variables) -> dict[str, Any]:
    """Returns split → accuracies [R], in the arithmetic of the programs.

    What the loss measures besides stands under `measures`, of the test split.
    """
    measured = networks.evaluated(context, compiled, variables)
    metric = compiled.metric.name
    found = {split: means[metric] for split, means in measured.items()}
    more = {n: each for n, each in measured["test"].items() if n not in ("loss", metric)}
    return {**found, "measures": more}


def multiply_adds(form: Form, variables: Variables, example: Any) -> int | None:
    """Returns those of one example; None where a loop's length depends on values."""
    one = trees.replicate(variables, 0)
    try:
        return macs.multiply_adds(form_lib.evaluation(form), one, trees.example(example))
    except ValueError:
        return None


def _milliseconds(pipeline: Pipeline, form: Form, variables: Variables) -> dict[str, list[float]]:
    """Returns batch size → times of the original and of this network, for replicate 0."""
    one, example = trees.replicate(variables, 0), pipeline.context.dataset.example
    network = form_lib.network(form)
    return processes.on_first(latency.milliseconds, pipeline.model, network, one, example)


def _write(context: Context, folder: Path, made: Made) -> dict[str, Any]:
    """Writes one file per replicate; returns their sizes and streams, and the time to load one."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{r}.cna" for r in range(context.replicates)]
    example, shape = (context.dataset.example,), trees.shape_of(context.dataset.example)
    for r, path in enumerate(paths):
        archive.save(
            path,
            of_replicate(made.form.model, r),
            trees.replicate(made.variables, r),
            made.form.plan,
            example if shape is None else shape,
            made.form.groups,
            made.form.activations,
        )
    seconds = []
    for _ in range(LOADS):
        begun = time.perf_counter()
        model = unnamed(of_replicate(made.form.model, 0))
        jax.block_until_ready(archive.load(paths[0], model)[1])
        seconds.append(time.perf_counter() - begun)
    return {
        "bytes": [path.stat().st_size for path in paths],
        "streams": _streams(paths),
        "load_seconds": statistics.median(seconds),
    }


def _lost(path: Path, size: int) -> str:
    """Returns the reason why a file is not as it was written; empty if it is."""
    try:
        data = reading.read(path)
        reading.parse(data)
    except (ValueError, UserError) as error:
        return str(error)
    return "" if len(data) == size else f"{len(data):,} bytes, not {size:,}"


def _streams(paths: list[Path]) -> list[dict[str, Any]]:
    """Returns one row per stream; its numbers are [R], and 0 in replicates that lack the stream."""
    numbers = ("bytes", "symbols", "bits", "coded_bits", "entropy_bits")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for r, path in enumerate(paths):
        for stream in contents.describe(path).streams:
            empty = {name: [0] * len(paths) for name in numbers}
            key = (stream.path, stream.kind)
            row = rows.setdefault(key, {"path": stream.path, "kind": stream.kind, **empty})
            for name in numbers:
                row[name][r] = getattr(stream, name)
    return list(rows.values())


def _loaded(folder: Path, replicates: int, model: Any) -> Variables:
    """Returns the variables [R, …] of the files, on the host."""
    paths = [folder / f"{r}.cna" for r in range(replicates)]
    loaded = [archive.load(p, of_replicate(model, r))[1] for r, p in enumerate(paths)]
    return trees.stack(loaded)


def whole(model: Any) -> Any:
    """Returns the network that one without some units was made of, or the network itself."""
    return model.graph.model if isinstance(model, Narrowed) else model


def of_replicate(model: Any, replicate: int) -> Any:
    """Returns a network as one replicate has it, which may keep units of its own."""
    if not isinstance(model, Narrowed):
        return model
    keep = {name: np.atleast_2d(units)[replicate] for name, units in model.keep.items()}
    return Narrowed(graph=model.graph, keep=keep)


def unnamed(model: Any) -> Any:
    """Returns a network that no file describes, which `archive.load` is to be given; else None."""
    return None if architectures.described(whole(model)) else model
