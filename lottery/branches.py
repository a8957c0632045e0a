"""Controls: what is trained beside a ticket, to see what the ticket owes to what."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from groundwork import keys
from groundwork.devices import mesh as mesh_lib
from groundwork.train import replicates
from groundwork.train.step import TrainState
from lottery import tickets
from lottery.tickets import Experiment, Network, Ticket
from pruning import masks
from pruning.criteria import random


def train_branch(
    experiment: Experiment, branch: str, level: int, ticket: Ticket, point: TrainState
) -> None:
    """Train one control at a level.

    `random_mask`: as many weights in each layer as the ticket keeps, chosen at random; the
    ticket's own weights, rewound alike. `random_reinit`: the ticket's mask; weights drawn anew,
    trained from step 0. `small_dense`: a dense network of the same family, narrowed until it has
    no more parameters than the ticket keeps; trained from step 0.
    """
    network = experiment.network
    if branch == "random_mask":
        mask = make_draw(experiment.mesh)(experiment.roots, ticket.mask, level)
        start = tickets.rewind(experiment, point, mask)
    elif branch == "random_reinit":
        mask = ticket.mask
        start = _fresh(experiment, network, branch, level, mask)
    else:
        network = experiment.narrowed(tickets.parameters_kept(ticket))
        variables = _init(experiment, network, branch, level)
        mask = network.ones(variables["params"])
        size = tickets.parameters_kept(Ticket(mask, variables, variables))
        if size > tickets.parameters_kept(ticket):
            experiment.reporter.say(
                f"warning: level {level}: no dense network is as small as the ticket; {branch} has "
                f"{size} parameters for its {tickets.parameters_kept(ticket)}"
            )
        start = _fresh(experiment, network, branch, level, mask)
    tickets.train_unit(experiment, network, branch, level, mask, start)


@functools.cache
def make_draw(mesh: Mesh) -> Callable[..., masks.Mask]:
    """(roots, masks, level) → masks with as many weights in each layer; compiled once a mesh."""

    def draw(root, mask, level):
        key = jax.random.fold_in(keys.stream(root, "random_mask"), level)
        paths = {name: group.paths for name, group in masks.groups(mask, 0.0).items()}
        everything = {path: leaf | True for path, leaf in mask.items()}
        return masks.prune_to(everything, random({}, mask, key=key), masks.kept(mask), paths)

    return replicates.each_replicate(mesh, draw, shared=1)


def _init(experiment: Experiment, network: Network, branch: str, level: int) -> Any:
    """Variables of a stream of random numbers that nothing else uses."""
    own = jax.vmap(lambda root: jax.random.fold_in(keys.stream(root, branch), level))
    return network.programs.init(own(experiment.roots))


def _fresh(
    experiment: Experiment, network: Network, branch: str, level: int, mask: masks.Mask
) -> TrainState:
    zero = np.zeros(experiment.spec.replicates, np.int32)
    zero = mesh_lib.put(experiment.mesh, zero, mesh_lib.BY_REPLICATE)
    variables = _init(experiment, network, branch, level)
    return network.start(experiment.roots, mask, variables, zero)
