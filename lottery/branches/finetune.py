"""Trains on at the last step's learning rate, from weights that are never rewound.

Source: Renda et al., arXiv:2003.02389, "fine-tuning", iterated. The branch prunes its own weights:
each level goes on from what it has itself trained at the level before, under a mask of its own,
for as many steps as a ticket. Departs: the optimiser's moments begin anew at each level.
"""

from groundwork.train.step import TrainState
from lottery.branches.branch import Branch, continued
from lottery.tickets import Levels, Start, Ticket


def start(levels: Levels, level: int, ticket: Ticket, point: TrainState) -> Start:
    """See `Branch`."""
    return continued(levels, levels.settled(), "finetune", level, point)


BRANCH = Branch(start=start, colour="#c9a227", linestyle=(0, (5, 1)), marker="v", goes_on=True)
