"""The work of a run: the original, then units that go, fine-tuning, and the controls beside it."""

# R replicates, U units of a group

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import architectures, trees
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.context import Context
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import processes
from groundwork.errors import UserError, about
from groundwork.study import Prepared
from groundwork.traced.macs import multiply_adds
from groundwork.train import fitting, footprint, latency, networks, own
from groundwork.train.fitting import Steps
from groundwork.train.losses import Loss
from groundwork.train.optim import OptimizerSpec
from groundwork.train.step import Batch, LossFn, make_loss
from groundwork.trees import Variables
from pruning import structured
from pruning.spec import LOOKS, Point, PruningSpec, plan_name, unit_name
from pruning.structured import Graph, Keep, Narrowed, Scores

COMPENSATIONS = {"least_squares": structured.least_squares, "merge": structured.merge}
GONE = -1.0  # the score of a unit that went before; all others are at least 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run, and the network whose units go."""

    context: Context
    spec: PruningSpec
    model: Any
    graph: Graph
    loss: Loss


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
    graph = _graph(spec, model, shapes, dataset)
    sizes = {"train": spec.train.batch_size, "fine_tune": spec.fine_tune.batch_size}

    def work(context: Context) -> None:
        made = Experiment(context=context, spec=spec, model=model, graph=graph, loss=loss)
        sweep(made)

    return Prepared(
        mesh=networks.mesh_for(spec.mesh, spec.replicates, sizes, dataset),
        convolutions=computed_by(model, dataset.example),
        work=work,
        metric=loss.metric,
        own=code,
    )


def _graph(spec: PruningSpec, model: Any, shapes: Any, dataset: AnyDataset) -> Graph:
    """Returns the groups, once it is known that the config's ratios and target fit them."""
    with about("prune.ignored"):
        graph = structured.groups(
            model, shapes, dataset.example, ignored=spec.prune.ignored, split=spec.prune.split
        )
    with about("prune.criterion"):
        structured.check_criterion(graph, spec.prune.criterion, dataset.example)
    if spec.sparsity.penalty != "none":
        with about("sparsity.penalty"):
            jax.eval_shape(lambda v: structured.penalty(graph, v, spec.sparsity.penalty), shapes)
    alike = {group.name: np.arange(group.units, dtype=float) for group in graph.groups}
    for point in spec.prune.points:
        if point.ratio is not None:
            with about("prune.ratio"):
                _choose(spec, graph, alike, point.ratio)
    if (target := spec.prune.budget.chosen) and target[0] != "milliseconds":
        with about(f"prune.target.{target[0]}"):
            _to_target(spec, graph, alike, dataset.example)
    return graph


def sweep(experiment: Experiment) -> None:
    """Makes the original, then every pruned network with its controls; what is done is skipped."""
    spec, run = experiment.spec, experiment.context.run
    done = set(processes.on_first(run.units))
    if "original" not in done:
        make_original(experiment)
    variables = run.unit("original").result()[0]["variables"]
    if "fine_tuned" not in done:  # shows what fine-tuning alone gains
        tuned = spec.fine_tune, spec.fine_tune_optimizer
        fitted(experiment, "fine_tuned", experiment.model, variables, *tuned)
    for point in spec.prune.points:
        if unit_name("pruned", point) not in done:
            make_pruned(experiment, point, variables)
        keep = plan(experiment, point, spec.prune.iterations)
        for branch in spec.branches.chosen:
            if unit_name(branch, point) not in done:
                make_branch(experiment, branch, point, keep, variables)


def make_original(experiment: Experiment) -> None:
    """Trains the network that others are made of."""
    spec = experiment.spec
    start = networks.initial(experiment.context, experiment.model)
    loss = _with_penalty(experiment) if spec.sparsity.penalty != "none" else None
    fitted(experiment, "original", experiment.model, start, spec.train, spec.optimizer, loss)


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
    spec, graph = experiment.spec, experiment.graph
    done = set(processes.on_first(experiment.context.run.units))
    tuned = spec.fine_tune, spec.fine_tune_optimizer
    for iteration in range(1, spec.prune.iterations + 1):
        last = iteration == spec.prune.iterations
        name = unit_name("pruned", point) if last else f"iterations/{point.label}/{iteration}"
        if f"{plan_name(point)}/{iteration}" not in done:
            make_plan(experiment, point, iteration, variables)
        keep = plan(experiment, point, iteration)
        if name not in done:
            if spec.prune.compensate != "none":
                variables = compensated(experiment, variables, keep)
            network, small = structured.narrow(graph, variables, keep)
            fitted(experiment, name, network, small, *tuned)
        if not last:
            small = experiment.context.run.unit(name).result()[0]["variables"]
            variables = structured.expand(graph, small, keep)


