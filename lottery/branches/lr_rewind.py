"""Repeats the learning rate's schedule from the rewind step, from weights that are not rewound.

Source: Renda et al., arXiv:2003.02389, "learning rate rewinding", iterated. The branch prunes its
own weights: each level goes on from what it has itself trained at the level before, under a mask of
its own, for as many steps as a ticket. Departs: the optimiser's moments begin anew at each level.
Under a constant learning rate it is `finetune`.
"""

from groundwork.train.step import TrainState
from lottery.branches.branch import Branch, continued
from lottery.tickets import Levels, Start, Ticket


def start(levels: Levels, level: int, ticket: Ticket, point: TrainState) -> Start:
    """See `Branch`."""
    return continued(levels, levels.network, "lr_rewind", level, point)


BRANCH = Branch(
    start=start, colour="#17a2a8", linestyle=(0, (3, 1, 1, 1)), marker="P", goes_on=True
)
