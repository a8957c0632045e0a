"""Which units are kept: by a ratio, by what a target allows, or by what the accuracy allows."""

# R replicates, U units of a group

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.devices import processes
from groundwork.errors import about
from groundwork.traced.macs import multiply_adds
from groundwork.train import latency, networks
from groundwork.trees import Variables
from pruning import structured
from pruning.fit import Experiment, compile_programs, made_up, shared_with_equals
from pruning.spec import Point, PruningSpec, plan_name
from pruning.structured import LOOKS, Graph, Keep, Scores

GONE = -1.0  # the score of a unit that went before; all others are at least 0


def groups(spec: PruningSpec, model: Any, shapes: Any, example: Any) -> Graph:
    """Returns the groups of a network, once it is known that the config's settings fit them.

    Args:
      spec: of the command.
      model: the network.
      shapes: of its variables.
      example: see `architectures.shapes`.

    Raises:
      UserError: nothing can be removed, or a key of the config cannot be met.
    """
    with about("prune.ignored"):
        graph = structured.groups(
            model, shapes, example, ignored=spec.prune.ignored, split=spec.prune.split
        )
    with about("prune.criterion"):
        structured.check_criterion(graph, spec.prune.criterion, example)
    alike = {group.name: np.arange(group.units, dtype=float) for group in graph.groups}
    for point in spec.prune.points:
        if point.ratio is not None:
            with about("prune.ratio"):
                _choose(spec, graph, alike, point.ratio)
    if (target := spec.prune.budget.chosen) and target[0] != "milliseconds":
        with about(f"prune.target.{target[0]}"):
            _to_target(spec, graph, alike, example)
    return graph


def make_plan(experiment: Experiment, point: Point, iteration: int, variables: Variables) -> None:
    """Makes the unit that says which units an iteration keeps.

    Args:
      experiment: the run and its network.
      point: how much goes in the end.
      iteration: from 1.
      variables: [R, …] that are judged, at full size, on the host.
    """
    graph, context = experiment.graph, experiment.context
    unit = context.run.unit(f"{plan_name(point)}/{iteration}")
    context.reporter.begin(unit.name, 0, 1)
    before = plan(experiment, point, iteration - 1) if iteration > 1 else {}
    scores = [
        _scores(experiment, jax.tree.map(jnp.asarray, trees.replicate(variables, r)), before, r)
        for r in range(context.replicates)
    ]
    ratio = _ratio(experiment, point, scores, variables)
    share = iteration / experiment.spec.prune.iterations
    gone = {name: 1 - (1 - r) ** share for name, r in _by_pattern(ratio).items()}
    keep = _lowest_of_each(experiment.spec, graph, scores, gone)
    for name, still in before.items():  # a target that is measured again may need fewer
        keep[name] = keep[name] & still
    unit.finish(keep, {"ratio": ratio, "coupling": structured.coupling(graph)})
    left, units = sum(int(k[0].sum()) for k in keep.values()), sum(g.units for g in graph.groups)
    context.reporter.end(f"{left} of {units} units kept")


def plan(experiment: Experiment, point: Point, iteration: int) -> Keep:
    """Returns group → [R, U] bool, the units that an iteration keeps."""
    tree = experiment.context.run.unit(f"{plan_name(point)}/{iteration}").result()[0]
    return {name: np.asarray(keep, bool) for name, keep in tree.items()}


def _ratio(
    experiment: Experiment, point: Point, scores: Sequence[Scores], variables: Variables
) -> float | Mapping[str, float]:
    """Returns the ratio that the config gives, or that its target or its accuracy needs."""
    spec = experiment.spec
    if point.ratio is not None:
        return point.ratio
    if spec.prune.keep_accuracy:
        return _keeping_accuracy(experiment, scores, variables)
    example = experiment.context.dataset.example
    with about("prune.target"):
        ranked = _ranked(experiment.graph, scores)
        return processes.on_first(_to_target, spec, experiment.graph, ranked, example)


def _ranked(graph: Graph, scores: Sequence[Scores]) -> Scores:
    """Returns group → [U], of each rank the mean score over replicates."""
    return {
        group.name: np.mean([np.sort(one[group.name]) for one in scores], axis=0)
        for group in graph.groups
    }


def _lowest_of_each(
    spec: PruningSpec, graph: Graph, scores: Sequence[Scores], ratio: Any
) -> dict[str, np.ndarray]:
    """Returns group → [R, U] bool: as many as the mean tells, of each replicate its own lowest."""
    chosen = _choose(spec, graph, _ranked(graph, scores), ratio)
    counts = {name: int((~kept).sum()) for name, kept in chosen.items()}
    return {
        name: np.stack([structured.lowest_go(one[name], count) for one in scores])
        for name, count in counts.items()
    }


def _keeping_accuracy(
    experiment: Experiment, scores: Sequence[Scores], variables: Variables
) -> float:
    """Returns the largest ratio that bisection finds to lose no more than the config allows.

    What is lost is the mean over replicates on the validation split, before fine-tuning and after
    compensation, of networks with zeros in place of the units.
    """
    spec, graph, context = experiment.spec, experiment.graph, experiment.context
    shared = shared_with_equals(experiment, experiment.model, variables)
    compiled = compile_programs(experiment, shared, experiment.model, experiment.tuning)

    def validated(variables: Variables) -> float:
        found = networks.accuracies(context, compiled, context.put(variables))
        return experiment.loss.metric.sign * float(np.mean(found["validation"]))

    least = validated(context.run.unit("original").result()[0]["variables"])
    least -= spec.prune.keep_accuracy
    low, high = 0.0, 1.0
    while high - low > 0.5 / sum(group.units for group in graph.groups):
        middle = (low + high) / 2
        keep = _lowest_of_each(spec, graph, scores, middle)
        if spec.prune.compensate != "none":
            without = made_up(experiment, variables, keep)[0]
        else:
            without = structured.mask(graph, variables, keep)
        low, high = (middle, high) if validated(without) >= least else (low, middle)
    return low


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
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), graph.shapes)

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
