"""The work of a run: the original network, then plan, decompose, evaluate, fine-tune, evaluate."""

# R replicates

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import architectures
from architectures import surgery
from architectures.convolution import computed_by
from architectures.macs import multiply_adds
from experiment import data as data_lib
from experiment import keys, loop, mapping, optim, processes, programs, trained
from experiment import mesh as mesh_lib
from experiment.data import Dataset
from experiment.errors import UserError
from experiment.interruption import Interruption
from experiment.optim import OptimizerSpec
from experiment.programs import Programs
from experiment.progress import Reporter
from experiment.run import Run, Unit
from experiment.spec import TrainSpec
from experiment.step import LossFn, Model, TrainState, make_loss
from experiment.streams import Streams
from experiment.study import Prepared
from lowrank import candidates, factorization, layers, planning, timing
from lowrank.candidates import DENSE
from lowrank.factorization import Plan
from lowrank.spec import LowRankSpec, Point, plan_name, scratch_name, sweep_name

LATENCY_BATCHES = (1, 128)  # examples
SEEN = 256  # examples that data-aware decompositions look at


class Experiment(NamedTuple):
    """What all networks of a run share."""

    spec: LowRankSpec
    model: nn.Module
    dataset: Dataset | Streams
    mesh: Mesh
    run: Run
    reporter: Reporter
    interruption: Interruption
    roots: jax.Array  # [R] keys


def prepare(spec: LowRankSpec, config: Mapping[str, Any], dataset: Dataset | Streams) -> Prepared:
    """Devices and the network, checked.

    Raises:
      UserError: a network that cannot take the data or has no layer that can be decomposed.
    """
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.shape)
    if not reached(spec, model, shapes, dataset.shape)[0]:
        raise UserError("decompose.leave: no layer is left to decompose")
    if isinstance(dataset, Streams) and "svd_outputs" in spec.decompose.methods:
        raise UserError("svd_outputs looks at images in memory: set data.stream=false")
    batch = max(spec.train.batch_size, spec.fine_tune.batch_size)
    mesh = mesh_lib.for_run(spec.mesh, spec.replicates, batch, dataset.examples)

    def work(run: Run, reporter: Reporter, interruption: Interruption) -> None:
        idle = len(jax.devices()) - mesh.size
        reporter.say(f"mesh {dict(mesh.shape)}" + (f", {idle} devices idle" if idle else ""))
        roots = mesh_lib.put(mesh, keys.roots(spec.seed, spec.replicates), mesh_lib.BY_REPLICATE)
        sweep(Experiment(spec, model, dataset, mesh, run, reporter, interruption, roots))

    return Prepared(mesh, computed_by(model, dataset.shape), work)


def reached(
    spec: LowRankSpec, model: nn.Module, variables: Any, shape: tuple[int, ...]
) -> tuple[dict[str, surgery.Reached], dict[str, str]]:
    """Layers that may be decomposed; and path → why not, of the others that have weights."""
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    found, refused = surgery.layers(model, variables, example)
    for path, layer in list(found.items()):
        if spec.decompose.left(path):
            refused[path] = "decompose.leave names it"
        elif layer.layer.groups != 1:
            refused[path] = f"it has {layer.layer.groups} groups"
    return {p: layer for p, layer in found.items() if p not in refused}, refused


def sweep(experiment: Experiment) -> None:
    """The original, then every point: what is done already is passed over."""
    spec, run = experiment.spec, experiment.run
    done = frozenset(processes.on_first(run.units))
    if "original" not in done:
        make_original(experiment)
    variables = run.unit("original").result()[0]["variables"]
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
            fresh = mesh_lib.fetch(_initial(experiment))
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
        compiled = _programs(experiment, model, spec.train, spec.optimizer)
    else:
        compiled = _programs(experiment, model, spec.train, spec.optimizer)
        variables = _trained(
            experiment, compiled, unit, spec.train, spec.optimizer, _initial(experiment)
        )
    found = _measured(experiment, model, compiled, variables)
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
    loss = make_objective(network, plan, spec.decompose.frobenius_decay)
    compiled = _programs(experiment, network, steps, optimizer, loss)
    start = mesh_lib.put(mesh, start, mesh_lib.BY_REPLICATE)
    before = _accuracies(experiment, compiled, start)
    end = _trained(experiment, compiled, unit, steps, optimizer, start)
    measured = _measured(experiment, network, compiled, end)
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
    trees, found = [], []
    for r in range(spec.replicates):
        own = jax.tree.map(lambda leaf, r=r: jnp.asarray(leaf[r]), variables)
        seen = factorization.collect(experiment.model, own, plan, _examples(experiment))
        tree, worth = factorization.decompose(own, plan, seen, jax.random.fold_in(root, r))
        trees.append(jax.tree.map(np.asarray, tree))
        found.append(worth)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees), found


