"""The work of a run: the original network, then plan, decompose, evaluate, fine-tune, evaluate."""

# R replicates

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import architectures, keys
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.devices.interruption import Interruption
from groundwork.errors import UserError
from groundwork.runs import trained
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run
from groundwork.study import Prepared
from groundwork.traced import override
from groundwork.train import networks
from lowrank import analysis, factorization, fit, setup
from lowrank.choose import plans
from lowrank.choose.planner import SEEN, Planner, make_planner
from lowrank.factorization import Plan, layers
from lowrank.setup import Experiment
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
    """Devices and the network, checked.

    Raises:
      UserError: a network that cannot take the data or has no layer that can be decomposed.
    """
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.shape)
    found, _ = setup.reached(spec, model, shapes, dataset.shape)
    if not found:
        raise UserError("decompose.leave: no layer is left to decompose")
    if spec.decompose.ranks == "budget":
        for point in spec.decompose.points:
            plans.check_budget(found, point.method, point.share, spec.decompose.measure)
    looks = "svd_outputs" in spec.decompose.methods
    if isinstance(dataset, FileDataset) and (spec.predict or looks):
        raise UserError(
            "svd_outputs and predict look at images in memory: set data.stream=false, or leave "
            "them out (decompose.methods, predict)"
        )
    if looks:
        setup.check_seen(model, shapes, tuple(found), dataset.shape)
    for path in spec.predict:
        factorization.parameters(shapes, path)
    sizes = {"train": spec.train.batch_size, "fine_tune": spec.fine_tune.batch_size}
    mesh = networks.mesh_for(spec.mesh, spec.replicates, sizes, dataset.examples)

    def work(run: Run, reporter: Reporter, interruption: Interruption) -> None:
        networks.say_mesh(reporter, mesh)
        roots = mesh_lib.put(mesh, keys.roots(spec.seed, spec.replicates), mesh_lib.BY_REPLICATE)
        sweep(Experiment(spec, model, dataset, mesh, run, reporter, interruption, roots))

    def begin() -> None:
        if spec.source.path:
            trained.check_data(spec.source.path, config["data"], "source.path")
            _source(spec, shapes)

    return Prepared(mesh, computed_by(model, dataset.shape), work, begin)


def _source(spec: LowRankSpec, shapes: Any) -> Any:
    """The variables [R, …] of the network that `source` names, checked against the shapes."""
    given = trained.load(spec.source.path, spec.source.unit)
    return trained.replicated(given, shapes, spec.replicates, spec.source.path)


def sweep(experiment: Experiment) -> None:
    """The original, then every point: what is done already is passed over."""
    spec, run = experiment.spec, experiment.run
    done = set(processes.on_first(run.units))
    if "original" not in done:
        make_original(experiment)
    variables = run.unit("original").result()[0]["variables"]
    if FINE_TUNED not in done:  # what fine-tuning alone is worth
        factorised(experiment, FINE_TUNED, {}, variables, fine_tune=True)
    for path in spec.predict:
        if predict_name(path) not in done:
            analysis.predict_layer(experiment, path, variables)
    planner = functools.cache(functools.partial(make_planner, experiment, variables))
    for point in spec.decompose.points:
        if plan_name(point) not in done:
            make_plan(experiment, point, planner)
            done -= {sweep_name(point), scratch_name(point)}
        plan = run.unit(plan_name(point)).result()[1]["plan"]
        if sweep_name(point) not in done:
            factorised(experiment, sweep_name(point), plan, variables, fine_tune=True)
        if spec.decompose.scratch and scratch_name(point) not in done:
            fresh = mesh_lib.fetch(networks.initial(experiment, experiment.model))
            factorised(experiment, scratch_name(point), plan, fresh, fine_tune=False)


def make_plan(experiment: Experiment, point: Point, planner: Callable[[], Planner]) -> None:
    """The unit of a point's plan; measured times decide, so another time it may be another one.

    Networks of an earlier plan, whose checkpoint was damaged, are set aside: they would be
    reported under this one.
    """
    run, reporter = experiment.run, experiment.reporter
    for name in (sweep_name(point), scratch_name(point)):
        if processes.on_first(run.unit(name).set_aside):
            reporter.say(f"warning: the plan of {name} is lost: it is set aside, and done again")
    unit = run.unit(plan_name(point))
    reporter.begin(unit.name, 0, 1)
    planned = processes.on_first(lambda: planner()(point))
    unit.finish({"share": np.asarray(point.share)}, planned)
    reporter.end(f"{len(planned['plan'])} of {len(planned['layers'])} layers factorised")


