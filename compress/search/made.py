"""The record that all parts of a search share."""

import dataclasses

from compress.made import Made
from compress.search.analytic import Knowledge
from compress.search.candidate import Bench
from compress.search.clocks import Clock
from compress.search.options import Space
from compress.search.spec import SearchSpec
from groundwork.context import Context
from groundwork.metric import Metric
from groundwork.sections import TrainSpec


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """A run.

    Attributes:
      spec: of the command.
      bench: what all candidates share.
      original: the network that they are made of.
      reference: the original's mean on validation.
      metric: by which networks are judged.
      space: of all choices.
      clock: measures milliseconds; None if they are not asked for.
      knowledge: sensitivities and costs of single layers; None unless `spec.knows`.
    """

    spec: SearchSpec
    bench: Bench
    original: Made
    reference: float
    metric: Metric
    space: Space
    clock: Clock | None
    knowledge: Knowledge | None

    @property
    def context(self) -> Context:
        """Of the run."""
        return self.bench.pipeline.context

    @property
    def steps(self) -> TrainSpec:
        """Of a round."""
        return TrainSpec(self.spec.search.steps, self.spec.compress.fine_tune.batch_size)
