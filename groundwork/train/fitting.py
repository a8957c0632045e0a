"""A network of a run that others are compared with: its programs, training and measurements."""

# R replicates

from typing import Any, Protocol

from groundwork import architectures, trees
from groundwork.context import Context
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.runs.unit import Unit
from groundwork.traced.macs import multiply_adds
from groundwork.train import latency, networks, optim, programs
from groundwork.train.losses import CROSS_ENTROPY, Loss
from groundwork.train.optim import OptimizerSpec
from groundwork.train.programs import Programs
from groundwork.train.step import LossFn, Model
from groundwork.trees import Variables


class Steps(Protocol):
    """How long a network is trained: a section such as `train` or `fine_tune`."""

    @property
    def steps(self) -> int:
        """Updates of a network."""

    @property
    def batch_size(self) -> int:
        """Examples of a step."""


def compile_programs(
    context: Context,
    network: Model,
    steps: Steps,
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
    steps: Steps,
    optimizer: OptimizerSpec,
    variables: Variables,
) -> Variables:
    """Returns the variables after training from `variables`; a unit that had begun continues."""
    begin = networks.unmasked(optim.make(optimizer, steps.steps))
    state = networks.make_start(context, begin, once=True)(variables)
    return networks.train(context, compiled, unit, steps.steps, state)


def measure(
    context: Context, original: Model, network: Model, compiled: Programs, variables: Variables
) -> dict[str, Any]:
    """Returns accuracies [R] by split, and the `costs`."""
    accuracies = networks.accuracies(context, compiled, variables)
    return {**accuracies, **costs(context, original, network, variables)}


def costs(
    context: Context, original: Model, network: Model, variables: Variables
) -> dict[str, Any]:
    """Returns parameters, multiply-adds, and times of predictions beside the original's."""
    one = trees.replicate(mesh_lib.fetch(variables), 0)
    example = context.dataset.example
    return {
        "parameters": architectures.count(one["params"]),
        "macs": multiply_adds(network.apply, one, example),
        "milliseconds": processes.on_first(latency.milliseconds, original, network, one, example),
    }
