"""One network of a run: its programs, training and measurements."""

# R replicates

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from groundwork import architectures, trees
from groundwork.context import Context
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.runs.unit import Unit
from groundwork.sections import TrainSpec
from groundwork.traced.macs import multiply_adds
from groundwork.train import latency, networks, optim, programs
from groundwork.train.losses import CROSS_ENTROPY, Loss
from groundwork.train.optim import OptimizerSpec
from groundwork.train.programs import Programs
from groundwork.train.step import Batch, LossFn, Model, make_loss
from groundwork.trees import Variables
from lowrank import factorization
from lowrank.factorization import Layers, Plan
from lowrank.spec import LowRankSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run, and the network that it decomposes.

    Attributes:
      context: of the run.
      spec: of the command.
      model: the original network.
      layers: of it, that are decomposed or predicted.
      loss: of the run.
    """

    context: Context
    spec: LowRankSpec
    model: Any
    layers: Layers
    loss: Loss = CROSS_ENTROPY


def make_objective(network: Model, plan: Plan, decay: float, loss: Loss = CROSS_ENTROPY) -> LossFn:
    """Returns the loss plus `decay` / 2 times the squared norms of reassembled kernels.

    So the weights that the factors make up decay, and not the factors.
    Source: Khodak et al., arXiv:2105.01029 (Frobenius decay).
    """
    loss_fn = make_loss(network, loss)
    if not decay:
        return loss_fn

    def with_decay(key: jax.Array, variables: Variables, batch: Batch) -> tuple[jax.Array, Any]:
        mean, aux = loss_fn(key, variables, batch)
        kernels = [factorization.reconstruct(variables, *layer) for layer in plan.items()]
        squares = sum(jnp.sum(jnp.square(kernel)) for kernel in kernels)
        return mean + decay / 2 * squares, aux

    return with_decay


def compile_programs(
    context: Context,
    network: Model,
    steps: TrainSpec,
    optimizer: OptimizerSpec,
    loss: LossFn | None = None,
    objective: Loss = CROSS_ENTROPY,
) -> Programs:
    """Returns the compiled programs of a network, for the run's objective or another loss."""
    return programs.make(
        network,
        optim.make(optimizer, steps.steps),
        context.dataset,
        context.mesh,
        batch_size=steps.batch_size,
        stride=context.poll_steps,
        loss=loss,
        objective=objective,
    )


def train(
    context: Context,
    compiled: Programs,
    unit: Unit,
    steps: TrainSpec,
    optimizer: OptimizerSpec,
    variables: Variables,
) -> Variables:
    """Returns the variables after training from `variables`; a unit that had begun continues."""
    begin = networks.unmasked(optim.make(optimizer, steps.steps))
    state = networks.make_start(context, begin)(variables)
    return networks.train(context, compiled, unit, steps.steps, state)


def measure(
    context: Context, original: Model, network: Model, compiled: Programs, variables: Variables
) -> dict[str, Any]:
    """Returns accuracies [R] by split, parameters, multiply-adds, and times of predictions."""
    one = trees.replicate(mesh_lib.fetch(variables), 0)
    example = context.dataset.example
    return {
        **networks.accuracies(context, compiled, variables),
        "parameters": architectures.count(one["params"]),
        "macs": multiply_adds(network.apply, one, example),
        "milliseconds": processes.on_first(latency.milliseconds, original, network, one, example),
    }
