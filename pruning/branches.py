"""Controls beside each pruned network: what its units, or their weights, are worth."""

# R replicates, U units of a group

import dataclasses
import math

import jax
import numpy as np

from groundwork.traced.macs import multiply_adds
from groundwork.train import optim
from groundwork.trees import Variables
from pruning import structured
from pruning.fit import Experiment, Phase, compensated, fitted
from pruning.spec import Point, unit_name
from pruning.structured import Graph, Keep, Narrowed


def make_random_units(
    experiment: Experiment, point: Point, keep: Keep, variables: Variables
) -> None:
    """Fine-tunes a network that keeps as many units as the pruned one, but others.

    Args:
      experiment: the run and its network.
      point: how much went.
      keep: which units the pruned network has.
      variables: [R, …] of the original, on the host.
    """
    others = _shuffled(experiment.graph, keep, experiment.context.seed)
    network, small = structured.narrow(
        experiment.graph, compensated(experiment, variables, others), others
    )
    fitted(experiment, unit_name("random_units", point), network, small, experiment.tuning)


def make_scratch(experiment: Experiment, branch: str, point: Point, keep: Keep) -> None:
    """Trains new weights of a pruned network's shape.

    Source: Liu et al., arXiv:1810.05270: Scratch-E trains for as many steps as the original,
    Scratch-B for as many multiply-adds, with its drops of the rate at the same shares of them.
    Departs: what fine-tuning costs is not added.

    Args:
      experiment: the run and its network.
      branch: `scratch_e` or `scratch_b`.
      point: how much went.
      keep: which units the pruned network has.
    """
    spec = experiment.spec
    network = Narrowed(graph=experiment.graph, keep=keep)
    steps, optimizer = spec.train, spec.optimizer
    if branch == "scratch_b":
        times = _times_as_long(experiment, network)
        optimizer, count = optim.stretched(optimizer, steps.steps, times)
        steps = dataclasses.replace(steps, steps=count)
    start = structured.renewed(experiment.graph, experiment.fresh, keep)
    fitted(experiment, unit_name(branch, point), network, start, Phase(steps, optimizer))


def _shuffled(graph: Graph, keep: Keep, seed: int) -> Keep:
    """Returns as many units of each group, drawn at random."""
    rng = np.random.default_rng([seed, 1])
    return {group.name: rng.permuted(keep[group.name], axis=-1) for group in graph.groups}


def _times_as_long(experiment: Experiment, network: Narrowed) -> float:
    """Returns the original's multiply-adds over a network's, or the most that the config allows."""
    example, graph = experiment.context.dataset.example, experiment.graph
    first = {name: units[0] for name, units in network.keep.items()}
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), graph.shapes)
    small = structured.cut(graph, zeros, first)
    costs = [
        multiply_adds(graph.model.apply, graph.shapes, example),
        multiply_adds(network.apply, small, example),
    ]
    most = experiment.spec.branches.scratch_b_at_most
    return min(costs[0] / costs[1], most or math.inf)
