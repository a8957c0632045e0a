"""The definition of a control, and a function that several of them use."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax

from groundwork import keys, trees
from groundwork.train.step import TrainState
from groundwork.trees import Variables
from lottery.tickets import Levels, Network, Start, Ticket, pruned, unit_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Branch:
    """A control.

    Attributes:
      start: levels, level, ticket, state at the rewind step → the start of its training.
      colour: of its line in figures of one run.
      linestyle: of its lines in figures of several runs.
      marker: of its points in figures of several runs.
      goes_on: whether it starts from its own level before, so that it is trained at every level.
      begins: the step from which it is trained: `rewind`, the ticket's, or `start`, 0; `unknown`
        where it trains longer than the ticket, by what the ticket has kept.
    """

    start: Callable[[Levels, int, Ticket, TrainState], Start]
    colour: str
    linestyle: Any
    marker: str
    goes_on: bool = False
    begins: Literal["rewind", "start", "unknown"] = "rewind"


def fresh(levels: Levels, network: Network, branch: str, level: int) -> Variables:
    """Returns new variables, drawn from random numbers that nothing else uses."""
    roots = levels.context.roots
    drawn = jax.vmap(lambda root: jax.random.fold_in(keys.stream(root, branch), level))(roots)
    return network.programs.init(drawn)


def continued(
    levels: Levels, network: Network, branch: str, level: int, point: TrainState
) -> Start:
    """Returns the start from what a branch itself has trained at the level before, pruned again.

    Level 1 goes on from the dense network. The mask is the branch's own: it is chosen by the
    weights at the end of the branch's level before.

    Args:
      levels: of the run.
      network: which is trained on.
      branch: the name of the branch.
      level: the level to train.
      point: the dense state at the rewind step.
    """
    unit = levels.context.run.unit(unit_name(level - 1, branch if level > 1 else "ticket"))
    like = network.ones(point.variables["params"]), point.variables, point.variables
    before = Ticket(*unit.result(like)[0])
    mask = pruned(levels, before.mask, before.trained, level)
    state = network.start(before.trained, mask, step=levels.rewind_step)
    return Start(network=network, mask=mask, state=state)


def with_weights(variables: Variables, weights: Mapping[str, jax.Array]) -> Variables:
    """Returns the variables with other arrays at some paths of the parameters."""
    params = trees.map_with_path(lambda path, leaf: weights.get(path, leaf), variables["params"])
    return {**variables, "params": params}
