"""The record that all parts of a search share."""

import dataclasses

from compress import work as networks_lib
from compress.made import Made
from compress.search import history
from compress.search import original as original_lib
from compress.search.analytic import Knowledge
from compress.search.board import Board
from compress.search.candidate import Bench, State
from compress.search.clocks import Clock
from compress.search.options import Space
from compress.search.original import Original
from compress.search.spec import SearchSpec
from compress.spec import TuneSpec
from groundwork.context import Context
from groundwork.metric import Metric
from groundwork.train import loss_spec


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
      board: where the run shares its units with others.
    """

    spec: SearchSpec
    bench: Bench
    original: Made
    reference: float
    metric: Metric
    space: Space
    clock: Clock | None
    knowledge: Knowledge | None
    board: Board

    @property
    def context(self) -> Context:
        """Of the run."""
        return self.bench.pipeline.context

    @property
    def steps(self) -> TuneSpec:
        """Of a round."""
        return TuneSpec(self.spec.search.steps, self.spec.compress.fine_tune.batch_size)

    def state(self, number: int) -> State:
        """Returns a candidate before its weights got codebooks; `ORIGINAL` is the original."""
        if number == history.ORIGINAL:
            inner = self.spec.compress
            return State(self.original, 0 if inner.source.path else inner.train.steps)
        tree, metadata = self.context.run.unit(history.name_of(number)).result()
        made = networks_lib.read_back(self.context, tree, metadata, self.bench.graph)
        return State(made, metadata["step"])

    def as_original(self, number: int) -> Original:
        """Returns a candidate whose layers are the original's own, to be looked at as that is."""
        made, dataset = self.state(number).made, self.context.dataset
        loss = loss_spec.build(self.spec.compress.loss, dataset.target)
        seed = self.spec.seed
        return original_lib.of(made.form, made.variables, made.mask, dataset, loss=loss, seed=seed)
