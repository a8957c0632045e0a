"""Errors along the path between two networks, of all replicates at once."""

# R replicates, P points of a path

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from groundwork import errors as errors_lib
from groundwork import trees
from groundwork.context import Context
from groundwork.data.dataset import Dataset, Split
from groundwork.devices import mesh as mesh_lib
from groundwork.metric import Metric
from groundwork.train import programs
from groundwork.train.losses import Counts, Loss
from groundwork.trees import Variables
from lottery import analysis, tickets
from lottery.stability.spec import StabilitySpec

MATCHED = "matched_"  # before a split's name: the second end's units in the nearest order


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Meter:
    """What measures a path.

    Attributes:
      context: of the run.
      section: of the config.
      network: whose variables lie on the path.
      loss: of the run.
    """

    context: Context
    section: StabilitySpec
    network: tickets.Network
    loss: Loss
    _matchers: list[Callable[..., Any]] = dataclasses.field(default_factory=list)

    def save(self, name: str, first: Variables, second: Variables, about: dict[str, Any]) -> None:
        """Saves, as a unit, split → errors [P, R] on a path; `about` is its metadata.

        Args:
          name: of the unit.
          first: variables [R, …] of one end.
          second: of the other.
          about: for the report.

        Raises:
          UserError: an error is not finite.
        """
        self.context.reporter.begin(name, 0, 1)
        first, second = mesh_lib.fetch((first, second))
        with errors_lib.about(name):
            errors = self._errors(first, second)
            if self.section.match:
                matched = self._errors(first, self._matched(first, second))
                errors |= {MATCHED + split: values for split, values in matched.items()}
        self.context.run.unit(name).finish(errors, about)
        worst = analysis.of_errors(errors["test"]).instability
        self.context.reporter.end(f"instability {np.mean(worst):.4f}")

    def _errors(self, first: Variables, second: Variables) -> dict[str, np.ndarray]:
        """Returns split → errors [P, R] between ends on the host."""
        metric = self.network.programs.metric

        def error(variables: Variables) -> np.ndarray:
            placed = self.context.put(variables)
            counts = [mesh_lib.fetch(count(placed)) for count in self._evaluations.values()]
            return np.stack([error_of(metric, one.means()[metric.name]) for one in counts])

        found = analysis.instability(error, first, second, self.section.points).errors
        return {split: found[:, place] for place, split in enumerate(self._evaluations)}

    def _matched(self, first: Variables, second: Variables) -> Variables:
        """Returns the second end with its units in the order that is nearest to the first's."""
        pairs = [
            [trees.replicate(end, number) for end in (first, second)]
            for number in range(self.context.replicates)
        ]
        if not self._matchers:
            example = self.context.dataset.example
            like = pairs[0][1]
            self._matchers.append(analysis.matcher(self.network.model, like, example=example))
        found = [self._matchers[0](*pair) for pair in pairs]
        nearest: Variables = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
        return nearest

    @functools.cached_property
    def _evaluations(self) -> dict[str, Callable[[Variables], Counts]]:
        """Split → what counts it. Training examples count if they are in memory."""
        compiled, dataset = self.network.programs, self.context.dataset
        found = {"test": lambda variables: compiled.evaluate(variables, "test")}
        if isinstance(dataset, Dataset):
            count = self.section.train_examples or dataset.examples["train"]
            part = Split(*jax.tree.map(lambda leaf: leaf[:count], tuple(dataset.train)))
            seen = programs.make(
                self.network.model,
                optax.identity(),  # nothing is trained by these programs
                dataset._replace(test=part),
                self.context.mesh,
                batch_size=compiled.batch_size,
                objective=self.loss,
            )
            found["train"] = lambda variables: seen.evaluate(variables, "test")
        return found


def error_of(metric: Metric, values: np.ndarray) -> np.ndarray:
    """Returns a metric as an error, of which less is better: wrong answers for right ones."""
    return 1 - values if metric.is_share else -metric.sign * values
