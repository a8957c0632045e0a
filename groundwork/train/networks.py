"""What commands that train networks share: devices, states, training, measurements."""

# R replicates

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from groundwork import keys, trees
from groundwork.context import Context
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError
from groundwork.runs.unit import Unit
from groundwork.train import loop, replicates
from groundwork.train.losses import CROSS_ENTROPY, Loss
from groundwork.train.programs import Programs
from groundwork.train.step import Batch, Model, TrainState
from groundwork.trees import Variables

SEEN_AT_ONCE = 128  # examples, by criteria

Begin = Callable[..., tuple[Variables, Any]]
"""(variables, …) of one replicate → the variables that training starts from, and its opt_state."""


def mesh_for(
    spec: MeshSpec, replicates: int, batch_sizes: Mapping[str, int], dataset: AnyDataset
) -> Mesh:
    """Returns a mesh of devices that share the batches of all sections evenly.

    Args:
      spec: the config's `mesh`.
      replicates: R.
      batch_sizes: section, such as `fine_tune` → its batch size.
      dataset: which has so many training examples, in memory or in files.

    Raises:
      UserError: a batch is larger than the training set, `mesh.data` does not divide it, or
        `mesh.make` refuses the sizes.
    """
    available = dataset.examples["train"]
    for name, size in batch_sizes.items():
        if size > available:
            raise UserError(
                f"{name}.batch_size={size} is more than the {available} training examples"
            )
        mesh_lib.check_size("mesh.data", spec.data or 1, f"{name}.batch_size", size)
    shared = math.gcd(*batch_sizes.values())
    streams = isinstance(dataset, FileDataset)
    return mesh_lib.make(replicates, shared, **dataclasses.asdict(spec), whole=streams)


def initial(context: Context, model: Model, stream: str = "init") -> Variables:
    """Returns the variables of R replicates before any training, drawn from a stream of keys."""
    example = trees.zeros(context.dataset.example)
    init = replicates.each_replicate(
        context.mesh, lambda root: model.init(keys.stream(root, stream), example), once=True
    )
    return init(context.roots)


def unmasked(optimizer: optax.GradientTransformation) -> Begin:
    """Returns the `Begin` of an optimiser that enforces no mask."""
    return lambda variables: (variables, optimizer.init(variables["params"]))


def make_start(context: Context, begin: Begin, once: bool = False) -> Callable[..., TrainState]:
    """Returns a function that makes the state of all replicates before their first step.

    Args:
      context: of the run.
      begin: see `Begin`; with a mask, `pruning.enforce.begin`.
      once: see `replicates.each_replicate`.

    Returns:
      (variables [R, …], …, step=0) → state. All arguments of `begin` are given in its order;
      `step` is a number, or [R].
    """

    def start(trees: Any, step: jax.Array, key: jax.Array) -> TrainState:
        variables, opt_state = begin(*trees)
        return TrainState(step, key, variables, opt_state)

    compiled = replicates.each_replicate(context.mesh, start, once=once)

    def started(*trees: Any, step: Any = 0) -> TrainState:
        if isinstance(step, int):
            step = context.put(np.full(context.replicates, step, np.int32))
        return compiled(trees, step, context.roots)

    return started


def train(
    context: Context,
    programs: Programs,
    unit: Unit,
    steps: int,
    state: TrainState,
    parameters: Sequence[int] | None = None,
    test: bool = True,
) -> Variables:
    """Returns the variables after training from `state`; a unit that had begun continues.

    Args:
      context: of the run.
      programs: of the network.
      unit: of the run.
      steps: at which the training ends.
      state: see `loop.train`.
      parameters: what its rows say that each replicate has; by default, all that are trained.
      test: see `loop.Job`.
    """
    params = jax.tree.leaves(state.variables["params"])
    all_of_them = sum(math.prod(leaf.shape[1:]) for leaf in params)
    fields = {"parameters": all_of_them if parameters is None else parameters}
    job = loop.Job(programs=programs, unit=unit, stop=steps, fields=fields, test=test)
    return loop.train(context, job, state)[0].variables


