"""The work of a run: the original, then units that go, fine-tuning, and the controls beside it."""

# R replicates

from collections.abc import Mapping
from typing import Any

import jax

from groundwork import architectures
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.context import Context
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import processes
from groundwork.errors import UserError, about
from groundwork.runs import trained
from groundwork.study import Prepared
from groundwork.train import footprint, networks, own
from groundwork.train.step import Batch, LossFn, make_loss
from groundwork.trees import Shapes, Variables
from pruning import branches, fading, plans, structured
from pruning.fit import Experiment, Phase, compensated, fitted
from pruning.spec import Point, PruningSpec, plan_name, unit_name
from pruning.structured import PENALTIES, Graph


def prepare(spec: PruningSpec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Returns the devices and the work, which are checked.

    Raises:
      UserError: the network cannot take the data, or nothing of it can be removed.
    """
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.example)
    footprint.check("this model", shapes, spec.optimizer, spec.replicates)
    loss, code = own.checked_loss(spec.loss, dataset, model, shapes)
    if isinstance(dataset, FileDataset) and spec.prune.looks:
        raise UserError(
            "prune.criterion and prune.compensate look at examples in memory: set "
            "data.stream=false, or prune.compensate=none and another criterion"
        )
    if spec.prune.keep_accuracy and not dataset.examples["validation"]:
        raise UserError("prune.keep_accuracy needs data.validation_examples above 0")
    graph = plans.groups(spec, model, shapes, dataset.example)
    _check_penalty(spec, graph, shapes)
    sizes = {"train": spec.train.batch_size, "fine_tune": spec.fine_tune.batch_size}

    def work(context: Context) -> None:
        made = Experiment(context=context, spec=spec, model=model, graph=graph, loss=loss)
        sweep(made)

    def begin() -> None:
        if spec.source.path:
            trained.check_data(spec.source.path, config["data"], "source.path", apart=True)
            _given(spec, model, shapes)

    return Prepared(
        mesh=networks.mesh_for(spec.mesh, spec.replicates, sizes, dataset),
        convolutions=computed_by(model, dataset.example),
        work=work,
        begin=begin,
        metric=loss.metric,
        own=code,
    )


def _given(spec: PruningSpec, model: Any, shapes: Shapes) -> Variables:
    """Returns the variables [R, …] of the network that `source` names, checked by the shapes."""
    source = spec.source
    return trained.source(source.path, source.unit, model, shapes, spec.replicates)


def _check_penalty(spec: PruningSpec, graph: Graph, shapes: Shapes) -> None:
    if spec.sparsity.penalty in PENALTIES:
        with about("sparsity.penalty"):
            jax.eval_shape(lambda v: structured.penalty(graph, v, spec.sparsity.penalty), shapes)


def sweep(experiment: Experiment) -> None:
    """Makes the original, then every pruned network with its controls; what is done is skipped."""
    spec, run = experiment.spec, experiment.context.run
    done = set(processes.on_first(run.units))
    if "original" not in done:
        make_original(experiment)
    variables = run.unit("original").result()[0]["variables"]
    if spec.prune.points and "fine_tuned" not in done:  # shows what fine-tuning alone gains
        fitted(experiment, "fine_tuned", experiment.model, variables, experiment.tuning)
    for point in spec.prune.points:
        if unit_name("pruned", point) not in done:
            make_pruned(experiment, point, variables)
        keep = plans.plan(experiment, point, spec.prune.iterations)
        for branch in spec.branches.chosen:
            if unit_name(branch, point) in done:
                continue
            if branch == "random_units":
                branches.make_random_units(experiment, point, keep, variables)
            else:
                branches.make_scratch(experiment, branch, point, keep)


def make_original(experiment: Experiment) -> None:
    """Makes the network that others are made of: it is trained, or taken from `source`."""
    spec = experiment.spec
    if spec.source.path:
        shapes = architectures.shapes(experiment.model, experiment.context.dataset.example)
        given = _given(spec, experiment.model, shapes)
        phase = Phase(spec.train, spec.optimizer, given=True)
        fitted(experiment, "original", experiment.model, given, phase)
        return
    loss = _with_penalty(experiment) if spec.sparsity.penalty in PENALTIES else None
    phase = Phase(spec.train, spec.optimizer, loss)
    fitted(experiment, "original", experiment.model, experiment.initial, phase)


def _with_penalty(experiment: Experiment) -> LossFn:
    """Returns the loss of the run and the penalty of the config, by its weight."""
    loss_fn = make_loss(experiment.model, experiment.loss)
    kind, weight = experiment.spec.sparsity.penalty, experiment.spec.sparsity.weight

    def with_penalty(key: jax.Array, variables: Variables, batch: Batch) -> tuple[jax.Array, Any]:
        mean, aux = loss_fn(key, variables, batch)
        return mean + weight * structured.penalty(experiment.graph, variables, kind), aux

    return with_penalty


def make_pruned(experiment: Experiment, point: Point, variables: Variables) -> None:
    """Prunes and fine-tunes, in as many iterations as the config says.

    Args:
      experiment: the run and its network.
      point: how much goes in the end.
      variables: [R, …] of the original, on the host.
    """
    spec, graph, run = experiment.spec, experiment.graph, experiment.context.run
    done = set(processes.on_first(run.units))
    for iteration in range(1, spec.prune.iterations + 1):
        last = iteration == spec.prune.iterations
        name = unit_name("pruned", point) if last else f"iterations/{point.label}/{iteration}"
        if f"{plan_name(point)}/{iteration}" not in done:
            plans.make_plan(experiment, point, iteration, variables)
        keep = plans.plan(experiment, point, iteration)
        if name not in done:
            if spec.sparsity.penalty == "growing":
                variables = fading.faded(experiment, f"{point.label}/{iteration}", variables, keep)
            made = compensated(experiment, variables, keep)
            network, small = structured.narrow(graph, made, keep)
            fitted(experiment, name, network, small, experiment.tuning)
        if not last:
            variables = structured.expand(graph, run.unit(name).result()[0]["variables"], keep)
