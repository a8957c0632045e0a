"""Trains a dense network of the same family, no larger than the ticket, from step 0."""

from groundwork.train.step import TrainState
from lottery.branches.branch import Branch, fresh
from lottery.tickets import Levels, Start, Ticket, parameters_kept


def start(levels: Levels, level: int, ticket: Ticket, point: TrainState) -> Start:
    """See `Branch`. It warns if even one unit in each layer is more than the ticket keeps."""
    most = parameters_kept(ticket)
    network = levels.narrowed(most)
    variables = fresh(levels, network, "small_dense", level)
    mask = network.ones(variables["params"])
    size = parameters_kept(Ticket(mask, variables, variables))
    if size > most:
        levels.context.reporter.say(
            f"warning: level {level}: no dense network is as small as the ticket; small_dense has "
            f"{size} parameters for its {most}"
        )
    return Start(network=network, mask=mask, state=network.start(variables, mask))


BRANCH = Branch(start=start, colour="#009e73", linestyle="-.", marker="D", begins="start")