def accuracies(
    context: Context, programs: Programs, variables: Variables
) -> dict[str, list[float]]:
    """Returns split → accuracies [R], for the splits that the data set has.

    If the loss has another metric than the accuracy, they are its values.
    """
    measured = evaluated(context, programs, variables)
    return {split: means[programs.metric.name] for split, means in measured.items()}


def evaluated(
    context: Context,
    programs: Programs,
    variables: Variables,
    splits: Sequence[str] = ("validation", "test"),
) -> dict[str, dict[str, list[float]]]:
    """Returns split → the loss and each measure by name, [R], for those splits that there are."""
    by_split = {}
    for split in splits:
        if context.dataset.examples[split]:
            counts = mesh_lib.fetch(programs.evaluate(variables, split))
            by_split[split] = {name: mean.tolist() for name, mean in counts.means().items()}
    return by_split


def evidence(
    context: Context,
    model: Model,
    count: int,
    loss: Loss = CROSS_ENTROPY,
    batch_size: int = SEEN_AT_ONCE,
) -> dict[str, Any]:
    """Returns `seen` of the data set of a run."""
    return seen(context.dataset, model, count, loss, batch_size)


def check_examples(key: str, count: int, dataset: AnyDataset) -> None:
    """Refuses to look at more training examples than there are; `key` is that of the config.

    Raises:
      UserError: there are fewer.
    """
    if count > (available := dataset.examples["train"]):
        raise UserError(f"{key}={count} is more than the {available} training examples")


def seen(
    dataset: AnyDataset,
    model: Model,
    count: int,
    loss: Loss = CROSS_ENTROPY,
    batch_size: int = SEEN_AT_ONCE,
) -> dict[str, Any]:
    """Returns what criteria see of a network, as arguments of `make_pruner`.

    These are `loss` (variables, examples) and `output_loss` (outputs, examples), both means over
    all examples if those of batches are weighted by their sizes; `apply` (variables, examples) →
    outputs; `examples`, and `batch_size`.

    Args:
      dataset: of the run.
      model: the network that is meant, in evaluation: batch statistics are those of the training.
      count: the number of training examples, the first ones; with 0, the result is empty.
      loss: the loss of the run.
      batch_size: the number of examples that are looked at at once.

    Raises:
      UserError: the examples are not in memory.
    """
    if not count:
        return {}
    inputs, labels = data_lib.first_examples(dataset, count)
    valid = jnp.ones(len(jax.tree.leaves(labels)[0]), bool)
    examples = Batch(inputs, labels, valid)

    def apply(variables: Variables, batch: Batch) -> Any:
        return model.apply(variables, batch.inputs, train=False)

    each = _counted_in_each(loss, dataset, model, examples) if loss.uneven else None

    def output_loss(outputs: Any, batch: Batch) -> jax.Array:
        counts = loss.count(outputs, batch.labels, batch.valid)
        counted = counts.examples if each is None else len(batch.valid) * each
        return counts.loss / counted

    return {
        "loss": lambda variables, batch: output_loss(apply(variables, batch), batch),
        "output_loss": output_loss,
        "apply": apply,
        "examples": examples,
        "batch_size": batch_size,
    }


def _counted_in_each(loss: Loss, dataset: AnyDataset, model: Model, examples: Batch) -> float:
    """Returns how many tokens count in an example, the mean; it depends on the targets alone."""
    key, example = jax.random.key(0), dataset.example
    variables = jax.eval_shape(lambda: model.init(key, trees.zeros(example)))
    size, counted = len(examples.valid), 0.0

    def part(first: int) -> Batch:
        return jax.tree.map(lambda leaf: leaf[first : first + SEEN_AT_ONCE], examples)

    for batch in map(part, range(0, size, SEEN_AT_ONCE)):
        outputs = jax.eval_shape(
            lambda v, x: model.apply(v, x, train=False), variables, batch.inputs
        )
        counts = loss.count(trees.zeros(outputs), batch.labels, batch.valid)
        counted += float(counts.examples)
    return counted / size
