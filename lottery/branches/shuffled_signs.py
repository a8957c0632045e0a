"""Trains the ticket with the signs of its kept weights shuffled within each array.

Magnitudes stay where they are. Weights are those of the rewind step, with fresh moments. Source:
Zhou et al., arXiv:1905.01067, Section 4.1, whose "sign" is what such a control takes away. Departs:
they draw other signs; shuffled ones keep how many are positive.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from groundwork import keys
from groundwork.train import replicates
from groundwork.train.step import TrainState
from groundwork.trees import Variables
from lottery.branches.branch import Branch, with_weights
from lottery.tickets import Levels, Start, Ticket
from pruning import masks
from pruning.masks import Mask


def start(levels: Levels, level: int, ticket: Ticket, point: TrainState) -> Start:
    """See `Branch`."""
    shuffle = make_shuffle(levels.context.mesh)
    variables = shuffle(levels.context.roots, ticket.mask, point.variables, level)
    state = levels.network.start(variables, ticket.mask, step=levels.rewind_step)
    return Start(network=levels.network, mask=ticket.mask, state=state)


@functools.cache
def make_shuffle(mesh: Mesh) -> Callable[..., Variables]:
    """Returns (roots, masks, variables, level) → variables with other signs."""

    def shuffle(root: jax.Array, mask: Mask, variables: Variables, level: jax.Array) -> Variables:
        key = jax.random.fold_in(keys.stream(root, "shuffled_signs"), level)
        weights = masks.flatten(variables["params"], mask.__contains__)
        drawn = zip(weights.items(), jax.random.split(key, len(weights)), strict=True)
        return with_weights(variables, {p: _shuffled(k, mask[p], leaf) for (p, leaf), k in drawn})

    return replicates.each_replicate(mesh, shuffle, shared=1, once=True)


def _shuffled(key: jax.Array, keep: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns weights whose signs have changed places among those that are kept."""
    keep, flat = keep.ravel(), weights.ravel()
    places = jnp.argsort(~keep, stable=True)  # kept ones first, in their order
    others = jnp.lexsort((jax.random.uniform(key, keep.shape), ~keep))  # likewise, at random
    signs = jnp.where(flat < 0, -1, 1).astype(flat.dtype)
    signs = signs.at[places].set(signs[others])
    return (jnp.abs(flat) * signs).reshape(weights.shape)


BRANCH = Branch(start=start, colour="#661100", linestyle=(0, (5, 1, 1, 1)), marker=">")
