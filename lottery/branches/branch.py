"""The definition of a control, and a function that several of them use."""

import dataclasses
from collections.abc import Callable

import jax

from groundwork import keys
from groundwork.train.step import TrainState
from groundwork.trees import Variables
from lottery.tickets import Levels, Network, Start, Ticket


@dataclasses.dataclass(frozen=True, kw_only=True)
class Branch:
    """A control.

    Attributes:
      start: levels, level, ticket, state at the rewind step → the start of its training.
      colour: of its line in figures of one run.
      linestyle: of its lines in figures of several runs.
      marker: of its points in figures of several runs.
    """

    start: Callable[[Levels, int, Ticket, TrainState], Start]
    colour: str
    linestyle: str
    marker: str


def fresh(levels: Levels, network: Network, branch: str, level: int) -> Variables:
    """Returns new variables, drawn from random numbers that nothing else uses."""
    roots = levels.context.roots
    drawn = jax.vmap(lambda root: jax.random.fold_in(keys.stream(root, branch), level))(roots)
    return network.programs.init(drawn)
