"""The work of a run: the original, then plans, decompositions, fine-tuning and evaluations."""

# R replicates

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from groundwork import architectures, keys, trees
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.context import Context
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.errors import UserError, about
from groundwork.runs import trained
from groundwork.study import Prepared
from groundwork.traced.network import Network
from groundwork.train import fitting, footprint, networks, own
from groundwork.trees import Shapes, Variables
from lowrank import analysis, factorization, fit
from lowrank.choose import plans
from lowrank.choose.planner import SEEN, Planner
from lowrank.factorization import Layers, Plan
from lowrank.factorization.methods import STALLED, Decomposed
from lowrank.fit import Experiment
from lowrank.spec import (
    FINE_TUNED,
    LowRankSpec,
    Point,
    plan_name,
    predict_name,
    scratch_name,
    sweep_name,
)


def prepare(spec: LowRankSpec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Returns the devices and the work, which are checked.

    Raises:
      UserError: the network cannot take the data, or has no layer that can be decomposed.
    """
    model = architectures.build(config, dataset.classes)
    example = dataset.example
    shapes = architectures.shapes(model, example)
    footprint.check("this model", shapes, spec.optimizer, spec.replicates)
    loss, code = own.checked_loss(spec.loss, dataset, model, shapes)
    with about("decompose.leave"):
        layers, _ = factorization.decomposable(model, shapes, example, spec.decompose.leave)
    if not layers:
        raise UserError("decompose.leave: no layer is left to decompose")
    if spec.decompose.ranks == "budget":
        for point in spec.decompose.points:
            with about("decompose.shares"):
                plans.check_share(layers, point.method, point.share, spec.decompose.measure)
    looks = "svd_outputs" in spec.decompose.methods
    if isinstance(dataset, FileDataset) and (spec.predict or looks):
        raise UserError(
            "svd_outputs and predict look at examples in memory: set data.stream=false, or leave "
            "them out (decompose.methods, predict)"
        )
    if looks:
        _check_seen(model, shapes, layers, example)
    with about("predict"):
        predicted = factorization.planned(model, shapes, spec.predict, example)
    sizes = {"train": spec.train.batch_size, "fine_tune": spec.fine_tune.batch_size}
    mesh = networks.mesh_for(spec.mesh, spec.replicates, sizes, dataset)

    def work(context: Context) -> None:
        every = {**layers, **predicted}
        sweep(Experiment(context=context, spec=spec, model=model, layers=every, loss=loss))

    def begin() -> None:
        if spec.source.path:
            trained.check_data(spec.source.path, config["data"], "source.path")
            _source(spec, model, shapes)

    return Prepared(
        mesh=mesh,
        convolutions=computed_by(model, dataset.example),
        work=work,
        begin=begin,
        metric=loss.metric,
        own=code,
    )


def _check_seen(model: nn.Module, shapes: Shapes, layers: Layers, example: Any) -> None:
    """Refuses layers that `svd_outputs` cannot decompose, since their inputs are not known."""
    try:
        jax.eval_shape(lambda v, x: factorization.rows(model, v, layers, x), shapes, example)
    except ValueError as error:
        raise UserError(f"svd_outputs: {error}, or name it in decompose.leave") from error


def _source(spec: LowRankSpec, model: nn.Module, shapes: Shapes) -> Variables:
    """Returns the variables [R, …] of the network that `source` names, checked by the shapes."""
    source = spec.source
    return trained.source(source.path, source.unit, model, shapes, spec.replicates)


def sweep(experiment: Experiment) -> None:
    """Makes the original, then every point; units that are done are skipped."""
    context, spec, run = experiment.context, experiment.spec, experiment.context.run
    done = set(processes.on_first(run.units))
    if "original" not in done:
        make_original(experiment)
    variables = run.unit("original").result()[0]["variables"]
    if FINE_TUNED not in done:  # shows what fine-tuning alone gains
        factorised(experiment, FINE_TUNED, {}, variables, fine_tune=True)
    for path in spec.predict:
        if predict_name(path) not in done:
            analysis.predict_layer(experiment, path, variables)
    planner = Planner(
        model=experiment.model,
        variables=variables,
        example=context.dataset.example,
        rules=spec.decompose,
        inputs=lambda: data_lib.first_examples(context.dataset, SEEN)[0],
        stop_if_asked=stop_if_asked(context),
    )
    for point in spec.decompose.points:
        if plan_name(point) not in done:
            make_plan(experiment, point, planner)
            done -= {sweep_name(point), scratch_name(point)}
        plan = run.unit(plan_name(point)).result()[1]["plan"]
        if sweep_name(point) not in done:
            factorised(experiment, sweep_name(point), plan, variables, fine_tune=True)
        if spec.decompose.scratch and scratch_name(point) not in done:
            fresh = mesh_lib.fetch(networks.initial(context, experiment.model))
            factorised(experiment, scratch_name(point), plan, fresh, fine_tune=False)


def make_plan(experiment: Experiment, point: Point, planner: Planner) -> None:
    """Makes the unit of a point's plan. It depends on measured times, so a second one may differ.

    If there was an earlier plan, whose checkpoint was damaged, its networks are set aside, since
    they would be reported under this plan.
    """
    run, reporter = experiment.context.run, experiment.context.reporter
    for name in (sweep_name(point), scratch_name(point)):
        if processes.on_first(run.unit(name).set_aside):
            reporter.say(f"warning: the plan of {name} is lost: it is set aside, and done again")
    unit = run.unit(plan_name(point))
    reporter.begin(unit.name, 0, 1)

    def plan() -> dict[str, Any]:
        with about("decompose.shares", plans.BudgetError):
            return planner.plan(point.method, point.share)

    planned = processes.on_first(plan)
    unit.finish({"share": np.asarray(point.share)}, planned)
    reporter.end(f"{len(planned['plan'])} of {len(planned['layers'])} layers factorised")


def stop_if_asked(context: Context) -> Callable[[str], None]:
    """Returns a function that a planner calls between two searches, since a plan takes minutes.

    It does nothing in several processes, which agree to stop only at a training step.
    """

    def stop(method: str) -> None:
        if processes.count() == 1 and context.interruption.reached():
            raise context.interruption.stop(f"the unit before the plans of {method}")

    return stop


def make_original(experiment: Experiment) -> None:
    """Makes the unit of the original network: it is trained here, or taken from `source`."""
    context, spec, model = experiment.context, experiment.spec, experiment.model
    unit = context.run.unit("original")
    compiled = fitting.compile_programs(
        context, model, spec.train, spec.optimizer, objective=experiment.loss
    )
    if spec.source.path:
        shapes = architectures.shapes(model, context.dataset.example)
        variables = context.put(_source(spec, model, shapes))
        context.reporter.begin(unit.name, 0, 1)
    else:
        start = networks.initial(context, model)
        variables = fitting.train(context, compiled, unit, spec.train, spec.optimizer, start)
    measured = fitting.measure(context, model, model, compiled, variables)
    unit.finish({"variables": variables}, measured)
    metric = experiment.loss.metric.words
    context.reporter.end(f"test {metric} {np.mean(measured['test']):.4f}")


def factorised(
    experiment: Experiment, name: str, plan: Plan, variables: Variables, fine_tune: bool
) -> None:
    """Decomposes every replicate by one plan, evaluates, trains, evaluates, and saves the result.

    Args:
      experiment: the run and its network.
      name: of the unit.
      plan: for all replicates.
      variables: [R, …], of the original or of its initialisation, on the host.
      fine_tune: whether to train by the config's fine-tuning, or as the original was trained.
    """
    context, spec, model = experiment.context, experiment.spec, experiment.model
    unit = context.run.unit(name)
    factors, reports = decomposed(context, model, plan, variables, experiment.layers)
    one = trees.replicate(factors, 0)
    apply = factorization.override(model, plan, experiment.layers)
    network = Network(lambda *_: one, apply)
    steps, optimizer = spec.train, spec.optimizer
    if fine_tune:
        steps, optimizer = spec.fine_tune, spec.fine_tune_optimizer
    objective = experiment.loss
    loss = fit.make_objective(network, plan, spec.decompose.frobenius_decay, objective)
    compiled = fitting.compile_programs(context, network, steps, optimizer, loss, objective)
    start = context.put(factors)
    before = networks.accuracies(context, compiled, start)
    end = fitting.train(context, compiled, unit, steps, optimizer, start)
    measured = fitting.measure(context, model, network, compiled, end)
    errors = quality(plan, reports)
    for path in errors["stalled"]:
        context.reporter.say(f"{name}: {path}: {STALLED}")
    unit.finish({"variables": end}, {**measured, "before": before, **errors})
    change = f"{np.mean(before['test']):.4f} → {np.mean(measured['test']):.4f}"
    words = f"test {objective.metric.words} {change}"
    context.reporter.end(f"{measured['macs']:,} multiply-adds, {words}")


def decomposed(
    context: Context, model: nn.Module, plan: Plan, variables: Variables, layers: Layers
) -> tuple[Variables, list[dict[str, Decomposed]]]:
    """Returns factorised variables [R, …] on the host, and a report for each replicate.

    Args:
      context: of the run.
      model: the original network.
      plan: for all replicates.
      variables: [R, …], of the original, on the host.
      layers: those of the plan are among them.
    """
    root = keys.stream(jax.random.key(context.seed), "decompose")
    looks = any(entry["method"] == "svd_outputs" for entry in plan.values())
    inputs = data_lib.first_examples(context.dataset, SEEN)[0] if looks else None
    replicates, reports = [], []
    for r in range(context.replicates):
        one = jax.tree.map(jnp.asarray, trees.replicate(variables, r))
        seen = factorization.collect(model, one, plan, layers, inputs)
        key = jax.random.fold_in(root, r)
        tree, report = factorization.decompose(one, plan, seen, key, layers)
        replicates.append(jax.tree.map(np.asarray, tree))
        reports.append(report)
    return trees.stack(replicates), reports


def quality(plan: Plan, reports: Sequence[Mapping[str, Decomposed]]) -> dict[str, Any]:
    """Returns `errors`, path → [R], and `stalled`, the paths where a search did not converge."""
    return {
        "errors": {path: [float(report[path].error) for report in reports] for path in plan},
        "stalled": [path for path in plan if not all(r[path].converged for r in reports)],
    }