def make_branch(
    experiment: Experiment, branch: str, point: Point, keep: Keep, variables: Variables
) -> None:
    """Trains a control of a pruned network: other units, or new weights.

    Source: Liu et al., arXiv:1810.05270: Scratch-E trains new weights for as many steps as the
    original, Scratch-B for as many multiply-adds, with its drops of the rate at the same shares of
    them. Departs: what fine-tuning costs is not added.
    """
    spec, graph, context = experiment.spec, experiment.graph, experiment.context
    name = unit_name(branch, point)
    if branch == "random_units":
        keep = _shuffled(graph, keep, context.seed)
        if spec.prune.compensate != "none":
            variables = compensated(experiment, variables, keep)
        network, small = structured.narrow(graph, variables, keep)
        fitted(experiment, name, network, small, spec.fine_tune, spec.fine_tune_optimizer)
        return
    network = Narrowed(graph=graph, keep=keep)
    steps, optimizer = spec.train, spec.optimizer
    if branch == "scratch_b":
        times = _times_as_long(experiment, network)
        drops = tuple(round(step * times) for step in optimizer.drop_steps)
        steps = dataclasses.replace(steps, steps=round(steps.steps * times))
        optimizer = dataclasses.replace(optimizer, drop_steps=drops)
    start = networks.initial(context, network)
    fitted(experiment, name, network, start, steps, optimizer)


def fitted(
    experiment: Experiment,
    name: str,
    network: Any,
    variables: Variables,
    steps: Steps,
    optimizer: OptimizerSpec,
    loss: LossFn | None = None,
) -> None:
    """Evaluates a network, trains it, evaluates it again, and saves it as a unit.

    Args:
      experiment: the run.
      name: of the unit.
      network: with `init` and `apply`.
      variables: [R, …] that its training starts from.
      steps: of its training.
      optimizer: of its training.
      loss: that is trained, if it is not the run's.
    """
    context, model = experiment.context, experiment.model
    unit = context.run.unit(name)
    compiled = fitting.compile_programs(context, network, steps, optimizer, loss, experiment.loss)
    start = context.put(variables)
    before = networks.accuracies(context, compiled, start)
    end = fitting.train(context, compiled, unit, steps, optimizer, start)
    measured = fitting.measure(context, model, network, compiled, end)
    unit.finish({"variables": end}, {**measured, "before": before, "steps": steps.steps})
    change = f"{np.mean(before['test']):.4f} → {np.mean(measured['test']):.4f}"
    words = f"test {experiment.loss.metric.words} {change}"
    context.reporter.end(f"{measured['macs']:,} multiply-adds, {words}")


def make_plan(experiment: Experiment, point: Point, iteration: int, variables: Variables) -> None:
    """Makes the unit that says which units an iteration keeps."""
    spec, graph, context = experiment.spec, experiment.graph, experiment.context
    unit = context.run.unit(f"{plan_name(point)}/{iteration}")
    context.reporter.begin(unit.name, 0, 1)
    before = plan(experiment, point, iteration - 1) if iteration > 1 else {}
    scores = [
        _scores(experiment, jax.tree.map(jnp.asarray, trees.replicate(variables, r)), before, r)
        for r in range(context.replicates)
    ]
    ranked = {
        group.name: np.mean([np.sort(one[group.name]) for one in scores], axis=0)
        for group in graph.groups
    }
    share = iteration / spec.prune.iterations
    ratio = point.ratio
    if ratio is None and spec.prune.keep_accuracy:
        ratio = _keeping_accuracy(experiment, ranked, scores, variables)
    elif ratio is None:
        with about("prune.target"):
            ratio = processes.on_first(_to_target, spec, graph, ranked, context.dataset.example)
    gone = {name: 1 - (1 - r) ** share for name, r in _by_pattern(ratio).items()}
    keep = _lowest_of_each(spec, graph, ranked, scores, gone)
    for name, still in before.items():  # a target that is measured again may need fewer
        keep[name] = keep[name] & still
    unit.finish(keep, {"ratio": ratio, "coupling": structured.coupling(graph)})
    left, units = sum(int(k[0].sum()) for k in keep.values()), sum(g.units for g in graph.groups)
    context.reporter.end(f"{left} of {units} units kept")


def _lowest_of_each(
    spec: PruningSpec, graph: Graph, ranked: Scores, scores: Sequence[Scores], ratio: Any
) -> dict[str, np.ndarray]:
    """Returns group → [R, U] bool: as many as `ranked` tells, of each replicate its own lowest."""
    counts = {
        name: int((~kept).sum()) for name, kept in _choose(spec, graph, ranked, ratio).items()
    }
    return {
        name: np.stack([structured.lowest_go(one[name], count) for one in scores])
        for name, count in counts.items()
    }


def _keeping_accuracy(
    experiment: Experiment, ranked: Scores, scores: Sequence[Scores], variables: Variables
) -> float:
    """Returns the largest ratio that bisection finds to lose no more than the config allows.

    What is lost is the mean over replicates on the validation split, before fine-tuning and after
    compensation, of networks with zeros in place of the units.
    """
    spec, graph, context = experiment.spec, experiment.graph, experiment.context
    tuned = spec.fine_tune, spec.fine_tune_optimizer
    compiled = fitting.compile_programs(
        context, experiment.model, *tuned, objective=experiment.loss
    )

    def validated(variables: Variables) -> float:
        found = networks.accuracies(context, compiled, context.put(variables))
        return experiment.loss.metric.sign * float(np.mean(found["validation"]))

    least = validated(context.run.unit("original").result()[0]["variables"])
    least -= spec.prune.keep_accuracy
    low, high = 0.0, 1.0
    while high - low > 0.5 / sum(group.units for group in graph.groups):
        middle = (low + high) / 2
        keep = _lowest_of_each(spec, graph, ranked, scores, middle)
        if spec.prune.compensate != "none":
            without = _made_up(experiment, variables, keep)[0]
        else:
            without = structured.mask(graph, variables, keep)
        low, high = (middle, high) if validated(without) >= least else (low, middle)
    return low