def make_planner(experiment: Experiment, variables: Any) -> Callable[[Point], dict[str, Any]]:
    """A point of the sweep → its plan and the table of its layers, as JSON. On one process."""
    spec, decompose = experiment.spec, experiment.spec.decompose
    own = jax.tree.map(lambda leaf: leaf[0], variables)
    found, refused = reached(spec, experiment.model, own, experiment.dataset.shape)
    kernels = {p: np.asarray(factorization.parameters(variables, p)["kernel"]) for p in found}
    measure = planning.MEASURES[decompose.measure]
    timed = functools.cache(lambda p, method, rank: timing.layers(found[p], method, rank))

    def faster(path, candidate):
        if decompose.keep_slow:
            return True
        dense, factorised = timed(path, candidate.method, candidate.rank)
        return factorised < dense

    @functools.cache
    def options(method: str) -> dict[str, list[Any]]:
        names = planning.names(method)
        seen = _seen(experiment, variables, found) if method == "svd_outputs" else {}
        return {
            path: candidates.of_layer(layer, kernels[path], names, measure, seen.get(path))
            for path, layer in found.items()
        }

    def plan(point: Point) -> dict[str, Any]:
        if decompose.ranks == "budget":
            table = options(point.method)
            budget = int(point.share * sum(own[0].cost for own in table.values()))
            planned = planning.by_budget(table, budget, faster)
        else:
            rule = decompose.rule(point.share)
            planned = planning.by_rule(found, kernels, point.method, rule, measure, faster)
        rows = [_layer_row(path, layer, planned.plan, timed) for path, layer in found.items()]
        return {**planned._asdict(), "layers": rows, "not_reached": refused}

    return plan


def _layer_row(
    path: str, layer: surgery.Reached, plan: Plan, timed: Callable[..., tuple[float, float]]
) -> dict[str, Any]:
    """What the report says of a layer: costs before and after."""
    entry = plan.get(path, {"method": DENSE, "rank": 0})
    method, rank = entry["method"], entry["rank"]
    rank = tuple(rank) if isinstance(rank, list) else rank
    dense, after = timed(path, method, rank)
    return {
        "path": path,
        "shape": list(layer.kernel),
        **entry,
        "parameters": [candidates.parameters(layer, m, rank) for m in (DENSE, method)],
        "macs": [candidates.macs(layer, m, rank) for m in (DENSE, method)],
        "milliseconds": [1e3 * dense, 1e3 * (after if method != DENSE else dense)],
    }


def make_objective(network: Model, plan: Plan, decay: float) -> LossFn:
    """Cross-entropy, and `decay` / 2 times the squared norms of the reassembled kernels.

    Source of the latter: Khodak et al., arXiv:2105.01029, Frobenius decay: weight decay on what
    the factors make up, in place of on each of them.
    """
    loss_fn = make_loss(network)
    if not decay:
        return loss_fn

    def with_decay(key, variables, batch):
        loss, aux = loss_fn(key, variables, batch)
        kernels = [factorization.reconstruct(variables, *layer) for layer in plan.items()]
        squares = sum(jnp.sum(jnp.square(kernel)) for kernel in kernels)
        return loss + decay / 2 * squares, aux

    return with_decay


def _programs(
    experiment: Experiment,
    network: Model,
    steps: TrainSpec,
    optimizer: OptimizerSpec,
    loss: LossFn | None = None,
) -> Programs:
    return programs.make(
        network,
        optim.make(optimizer, steps.steps),
        experiment.dataset,
        experiment.mesh,
        batch_size=steps.batch_size,
        stride=experiment.spec.checkpoint.poll_steps,
        loss=loss,
    )