def make_original(experiment: Experiment) -> None:
    """The network as it is: trained here, or taken from `source`."""
    spec, model = experiment.spec, experiment.model
    unit = experiment.run.unit("original")
    if spec.source.path:
        given = _source(spec, architectures.shapes(model, experiment.dataset.shape))
        variables = mesh_lib.put(experiment.mesh, given, mesh_lib.BY_REPLICATE)
        experiment.reporter.begin(unit.name, 0, 1)
        compiled = fit.compile_programs(experiment, model, spec.train, spec.optimizer)
    else:
        compiled = fit.compile_programs(experiment, model, spec.train, spec.optimizer)
        variables = fit.train(
            experiment,
            compiled,
            unit,
            spec.train,
            spec.optimizer,
            networks.initial(experiment, experiment.model),
        )
    found = fit.measure(experiment, model, compiled, variables)
    unit.finish({"variables": variables}, found)
    experiment.reporter.end(f"test accuracy {np.mean(found['test']):.4f}")


def factorised(
    experiment: Experiment, name: str, plan: Plan, variables: Any, fine_tune: bool
) -> None:
    """Decompose every replicate by one plan, evaluate, train, evaluate, and save it.

    Args:
      experiment: what all share.
      name: of the unit.
      plan: for all replicates.
      variables: [R, …], of the original or of its initialisation, on the host.
      fine_tune: with the config's fine-tuning; as the original was trained otherwise.
    """
    spec, mesh = experiment.spec, experiment.mesh
    unit = experiment.run.unit(name)
    start, found = decomposed(experiment, plan, variables)
    one = jax.tree.map(lambda leaf: leaf[0], start)
    network = override.Network(lambda *_: one, factorization.override(experiment.model, plan))
    steps, optimizer = spec.train, spec.optimizer
    if fine_tune:
        steps, optimizer = spec.fine_tune, spec.fine_tune_optimizer
    loss = fit.make_objective(network, plan, spec.decompose.frobenius_decay)
    compiled = fit.compile_programs(experiment, network, steps, optimizer, loss)
    start = mesh_lib.put(mesh, start, mesh_lib.BY_REPLICATE)
    before = networks.accuracies(experiment, compiled, start)
    end = fit.train(experiment, compiled, unit, steps, optimizer, start)
    measured = fit.measure(experiment, network, compiled, end)
    factors = quality(plan, found)
    for path in factors["stalled"]:
        experiment.reporter.say(f"{name}: {path}: {layers.STALLED}")
    unit.finish({"variables": end}, {**measured, "before": before, **factors})
    accuracy = f"{np.mean(before['test']):.4f} → {np.mean(measured['test']):.4f}"
    experiment.reporter.end(f"{measured['macs']:,} multiply-adds, test accuracy {accuracy}")


def decomposed(
    experiment: Experiment, plan: Plan, variables: Any
) -> tuple[Any, list[dict[str, layers.Decomposed]]]:
    """Factorised variables [R, …] on the host, and a replicate each: what the factors are worth."""
    spec = experiment.spec
    root = keys.stream(jax.random.key(spec.seed), "decompose")
    looks = any(entry["method"] == "svd_outputs" for entry in plan.values())
    inputs = setup.training_inputs(experiment.dataset, SEEN) if looks else None
    trees, found = [], []
    for r in range(spec.replicates):
        own = jax.tree.map(lambda leaf, r=r: jnp.asarray(leaf[r]), variables)
        seen = factorization.collect(experiment.model, own, plan, inputs)
        tree, worth = factorization.decompose(own, plan, seen, jax.random.fold_in(root, r))
        trees.append(jax.tree.map(np.asarray, tree))
        found.append(worth)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees), found


def quality(plan: Plan, found: Sequence[Mapping[str, layers.Decomposed]]) -> dict[str, Any]:
    """What results say of factors: path → errors [R]; paths of which a replicate's have stalled."""
    return {
        "errors": {path: [float(own[path].error) for own in found] for path in plan},
        "stalled": [path for path in plan if not all(own[path].converged for own in found)],
    }
