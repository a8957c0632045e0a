"""The networks of a run: how they are made smaller, trained, measured and saved."""

# R replicates

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.architectures.own.network import in_training
from groundwork.context import Context
from groundwork.data import dataset as data_lib
from groundwork.devices import mesh as mesh_lib
from groundwork.traced.digest import digest
from groundwork.train import fitting, networks
from groundwork.train.fitting import Steps
from groundwork.train.losses import Loss
from groundwork.train.optim import OptimizerSpec
from groundwork.train.programs import Programs
from groundwork.train.step import LossFn
from groundwork.trees import Variables
from pruning import structured
from pruning.spec import PruningSpec
from pruning.structured import Graph, Keep

COMPENSATIONS = {"least_squares": structured.least_squares, "merge": structured.merge}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run, and the network whose units go.

    Attributes:
      context: of the run.
      spec: of the command.
      model: the original network.
      graph: its groups of units.
      loss: of the run.
      shared: what networks that compute the same have in common, of the last one.
      told: what was said already.
    """

    context: Context
    spec: PruningSpec
    model: Any
    graph: Graph
    loss: Loss
    shared: list["Shared"] = dataclasses.field(default_factory=list)
    told: set[str] = dataclasses.field(default_factory=set)

    @functools.cached_property
    def initial(self) -> Variables:
        """The variables [R, …] of the original before any training, on the host."""
        return mesh_lib.fetch(networks.initial(self.context, self.model))

    @functools.cached_property
    def fresh(self) -> Variables:
        """Likewise, but others, which nothing else starts from."""
        return mesh_lib.fetch(networks.initial(self.context, self.model, "scratch"))

    @property
    def tuning(self) -> "Phase":
        """The training after units are gone."""
        return Phase(self.spec.fine_tune, self.spec.fine_tune_optimizer)


class Phase(NamedTuple):
    """A training."""

    steps: Steps
    optimizer: OptimizerSpec
    loss: LossFn | None = None  # that is trained, if it is not the run's
    given: bool = False  # whether there is no training: the network has it behind it


class Shared(NamedTuple):
    """What networks that compute the same have in common; it is filled when it is needed first."""

    network: Any  # the first of them
    shapes: Any  # of the variables of one replicate
    programs: dict[Any, Programs]
    costs: dict[str, Any]  # see `fitting.costs`


def fitted(
    experiment: Experiment, name: str, network: Any, variables: Variables, phase: Phase
) -> None:
    """Evaluates a network, trains it, evaluates it again, and saves it as a unit.

    A network that is given trained is evaluated and saved.

    Args:
      experiment: the run.
      name: of the unit.
      network: with `init` and `apply`.
      variables: [R, …] that its training starts from.
      phase: the training.
    """
    context = experiment.context
    unit = context.run.unit(name)
    shared = shared_with_equals(experiment, network, variables)
    compiled = compile_programs(experiment, shared, network, phase)
    start = context.put(variables)
    before = networks.accuracies(context, compiled, start)
    if phase.given:
        context.reporter.begin(name, 0, 1)
        end, measured = start, before
    else:
        end = fitting.train(context, compiled, unit, phase.steps, phase.optimizer, start)
        measured = networks.accuracies(context, compiled, end)
    judged = compiled.judge(end)
    if not shared.costs:
        shared.costs.update(fitting.costs(context, experiment.model, network, end))
    about = {**measured, **judged.metadata, **shared.costs, "before": before}
    about["steps"] = 0 if phase.given else phase.steps.steps
    unit.finish({"variables": end, **judged.tree}, about)
    change = f"{np.mean(before['test']):.4f} → {np.mean(measured['test']):.4f}"
    words = f"test {experiment.loss.metric.words} {change}{judged.words}"
    context.reporter.end(f"{shared.costs['macs']:,} multiply-adds, {words}")


def shared_with_equals(experiment: Experiment, network: Any, variables: Variables) -> Shared:
    """Returns what a network shares with the one before it, if the two compute the same.

    A pruned network and its controls mostly do: other units make another program only where the
    network treats units by their place. So they are compiled and timed once.

    Args:
      experiment: the run.
      network: with `init` and `apply`.
      variables: [R, …] of the network.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), variables)
    if experiment.shared:
        (last,) = experiment.shared
        inputs = experiment.context.dataset.example
        if last.network == network or (
            last.shapes == shapes
            and _digest(last.network, shapes, inputs) == _digest(network, shapes, inputs)
        ):
            return last
    experiment.shared[:] = [Shared(network, shapes, {}, {})]
    return experiment.shared[0]


def _digest(network: Any, shapes: Any, example: Any) -> str:
    """Returns a digest of what a network computes in training and in evaluation."""
    two = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), example)

    def computed(variables: Variables, inputs: Any, key: jax.Array) -> Any:
        trained = in_training(network)(variables, inputs, key)
        return trained, network.apply(variables, inputs, train=False)

    return digest(computed, shapes, two, jax.eval_shape(lambda: jax.random.key(0)))


def compile_programs(
    experiment: Experiment, shared: Shared, network: Any, phase: Phase
) -> Programs:
    """Returns the compiled programs of a network, which may be those of an equal one."""
    steps, optimizer, loss, _ = phase
    length = steps.steps if optimizer.schedule == "cosine" else None  # else it changes nothing
    key = (steps.batch_size, length, dataclasses.astuple(optimizer), loss)
    if key not in shared.programs:
        made = fitting.compile_programs(
            experiment.context, network, steps, optimizer, loss, experiment.loss
        )
        for other in shared.programs.values():
            made = made._replace(evaluate=other.evaluate, judge=other.judge)
        shared.programs[key] = made
    return shared.programs[key]


def compensated(experiment: Experiment, variables: Variables, keep: Keep) -> Variables:
    """Returns variables [R, …] whose layers make up for what goes, and says which cannot.

    Without `prune.compensate`, they are as they were.
    """
    if experiment.spec.prune.compensate == "none":
        return variables
    made, missed = made_up(experiment, variables, keep)
    for path, why in missed.items():
        if (line := f"{path} is not compensated: {why}") not in experiment.told:
            experiment.context.reporter.say(line)
            experiment.told.add(line)
    return made


def made_up(
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
