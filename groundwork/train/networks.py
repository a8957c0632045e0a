"""What commands that train several networks in a run share: start, train, evaluate."""

# R replicates

import math
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from groundwork import keys
from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.interruption import Interruption
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Unit
from groundwork.train import loop
from groundwork.train import replicates as mapping
from groundwork.train.programs import Programs
from groundwork.train.step import Model, TrainState


class Experiment(Protocol):
    """What is asked of a command's own."""

    @property
    def spec(self) -> Any:
        """Has `eval_every` and `checkpoint`."""

    @property
    def dataset(self) -> AnyDataset:
        """What is trained on."""

    @property
    def mesh(self) -> Mesh:
        """Devices."""

    @property
    def reporter(self) -> Reporter:
        """Says how it goes."""

    @property
    def interruption(self) -> Interruption:
        """Whether it is to stop."""

    @property
    def roots(self) -> jax.Array:
        """[R] keys."""


def mesh_for(
    spec: MeshSpec, replicates: int, batch_sizes: Mapping[str, int], examples: Mapping[str, int]
) -> Mesh:
    """Devices that share the batches of all sections evenly.

    Args:
      spec: the config's.
      replicates: R.
      batch_sizes: section, such as `fine_tune` → its batch size.
      examples: of each split.

    Raises:
      UserError: a batch is larger than the training set, or not to be divided as the spec says.
    """
    for name, size in batch_sizes.items():
        if size > examples["train"]:
            raise UserError(
                f"{name}.batch_size={size} is more than the {examples['train']} training examples"
            )
        if spec.data and size % spec.data:
            raise UserError(f"mesh.data={spec.data} does not divide {name}.batch_size={size}")
    return mesh_lib.for_run(spec, replicates, math.gcd(*batch_sizes.values()), examples)


def say_mesh(reporter: Reporter, mesh: Mesh) -> None:
    """Which devices are used, and how many are not."""
    idle = len(jax.devices()) - mesh.size
    reporter.say(f"mesh {dict(mesh.shape)}" + (f", {idle} devices idle" if idle else ""))


def initial(experiment: Experiment, model: Model) -> Any:
    """Variables of R replicates before any training."""
    example = jnp.zeros((1, *experiment.dataset.shape))
    init = mapping.each_replicate(
        experiment.mesh,
        lambda root: model.init(keys.stream(root, "init"), example),
        once=True,
    )
    return init(experiment.roots)


def at_step_zero(experiment: Experiment) -> jax.Array:
    """The step of states that begin, [R]."""
    zero = np.zeros(len(experiment.roots), np.int32)
    return mesh_lib.put(experiment.mesh, zero, mesh_lib.BY_REPLICATE)


def train(
    experiment: Experiment, compiled: Programs, unit: Unit, steps: int, state: TrainState
) -> Any:
    """The variables after so many steps from `state`; goes on where the unit stood."""
    spec = experiment.spec
    schedule = loop.Schedule(steps, spec.eval_every, spec.checkpoint.every_seconds)
    splits = loop.Splits(validation=experiment.dataset.examples["validation"] > 0, test=True)
    params = jax.tree.leaves(state.variables["params"])
    fields = {"parameters": sum(leaf[0].size for leaf in params)}
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


def accuracies(
    experiment: Experiment, compiled: Programs, variables: Any
) -> dict[str, list[float]]:
    """Split → accuracy [R], of the splits there are."""
    found = {}
    for split in ("validation", "test"):
        if experiment.dataset.examples[split]:
            counts = mesh_lib.fetch(compiled.evaluate(variables, split))
            found[split] = (counts.correct / counts.examples).tolist()
    return found
