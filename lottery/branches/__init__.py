"""Controls: networks that are trained beside a ticket, to see where its accuracy comes from.

A new control is a file of this package with a `Branch`, a line in `BRANCHES`, and a key of
`branches` in `configs/lottery/base.py`.
"""

from groundwork.train.step import TrainState
from lottery.branches import (
    constant_signed,
    finetune,
    lr_rewind,
    random_mask,
    random_reinit,
    scratch_b,
    shuffled_mask,
    shuffled_signs,
    small_dense,
)
from lottery.branches.branch import Branch
from lottery.tickets import Levels, Ticket, train_unit

BRANCHES: dict[str, Branch] = {
    "random_reinit": random_reinit.BRANCH,
    "random_mask": random_mask.BRANCH,
    "small_dense": small_dense.BRANCH,
    "finetune": finetune.BRANCH,
    "lr_rewind": lr_rewind.BRANCH,
    "shuffled_mask": shuffled_mask.BRANCH,
    "shuffled_signs": shuffled_signs.BRANCH,
    "constant_signed": constant_signed.BRANCH,
    "scratch_b": scratch_b.BRANCH,
}


def train(levels: Levels, branch: str, level: int, ticket: Ticket, point: TrainState) -> None:
    """Trains a control at a level.

    Args:
      levels: of the run.
      branch: one of `BRANCHES`.
      level: the level of the ticket.
      ticket: the ticket beside which the control is trained.
      point: the dense state at the rewind step.
    """
    train_unit(levels, branch, level, BRANCHES[branch].start(levels, level, ticket, point))


__all__ = ["BRANCHES", "Branch", "train"]
