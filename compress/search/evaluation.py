"""The loss of changed networks, by one compiled evaluation. Read `evaluation` and `increases`."""

# B examples

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.train.losses import Loss
from groundwork.trees import Variables


class Measured(NamedTuple):
    """The loss of a network, or by how much it grows; means over replicates and examples.

    Attributes:
      loss: the run's own; a cross-entropy is in nats.
      accuracy: the run's metric; or by how much it gets worse.
    """

    loss: float
    accuracy: float

    def __sub__(self, other: "Measured") -> "Measured":
        return Measured(self.loss - other.loss, self.accuracy - other.accuracy)


Evaluate = Callable[[Variables], Measured]


def evaluation(
    apply: Callable[..., Any], dataset: AnyDataset, examples: int, loss: Loss
) -> Callable[..., Measured]:
    """Returns (variables, …) of one replicate → its loss and metric, compiled once.

    Args:
      apply: (variables, inputs, …) → outputs.
      dataset: whose first training examples are taken.
      examples: their number.
      loss: of the run.

    Raises:
      UserError: the examples are not in memory.
    """
    inputs, targets = data_lib.first_examples(dataset, examples)
    valid = jnp.ones(len(jax.tree.leaves(targets)[0]), bool)

    @jax.jit
    def means(variables: Variables, more: Any, inputs: Any, targets: Any) -> tuple[Any, Any]:
        outputs = apply(variables, inputs, *more, train=False)
        found = loss.count(outputs, targets, valid).means()
        return found["loss"], found[loss.metric.name]

    def evaluate(variables: Variables, *more: Any) -> Measured:
        return Measured(*map(float, means(variables, more, inputs, targets)))

    return evaluate


def increases(
    evaluate: Evaluate,
    replicates: Sequence[Any],
    changes: Mapping[Any, Callable[[Any], Variables]],
    plain: Measured,
) -> dict[Any, Measured]:
    """Returns for each change by how much the loss and the metric grow, means over replicates.

    Args:
      evaluate: variables of one replicate → its loss and metric.
      replicates: whatever the changes take.
      changes: each makes the variables of one replicate; they are made one after the other.
      plain: the mean of the network as it is.
    """
    return {
        name: mean(evaluate(make(one)) for one in replicates) - plain
        for name, make in changes.items()
    }


def mean(measured: Iterable[Measured]) -> Measured:
    """Returns the mean over replicates."""
    losses, accuracies = zip(*measured, strict=True)
    return Measured(float(np.mean(losses)), float(np.mean(accuracies)))
