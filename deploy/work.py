"""The work of a run: networks, their files for all engines, and measurements. Read `prepare`."""

# R replicates, B batch

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy import files, grids, measurements, results
from deploy.deployment import Deployment
from deploy.files import File
from deploy.sources import networks as sources
from deploy.sources.network import Network
from deploy.sources.networks import TRAINED
from deploy.spec import DeploySpec, files_unit, graph_unit, measures_unit
from groundwork import architectures, trees
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.context import Context
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import processes
from groundwork.errors import UserError, about
from groundwork.runs import trained
from groundwork.runs.run import Run
from groundwork.study import Prepared
from groundwork.train import fitting, footprint, loss_spec, networks, own

FILES = "files"  # folder of a run: NETWORK/ENGINE-KIND-BATCH.…


def prepare(spec: DeploySpec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Returns the devices and the work, which are checked.

    Raises:
      UserError: the data stays in files, there are too few examples, the source was trained on
        other data, or the network cannot take it.
    """
    if isinstance(dataset, FileDataset):
        raise UserError("data.stream: calibration needs examples in memory: set it to false")
    if processes.count() > 1:
        raise UserError("engines are measured on one machine: start the command as one process")
    networks.check_examples("calibration.examples", spec.calibration.examples, dataset)
    if spec.measure.examples > dataset.examples["test"]:
        raise UserError(
            f"measure.examples={spec.measure.examples} is more than the "
            f"{dataset.examples['test']} test examples"
        )
    loss, convolutions = loss_spec.build(spec.loss, dataset.target), None
    code: dict[str, str] = {}
    if not spec.source.path:
        model = architectures.build(config, dataset.classes)
        shapes = architectures.shapes(model, dataset.example)
        footprint.check("this model", shapes, spec.optimizer, spec.replicates)
        loss, code = own.checked_loss(spec.loss, dataset, model, shapes)
        convolutions = computed_by(model, dataset.example)

    def work(context: Context) -> None:
        _each(Deployment(context=context, spec=spec, config=config, loss=loss))

    def begin() -> None:
        if spec.source.path and not spec.source.path.endswith(sources.ARCHIVE):
            trained.check_data(spec.source.path, config["data"], "source.path")
        for name in sources.names(spec.source.source):
            if name != TRAINED:
                sources.load(spec.source.source, name, config, dataset)

    sizes = {} if spec.source.path else {"train": spec.train.batch_size}
    return Prepared(
        mesh=networks.mesh_for(spec.mesh, spec.replicates, sizes, dataset),
        convolutions=convolutions,
        work=work,
        begin=begin,
        metric=loss.metric,
        own=code,
    )


def lost(run: Run) -> dict[str, str]:
    """Returns the units of networks whose files are not as they were written → what is wrong."""
    found = {}
    for name in run.units():
        if not name.startswith(files_unit("")):
            continue
        for row in run.unit(name).verify()["files"]:
            if not row["failure"] and (reason := files.wrong(results.file(row), run.folder)):
                found[name] = reason
                break
    return found


def _each(made: Deployment) -> None:
    """Makes what is not done of every network."""
    spec, run = made.spec, made.context.run
    done = set(processes.on_first(run.units))
    if not spec.source.path and TRAINED not in done:
        _train(made)
    for name in sources.names(spec.source.source):
        steps = {files_unit(name): _write, measures_unit(name): measurements.measured}
        if spec.log.graph:
            steps[graph_unit(name)] = _draw
        left = {unit: step for unit, step in steps.items() if unit not in done}
        if not left:
            continue
        network = _network(made, name)
        for unit, step in left.items():
            made.context.reporter.begin(unit, 0, 1)
            step(made, name, network)


def _train(made: Deployment) -> None:
    """Trains the network of a run that has no source."""
    context, spec = made.context, made.spec
    model = architectures.build(made.config, context.dataset.classes)
    unit = context.run.unit(TRAINED)
    start = networks.initial(context, model)
    compiled = fitting.compile_programs(
        context, model, spec.train, spec.optimizer, objective=made.loss
    )
    if spec.train.steps:
        start = fitting.train(context, compiled, unit, spec.train, spec.optimizer, start)
    else:
        context.reporter.begin(TRAINED, 0, 1)
    measured = networks.accuracies(context, compiled, start)
    unit.finish({"variables": start}, measured)
    context.reporter.end(f"test {made.loss.metric.words} {np.mean(measured['test']):.4f}")


def _network(made: Deployment, name: str) -> Network:
    context, source = made.context, made.spec.source
    if name != TRAINED:
        assert not isinstance(context.dataset, FileDataset)  # `prepare` refuses them
        return sources.load(source.source, name, made.config, context.dataset)
    variables = context.run.unit(TRAINED).result()[0]["variables"]
    model = architectures.build(made.config, context.dataset.classes)
    return Network(model=model, variables=trees.replicate(variables, source.replicate))


def _write(made: Deployment, name: str, network: Network) -> None:
    """Writes a network's files for all engines, kinds and batches."""
    spec, dataset = made.spec, made.context.dataset
    assert not isinstance(dataset, FileDataset)
    folder = made.folder / FILES / name
    rows: list[File] = []
    lost: dict[str, str] = {}
    for batch in spec.batches:
        with about(f"source: {name}"):
            graphs = {"float": files.graph(network, dataset.example, batch)}
        lost |= graphs["float"].lost
        if "int8" in spec.kinds:
            inputs, _ = data_lib.first_examples(dataset, spec.calibration.examples)
            try:
                graphs["int8"] = grids.quantized(
                    graphs["float"],
                    inputs,
                    spec.calibration.range,
                    spec.calibration.correct_biases,
                )
            except ValueError as error:
                rows += files.failed("int8", str(error), spec.chosen, batch)
        chosen = {kind: graphs[kind] for kind in spec.kinds if kind in graphs}
        rows += files.write(chosen, spec.chosen, batch, folder, made.folder)
    remarks = [*network.remarks, *(f"the integers of {k} are lost: {w}" for k, w in lost.items())]
    if files.is_rounded(network, dataset.example):
        remarks.append("the network computes in bfloat16; engines compute in float32 where it does")
    made.context.run.share(folder)
    described = [dataclasses.asdict(row) for row in rows]
    sizes = {"bytes": np.array([row.bytes for row in rows])}
    metadata = {"files": described, "remarks": remarks}
    made.context.run.unit(files_unit(name)).finish(sizes, metadata)
    failed = [f"{row.name}: {row.failure}" for row in rows if row.failure]
    written = f"{sum(not row.failure for row in rows)} of {len(rows)} written"
    made.context.reporter.end("; ".join([written, *failed]))


def _draw(made: Deployment, name: str, network: Network) -> None:
    """Writes the table and the picture of a network's graph."""
    from deploy.graphs import picture, table  # what draws is imported where it is needed

    with about(f"source: {name}"):
        whole = files.graph(network, made.context.dataset.example, made.spec.batches[0])
    folder = made.folder / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"graph_{name.replace('/', '_')}"
    said = f"{len(whole.nodes)} operations"
    try:
        picture.picture(whole, folder / f"{stem}.png")
    except ValueError as error:  # there are too many to draw
        said += f"; no picture: {error}"
    unit = made.context.run.unit(graph_unit(name))
    unit.finish({"nodes": np.array(len(whole.nodes))}, {"table": table.table(whole)})
    made.context.reporter.end(said)
