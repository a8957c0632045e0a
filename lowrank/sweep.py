"""The work of a run: the original network, then plan, decompose, evaluate, fine-tune, evaluate."""

# R replicates

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import architectures
from architectures import surgery
from architectures.convolution import computed_by
from experiment import keys, processes, trained
from experiment import mesh as mesh_lib
from experiment.data import Dataset
from experiment.errors import UserError
from experiment.interruption import Interruption
from experiment.progress import Reporter
from experiment.run import Run
from experiment.streams import Streams
from experiment.study import Prepared
from lowrank import analysis, factorization, layers, setup, training
from lowrank.factorization import Plan
from lowrank.planner import SEEN, make_planner
from lowrank.setup import Experiment
from lowrank.spec import FINE_TUNED, LowRankSpec, plan_name, predict_name, scratch_name, sweep_name


def prepare(spec: LowRankSpec, config: Mapping[str, Any], dataset: Dataset | Streams) -> Prepared:
    """Devices and the network, checked.

    Raises:
      UserError: a network that cannot take the data or has no layer that can be decomposed.
    """
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.shape)
    if not setup.reached(spec, model, shapes, dataset.shape)[0]:
        raise UserError("decompose.leave: no layer is left to decompose")
    if isinstance(dataset, Streams) and (spec.predict or "svd_outputs" in spec.decompose.methods):
        raise UserError("svd_outputs and predict look at images in memory: set data.stream=false")
    for path in spec.predict:
        factorization.parameters(shapes, path)
    batch = max(spec.train.batch_size, spec.fine_tune.batch_size)
    mesh = mesh_lib.for_run(spec.mesh, spec.replicates, batch, dataset.examples)

    def work(run: Run, reporter: Reporter, interruption: Interruption) -> None:
        idle = len(jax.devices()) - mesh.size
        reporter.say(f"mesh {dict(mesh.shape)}" + (f", {idle} devices idle" if idle else ""))
        roots = mesh_lib.put(mesh, keys.roots(spec.seed, spec.replicates), mesh_lib.BY_REPLICATE)
        sweep(Experiment(spec, model, dataset, mesh, run, reporter, interruption, roots))

    return Prepared(mesh, computed_by(model, dataset.shape), work)


def sweep(experiment: Experiment) -> None:
    """The original, then every point: what is done already is passed over."""
    spec, run = experiment.spec, experiment.run
    done = frozenset(processes.on_first(run.units))
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
        unit = run.unit(plan_name(point))
        if plan_name(point) not in done:
            planned = processes.on_first(lambda point=point: planner()(point))
            unit.finish({"share": np.asarray(point.share)}, planned)
        plan = unit.result()[1]["plan"]
        if sweep_name(point) not in done:
            factorised(experiment, sweep_name(point), plan, variables, fine_tune=True)
        if spec.decompose.scratch and scratch_name(point) not in done:
            fresh = mesh_lib.fetch(training.initial(experiment))
            factorised(experiment, scratch_name(point), plan, fresh, fine_tune=False)


def make_original(experiment: Experiment) -> None:
    """The network as it is: trained here, or taken from `source`."""
    spec, model = experiment.spec, experiment.model
    unit = experiment.run.unit("original")
    if spec.source.path:
        shapes = architectures.shapes(model, experiment.dataset.shape)
        given = trained.load(spec.source.path, spec.source.unit)
        given = trained.replicated(given, shapes, spec.replicates, spec.source.path)
        variables = mesh_lib.put(experiment.mesh, given, mesh_lib.BY_REPLICATE)
        experiment.reporter.begin(unit.name, 0, 1)
        compiled = training.compile_programs(experiment, model, spec.train, spec.optimizer)
    else:
        compiled = training.compile_programs(experiment, model, spec.train, spec.optimizer)
        variables = training.train(
            experiment, compiled, unit, spec.train, spec.optimizer, training.initial(experiment)
        )
    found = training.measure(experiment, model, compiled, variables)
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
    network = surgery.Network(lambda *_: one, factorization.override(experiment.model, plan))
    steps, optimizer = spec.train, spec.optimizer
    if fine_tune:
        steps, optimizer = spec.fine_tune, spec.fine_tune_optimizer
    loss = training.make_objective(network, plan, spec.decompose.frobenius_decay)
    compiled = training.compile_programs(experiment, network, steps, optimizer, loss)
    start = mesh_lib.put(mesh, start, mesh_lib.BY_REPLICATE)
    before = training.accuracies(experiment, compiled, start)
    end = training.train(experiment, compiled, unit, steps, optimizer, start)
    measured = training.measure(experiment, network, compiled, end)
    errors = {path: [float(own[path].error) for own in found] for path in plan}
    unit.finish({"variables": end}, {**measured, "before": before, "errors": errors})
    for path in plan:
        if not all(bool(own[path].converged) for own in found):
            experiment.reporter.say(f"{name}: {path}: the iterations had not converged")
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
