"""What engines answer on the test split, beside what JAX answers."""

# N examples, B batch, K results of a network

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deploy.measure import Answered
from groundwork.train.losses import Loss

FAR = {"float": 0.02, "int8": 0.5}  # errors beyond what rounding explains, bfloat16's included
BATCH = 128  # of JAX's own answers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """How an engine's outputs of the test split are.

    Attributes:
      engine: its name.
      kind: `float` or `int8`.
      values: of the run's metric, one for each exit, of the last one if there are none; all of the
        engine's own outputs.
      agreement: the share of examples for which it names the class that JAX names; None if outputs
        are no classes.
      error: the largest difference from JAX's outputs, relative to the largest of these.
      operations: name, operation and precision of what the engine computes; None if it does not
        tell.
      failure: why there is nothing, or no operations.
    """

    engine: str
    kind: str
    values: tuple[float, ...] = ()
    agreement: float | None = None
    error: float | None = None
    operations: list[tuple[str, str, str]] | None = None
    failure: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """The test split, JAX's outputs of it, and the loss.

    Attributes:
      loss: of the run.
      classes: whether outputs are logits of classes.
      labels: [N, …].
      structure: of the outputs.
      reference: JAX's, K arrays [N, …].
    """

    loss: Loss
    classes: bool
    labels: Any
    structure: Any
    reference: tuple[np.ndarray, ...]

    def answer(self, engine: str, kind: str, given: Answered) -> Answer:
        """Returns what is said of an engine's outputs."""
        outputs, failure = given.outputs, given.failure
        if outputs and [one.shape for one in outputs] != [one.shape for one in self.reference]:
            there, wanted = ([o.shape for o in each] for each in (outputs, self.reference))
            outputs, failure = (), f"it gives outputs of {there}, not {wanted}"
        found = Answer(engine=engine, kind=kind, operations=given.operations, failure=failure)
        if not outputs:
            return found
        same = None
        if self.classes:
            same = float(np.mean(outputs[-1].argmax(-1) == self.reference[-1].argmax(-1)))
        return dataclasses.replace(
            found,
            values=self.values(outputs),
            agreement=same,
            error=max(map(relative_error, outputs, self.reference)),
        )

    def values(self, outputs: Sequence[np.ndarray]) -> tuple[float, ...]:
        """Returns the metric of each exit; of the outputs as a whole if there are no exits."""
        several = self.classes and len(outputs) > 1
        trees = outputs if several else [jax.tree.unflatten(self.structure, outputs)]
        valid = jnp.ones(len(jax.tree.leaves(self.labels)[0]), bool)
        labels = jax.tree.map(jnp.asarray, self.labels)
        name = self.loss.metric.name
        counts = (self.loss.count(jax.tree.map(jnp.asarray, t), labels, valid) for t in trees)
        return tuple(float(one.means()[name]) for one in counts)


def relative_error(found: np.ndarray, reference: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest size in the reference."""
    largest = float(np.abs(reference).max(initial=0)) or 1.0
    return float(np.abs(np.asarray(found, np.float64) - reference).max(initial=0)) / largest


def difference(kind: str, found: Answered, last: Answered) -> str:
    """Returns what is wrong with outputs of the first examples beside those of all; "" if nothing.

    Args:
      kind: of both.
      found: with other threads, or of another batch.
      last: of the same engine, with at least as many examples.
    """
    pairs = list(zip(found.outputs, last.outputs, strict=False))
    if any(one.shape[1:] != other.shape[1:] for one, other in pairs):
        return "its outputs have other shapes than those of the last calls"
    error = max((relative_error(one, other[: len(one)]) for one, other in pairs), default=0.0)
    if error <= FAR[kind]:
        return ""
    return f"its outputs are not those that it gives in the last calls (error {error:.1e})"


def of_jax(
    apply: Callable[..., Any], variables: Any, inputs: Any
) -> tuple[tuple[np.ndarray, ...], Any]:
    """Returns JAX's outputs of all inputs, K arrays [N, …], and their structure.

    Args:
      apply: (variables, inputs) → outputs.
      variables: of the network.
      inputs: [N, …], an array or a tree of them.
    """
    compiled = jax.jit(apply)
    count = len(jax.tree.leaves(inputs)[0])
    batch, found, structure = min(BATCH, count), [], None
    for start in range(0, count, batch):
        places = np.arange(start, start + batch) % count
        outputs = compiled(variables, jax.tree.map(lambda a, at=places: a[at], inputs))
        leaves, structure = jax.tree.flatten(outputs)
        found.append([np.asarray(leaf) for leaf in leaves])
    return tuple(np.concatenate(part)[:count] for part in zip(*found, strict=True)), structure
