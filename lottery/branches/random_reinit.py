"""Trains the ticket's mask with newly drawn weights, from step 0."""

from groundwork.train.step import TrainState
from lottery.branches.branch import Branch, fresh
from lottery.tickets import Levels, Start, Ticket


def start(levels: Levels, level: int, ticket: Ticket, point: TrainState) -> Start:
    """See `Branch`."""
    network = levels.network
    variables = fresh(levels, network, "random_reinit", level)
    return Start(network=network, mask=ticket.mask, state=network.start(variables, ticket.mask))


BRANCH = Branch(start=start, colour="#d1622b", linestyle="--", marker="s", begins="start")
