"""Trains the ticket with one magnitude for all kept weights of an array, and their signs.

The magnitude is the standard deviation of all initial weights of the array, as they were drawn; the
signs are those at the rewind step, where training begins with fresh moments. An array that begins
with zeros alone, such as a bias, stays zero. Source: Zhou et al., arXiv:1905.01067, Section 4.1.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from groundwork.train import replicates
from groundwork.train.step import TrainState
from groundwork.trees import Variables
from lottery.branches.branch import Branch, with_weights
from lottery.tickets import Levels, Start, Ticket, initial
from pruning import masks
from pruning.masks import Mask


def start(levels: Levels, level: int, ticket: Ticket, point: TrainState) -> Start:
    """See `Branch`."""
    make = make_constant(levels.context.mesh)
    variables = make(ticket.mask, point.variables, initial(levels))
    state = levels.network.start(variables, ticket.mask, step=levels.rewind_step)
    return Start(network=levels.network, mask=ticket.mask, state=state)


@functools.cache
def make_constant(mesh: Mesh) -> Callable[..., Variables]:
    """Returns (masks, variables, initial variables) → variables of one magnitude for each array."""

    def constant(mask: Mask, variables: Variables, first: Variables) -> Variables:
        drawn = masks.flatten(first["params"], mask.__contains__)
        weights = masks.flatten(variables["params"], mask.__contains__)
        signed = {path: _signs(leaf) * jnp.std(drawn[path]) for path, leaf in weights.items()}
        return with_weights(variables, signed)

    return replicates.each_replicate(mesh, constant, once=True)


def _signs(weights: jax.Array) -> jax.Array:
    """Returns 1 and −1; that of zero is 1."""
    return jnp.where(weights < 0, -1, 1).astype(weights.dtype)


BRANCH = Branch(start=start, colour="#56b4e9", linestyle=(0, (2, 2)), marker="d")
