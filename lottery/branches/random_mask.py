"""Keeps as many weights of each layer as the ticket, at random, and rewinds them like a ticket."""

import functools
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from groundwork import keys
from groundwork.train import replicates
from groundwork.train.step import TrainState
from lottery.branches.branch import Branch
from lottery.tickets import Levels, Start, Ticket, rewind
from pruning import masks, select
from pruning.criteria import random
from pruning.masks import Mask


def start(levels: Levels, level: int, ticket: Ticket, point: TrainState) -> Start:
    """See `Branch`."""
    mask = make_draw(levels.context.mesh)(levels.context.roots, ticket.mask, level)
    return Start(network=levels.network, mask=mask, state=rewind(levels, point, mask))


@functools.cache
def make_draw(mesh: Mesh) -> Callable[..., Mask]:
    """Returns (roots, masks, level) → random masks that keep as many weights of each layer."""

    def draw(root: jax.Array, mask: Mask, level: jax.Array) -> Mask:
        key = jax.random.fold_in(keys.stream(root, "random_mask"), level)
        paths = {name: group.paths for name, group in select.groups(mask, 0.0).items()}
        dense = {path: leaf | True for path, leaf in mask.items()}
        scores = random({}, mask, key=key)
        return select.prune_to(dense, scores, masks.kept(mask), paths)

    return replicates.each_replicate(mesh, draw, shared=1)


BRANCH = Branch(start=start, colour="#e07bc0", linestyle=":", marker="^")
