"""The work of a run: the dense search, the ticket where its masks stay, and the controls."""

# R replicates

from collections.abc import Mapping
from typing import Any

import numpy as np

from groundwork import architectures, trees
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.context import Context
from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.errors import UserError, about
from groundwork.study import Prepared
from groundwork.train import fitting, footprint, networks, optim, own, programs
from groundwork.trees import Variables
from lottery.early_bird import detection, draws
from lottery.early_bird import search as search_lib
from lottery.early_bird.search import Masks, Search
from lottery.early_bird.spec import Spec
from pruning import enforce, fit, masks, structured
from pruning.structured import Graph


def prepare(spec: Spec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Returns the devices and the work, which are checked.

    Raises:
      UserError: the network cannot take the data, or has no scales or kernels to rank.
    """
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.example)
    footprint.check("this model", shapes, spec.optimizer, spec.replicates)
    loss, code = own.checked_loss(spec.loss, dataset, model, shapes)
    graph: Graph | None = None
    if spec.early_bird.masks == "channels":
        try:
            graph = structured.groups(model, shapes, dataset.example)
            structured.check_criterion(graph, "scale", dataset.example)
        except ValueError as error:
            raise UserError(
                f"early_bird.masks=channels: {error}; early_bird.masks=weights needs no scales"
            ) from error
    else:
        with about("early_bird.masks=weights"):
            masks.ones(shapes["params"])
    sizes = {"train": spec.train.batch_size, "fine_tune": spec.fine_tune.batch_size}

    def work(context: Context) -> None:
        # Of the spec, `fit` reads `fine_tune` and `fine_tune_optimizer` here, and never the graph.
        as_pruning: Any = {"spec": spec, "graph": graph}
        experiment = fit.Experiment(context=context, model=model, loss=loss, **as_pruning)
        find(Search(spec=spec, experiment=experiment, graph=graph))

    return Prepared(
        mesh=networks.mesh_for(spec.mesh, spec.replicates, sizes, dataset),
        convolutions=computed_by(model, dataset.example),
        work=work,
        metric=loss.metric,
        own=code,
    )


def find(search: Search) -> None:
    """Trains the dense network, draws the ticket, trains it and its controls; skips what is done.

    The dense training goes on after the detector has fired, for the controls and for the matrix of
    distances; what the ticket cost does not count these epochs.
    """
    spec, run = search.spec, search.experiment.context.run
    done = set(processes.on_first(run.units))
    search_lib.train(search)
    if "distances" not in done:
        search_lib.measure(search)
    last = search_lib.variables_at(search, spec.epochs)
    if "dense" not in done:
        dense = search_lib.dense_phase(spec)
        fit.fitted(search.experiment, "dense", search.experiment.model, last, dense)
    epoch = run.unit("distances").verify()["epoch"]
    early = [name for name in ("ticket", *spec.controls.chosen) if name != "late"]
    for name in early:
        if name in done:
            continue
        if epoch is None:
            _leave_out(search, name)
        else:
            make(search, name, search_lib.variables_at(search, epoch), epoch)
    if spec.controls.late and "late" not in done:
        make(search, "late", last, spec.epochs)


def make(search: Search, name: str, variables: Variables, epoch: int) -> None:
    """Draws the mask that a network needs, if it is not drawn yet, and trains the network.

    Args:
      search: the run.
      name: `ticket`, or one of `spec.CONTROLS`.
      variables: [R, …] of the dense network at the epoch of the ticket, on the host.
      epoch: at which the mask is drawn.
    """
    experiment = search.experiment
    mask = _drawn(search, "late" if name == "late" else "ticket", variables, epoch)
    if name == "random":
        mask = draws.shuffled(mask, experiment.context.seed)
    if name == "reinit":
        variables = experiment.fresh
    if search.graph is None:
        _train_sparse(search, name, variables, mask)
        return
    network, small = structured.narrow(search.graph, variables, mask)
    if name == "reinit":
        small = structured.renewed(search.graph, variables, mask)
    fit.fitted(experiment, name, network, small, experiment.tuning)


def _drawn(search: Search, name: str, variables: Variables, epoch: int) -> Masks:
    """Returns the masks [R, …] of a ticket; the unit `drawn/…` keeps them.

    Its metadata have the epoch, and how far each replicate's mask is from `search.own`.
    """
    context = search.experiment.context
    unit = context.run.unit(f"drawn/{name}")
    if not processes.on_first(lambda: unit.done):
        mask, own = search.drawn(variables), search.own(variables)
        apart = [
            detection.distances([trees.replicate(one, r) for one in (mask, own)])[0, 1]
            for r in range(context.replicates)
        ]
        context.reporter.begin(unit.name, 0, 1)
        unit.finish(mask, {"epoch": epoch, "from_own": apart})
        context.reporter.end(f"at epoch {epoch}")
    return {path: np.asarray(keep, bool) for path, keep in unit.result()[0].items()}


def _leave_out(search: Search, name: str) -> None:
    """Finishes a unit without a network, since the detector did not fire."""
    spec, context = search.spec, search.experiment.context
    why = f"the detector did not fire in {spec.epochs} epochs"
    units = [name, "drawn/ticket"] if name == "ticket" else [name]
    for unit in map(context.run.unit, units):
        context.reporter.begin(unit.name, 0, 1)
        unit.finish({"none": np.zeros(context.replicates, bool)}, {"absent": why})
        context.reporter.end(why)


def _train_sparse(search: Search, name: str, variables: Variables, mask: Masks) -> None:
    """Trains the dense network's variables under masks [R, …] of weights, and saves them."""
    experiment, spec = search.experiment, search.spec
    context, model = experiment.context, experiment.model
    optimizer = optim.make(spec.fine_tune_optimizer, spec.fine_tune.steps)
    shared = fit.shared_with_equals(experiment, model, variables)
    if "masked" not in shared.programs:
        plain = fit.compile_programs(experiment, shared, model, experiment.tuning)
        made = programs.make(
            model,
            enforce.enforce(optimizer, None),
            context.dataset,
            context.mesh,
            batch_size=spec.fine_tune.batch_size,
            stride=context.poll_steps,
            objective=experiment.loss,
        )
        shared.programs["masked"] = made._replace(evaluate=plain.evaluate, judge=plain.judge)
    compiled, unit = shared.programs["masked"], context.run.unit(name)
    begin = networks.make_start(context, enforce.begin(optimizer), once=True)
    state = begin(*context.put((variables, mask)))
    before = networks.accuracies(context, compiled, state.variables)
    end = networks.train(context, compiled, unit, spec.fine_tune.steps, state)
    measured = networks.accuracies(context, compiled, end)
    judged = compiled.judge(end)
    costs = fitting.costs(context, model, model, end)
    metadata = {**measured, **judged.metadata, **costs, "before": before}
    metadata["steps"] = spec.fine_tune.steps
    unit.finish({"variables": mesh_lib.fetch(end), **judged.tree}, metadata)
    change = f"{np.mean(before['test']):.4f} → {np.mean(measured['test']):.4f}"
    context.reporter.end(f"test {experiment.loss.metric.words} {change}")