def plan(experiment: Experiment, point: Point, iteration: int) -> Keep:
    """Returns group → [R, U] bool, the units that an iteration keeps."""
    tree = experiment.context.run.unit(f"{plan_name(point)}/{iteration}").result()[0]
    return {name: np.asarray(keep, bool) for name, keep in tree.items()}


def compensated(experiment: Experiment, variables: Variables, keep: Keep) -> Variables:
    """Returns variables [R, …] whose layers make up for what goes, and says which cannot."""
    made, missed = _made_up(experiment, variables, keep)
    for path, why in missed.items():
        experiment.context.reporter.say(f"{path} is not compensated: {why}")
    return made


def _made_up(
    experiment: Experiment, variables: Variables, keep: Keep
) -> tuple[Variables, dict[str, str]]:
    """Returns such variables, and path → why it is not compensated."""
    context = experiment.context
    inputs, _ = data_lib.first_examples(context.dataset, experiment.spec.prune.examples)
    made, how = [], COMPENSATIONS[experiment.spec.prune.compensate]
    for r in range(context.replicates):
        one = jax.tree.map(jnp.asarray, trees.replicate(variables, r))
        solved, missed = how(
            experiment.graph, one, {name: units[r] for name, units in keep.items()}, inputs
        )
        made.append(solved)
    return trees.stack(made), missed


def _scores(experiment: Experiment, variables: Variables, before: Keep, replicate: int) -> Scores:
    """Returns the scores of one replicate's units; those that went before have `GONE`."""
    spec, context = experiment.spec.prune, experiment.context
    evidence: dict[str, Any] = {}
    if spec.criterion in LOOKS:
        seen = networks.evidence(context, experiment.model, spec.examples, experiment.loss)
        evidence["inputs"] = seen["examples"].inputs
        evidence["loss"] = lambda variables: seen["loss"](variables, seen["examples"])
    scores = structured.scores(
        experiment.graph,
        variables,
        spec.criterion,
        members=spec.members,
        seed=context.seed + replicate,
        **evidence,
    )
    return {
        name: np.where(before[name][replicate], values, GONE) if name in before else values
        for name, values in scores.items()
    }


def _by_pattern(ratio: float | Mapping[str, float]) -> dict[str, float]:
    return dict(ratio) if isinstance(ratio, Mapping) else {"*": ratio}


def _choose(
    spec: PruningSpec, graph: Graph, scores: Scores, ratio: float | Mapping[str, float]
) -> Keep:
    how = {key: getattr(spec.prune, key) for key in ("scope", "round_to", "limit")}
    return structured.choose(graph, scores, ratio, **how)


def _to_target(spec: PruningSpec, graph: Graph, scores: Scores, example: Any) -> float:
    """Returns the ratio that the target of the config needs."""
    assert spec.prune.budget.chosen is not None
    name, target = spec.prune.budget.chosen
    zeros = trees.zeros(graph.shapes)

    def cost(keep: Keep) -> float:
        network, small = structured.narrow(graph, zeros, keep)
        if name == "multiply_adds":
            return multiply_adds(network.apply, small, example)
        if name == "parameters":
            return trees.count(small["params"])
        times = latency.milliseconds(graph.model, network, small, example)
        return times[str(latency.BATCHES[0])][1]

    if name != "milliseconds" and target < 1:
        target *= cost({})
    how = {key: getattr(spec.prune, key) for key in ("scope", "round_to", "limit")}
    return structured.to_target(graph, scores, cost, target, **how)[1]


def _shuffled(graph: Graph, keep: Keep, seed: int) -> Keep:
    """Returns as many units of each group, drawn at random."""
    rng = np.random.default_rng([seed, 1])
    return {group.name: rng.permuted(keep[group.name], axis=-1) for group in graph.groups}


def _times_as_long(experiment: Experiment, network: Narrowed) -> float:
    """Returns the original's multiply-adds over a network's, or the most that the config allows."""
    example, graph = experiment.context.dataset.example, experiment.graph
    small = structured.cut(graph, trees.zeros(graph.shapes), _of_first(network.keep))
    costs = [
        multiply_adds(graph.model.apply, graph.shapes, example),
        multiply_adds(network.apply, small, example),
    ]
    most = experiment.spec.branches.scratch_b_at_most
    return min(costs[0] / costs[1], most or math.inf)


def _of_first(keep: Keep) -> Keep:
    """Returns what the first replicate keeps."""
    return {name: units[0] if units.ndim == 2 else units for name, units in keep.items()}
