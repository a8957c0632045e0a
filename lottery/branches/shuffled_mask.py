"""Shuffles the ticket's mask within each array of weights, and rewinds to the same weights.

Source: Frankle et al., arXiv:2009.08576, Section 5. Where a layer has one prunable array, as with
kernels alone, such masks are distributed as those of `random_mask`; where kernel and bias are
prunable, each keeps its own count here. Layers that `nn.scan` stacks are shuffled each by itself,
if they are ranked so (`prune.scope=layerwise`).
"""

import functools
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from groundwork import keys
from groundwork.train import replicates
from groundwork.train.step import TrainState
from lottery.branches.branch import Branch
from lottery.tickets import Levels, Start, Ticket, rewind
from pruning.masks import Mask


def start(levels: Levels, level: int, ticket: Ticket, point: TrainState) -> Start:
    """See `Branch`."""
    plan = levels.plan
    slices = tuple(
        (path, plan.slices[name]) for name, paths in plan.paths.items() for path in paths
    )
    mask = make_shuffle(levels.context.mesh, slices)(levels.context.roots, ticket.mask, level)
    return Start(network=levels.network, mask=mask, state=rewind(levels, point, mask))


@functools.cache
def make_shuffle(mesh: Mesh, slices: tuple[tuple[str, int], ...]) -> Callable[..., Mask]:
    """Returns (roots, masks, level) → shuffled masks; `slices` has each path's number of them."""

    def shuffle(root: jax.Array, mask: Mask, level: jax.Array) -> Mask:
        key = jax.random.fold_in(keys.stream(root, "shuffled_mask"), level)
        new = dict(mask)
        for drawn, (path, rows) in zip(jax.random.split(key, len(slices)), slices, strict=True):
            stack = mask[path].reshape(rows, -1)
            new[path] = jax.random.permutation(drawn, stack, axis=1, independent=True)
            new[path] = new[path].reshape(mask[path].shape)
        return new

    return replicates.each_replicate(mesh, shuffle, shared=1, once=True)


BRANCH = Branch(start=start, colour="#999933", linestyle=(0, (1, 1)), marker="<")