def _initial(experiment: Experiment) -> Any:
    """Variables of R replicates before any training."""
    example = jnp.zeros((1, *experiment.dataset.shape))
    init = mapping.each_replicate(
        experiment.mesh,
        lambda root: experiment.model.init(keys.stream(root, "init"), example),
        once=True,
    )
    return init(experiment.roots)


def _trained(
    experiment: Experiment,
    compiled: Programs,
    unit: Unit,
    steps: TrainSpec,
    optimizer_spec: OptimizerSpec,
    variables: Any,
) -> Any:
    """The variables after training from `variables`; goes on where the unit stood."""
    spec = experiment.spec
    optimizer = optim.make(optimizer_spec, steps.steps)

    def begin(step, key, variables):
        return TrainState(step, key, variables, optimizer.init(variables["params"]))

    zero = np.zeros(spec.replicates, np.int32)
    zero = mesh_lib.put(experiment.mesh, zero, mesh_lib.BY_REPLICATE)
    state = mapping.each_replicate(experiment.mesh, begin)(zero, experiment.roots, variables)
    schedule = loop.Schedule(steps.steps, spec.eval_every, spec.checkpoint.every_seconds)
    splits = loop.Splits(validation=experiment.dataset.examples["validation"] > 0, test=True)
    fields = {"parameters": sum(leaf[0].size for leaf in jax.tree.leaves(variables["params"]))}
    end, _ = loop.train(
        compiled,
        state,
        schedule,
        unit,
        fields,
        experiment.reporter,
        splits,
        experiment.interruption,
    )
    return end.variables


def _measured(
    experiment: Experiment, network: Model, compiled: Programs, variables: Any
) -> dict[str, Any]:
    """Accuracies [R] by split, parameters, multiply-adds; latency beside the original's."""
    one = jax.tree.map(lambda leaf: leaf[0], mesh_lib.fetch(variables))
    example = jax.ShapeDtypeStruct((1, *experiment.dataset.shape), jnp.float32)
    return {
        **_accuracies(experiment, compiled, variables),
        "parameters": architectures.count(one["params"]),
        "macs": multiply_adds(network.apply, one, example),
        "milliseconds": processes.on_first(_latency, experiment, network, one),
    }


def _accuracies(
    experiment: Experiment, compiled: Programs, variables: Any
) -> dict[str, list[float]]:
    """Split → accuracy [R], of the splits there are."""
    found = {}
    for split in ("validation", "test"):
        if experiment.dataset.examples[split]:
            counts = mesh_lib.fetch(compiled.evaluate(variables, split))
            found[split] = (counts.correct / counts.examples).tolist()
    return found


def _latency(experiment: Experiment, network: Model, variables: Any) -> dict[str, list[float]]:
    """Batch size → milliseconds of a call: the original's, this network's, taken in turns."""
    model, shape = experiment.model, experiment.dataset.shape
    original = model.init(jax.random.key(0), jnp.zeros((1, *shape)))
    variables = jax.tree.map(jnp.asarray, variables)
    found = {}
    for batch in LATENCY_BATCHES:
        x = jax.random.normal(jax.random.key(1), (batch, *shape))
        calls = [
            functools.partial(jax.jit(functools.partial(of.apply, train=False)), own, x)
            for of, own in ((model, original), (network, variables))
        ]
        found[str(batch)] = [1e3 * seconds for seconds in timing.medians(calls)]
    return found


def _examples(experiment: Experiment) -> jax.Array | None:
    """Training images that data-aware decompositions look at."""
    dataset = experiment.dataset
    if isinstance(dataset, Streams):
        return None
    return data_lib.normalize(dataset, jnp.asarray(dataset.train.images[:SEEN]))


def _seen(
    experiment: Experiment, variables: Any, found: Mapping[str, surgery.Reached]
) -> dict[str, np.ndarray]:
    """Path → [R, rows, N] what each layer is given."""
    plan = {path: {"method": "svd_outputs", "rank": 1} for path in found}
    own = []
    for r in range(experiment.spec.replicates):
        one = jax.tree.map(lambda leaf, r=r: jnp.asarray(leaf[r]), variables)
        own.append(factorization.collect(experiment.model, one, plan, _examples(experiment)))
    return {path: np.stack([np.asarray(rows[path]) for rows in own]) for path in found}
