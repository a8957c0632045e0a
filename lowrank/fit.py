"""One network of a run: its programs, its training, what is measured of it."""

# R replicates

from typing import Any

import jax
import jax.numpy as jnp

from groundwork import architectures
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.runs.run import Unit
from groundwork.sections import TrainSpec
from groundwork.traced.macs import multiply_adds
from groundwork.train import latency, networks, optim, programs, replicates
from groundwork.train.optim import OptimizerSpec
from groundwork.train.programs import Programs
from groundwork.train.step import LossFn, Model, TrainState, make_loss
from lowrank import factorization
from lowrank.factorization import Plan
from lowrank.setup import Experiment


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


def compile_programs(
    experiment: Experiment,
    network: Model,
    steps: TrainSpec,
    optimizer: OptimizerSpec,
    loss: LossFn | None = None,
) -> Programs:
    """Compiled programs of a network: the cross-entropy's, or another loss's."""
    return programs.make(
        network,
        optim.make(optimizer, steps.steps),
        experiment.dataset,
        experiment.mesh,
        batch_size=steps.batch_size,
        stride=experiment.spec.checkpoint.poll_steps,
        loss=loss,
    )


def train(
    experiment: Experiment,
    compiled: Programs,
    unit: Unit,
    steps: TrainSpec,
    optimizer_spec: OptimizerSpec,
    variables: Any,
) -> Any:
    """The variables after training from `variables`; goes on where the unit stood."""
    optimizer = optim.make(optimizer_spec, steps.steps)

    def begin(step, key, variables):
        return TrainState(step, key, variables, optimizer.init(variables["params"]))

    zero = networks.at_step_zero(experiment)
    state = replicates.each_replicate(experiment.mesh, begin)(zero, experiment.roots, variables)
    return networks.train(experiment, compiled, unit, steps.steps, state)


def measure(
    experiment: Experiment, network: Model, compiled: Programs, variables: Any
) -> dict[str, Any]:
    """Accuracies [R] by split, parameters, multiply-adds; latency beside the original's."""
    one = jax.tree.map(lambda leaf: leaf[0], mesh_lib.fetch(variables))
    example = jax.ShapeDtypeStruct((1, *experiment.dataset.shape), jnp.float32)
    return {
        **networks.accuracies(experiment, compiled, variables),
        "parameters": architectures.count(one["params"]),
        "macs": multiply_adds(network.apply, one, example),
        "milliseconds": processes.on_first(
            latency.milliseconds, experiment.model, network, one, experiment.dataset.shape
        ),
    }
