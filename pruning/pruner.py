"""Prunes all replicates by one more level: scores weights, then keeps the best of each group."""

# R replicates

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from groundwork import keys
from groundwork.train import replicates
from groundwork.trees import Params, Variables
from pruning import select
from pruning.criteria import Criterion, Evidence
from pruning.masks import Mask

MeanLoss = Callable[[Variables, Any], jax.Array]  # of one replicate: variables, examples → []


def make_pruner(
    mesh: Mesh,
    criterion: Criterion,
    paths: Mapping[str, tuple[str, ...]],
    loss: MeanLoss | None = None,
    examples: Any = None,
    slices: Mapping[str, int] | None = None,
) -> Callable[..., Mask]:
    """Returns a function that prunes to given counts, compiled once for all levels.

    Args:
      mesh: the devices.
      criterion: scores the weights.
      paths: group → the paths that are ranked together.
      loss: for criteria that need one.
      examples: the examples whose loss is taken.
      slices: group → how many slices of a stack it has; see `select.prune_to`.

    Returns:
      (roots [R], masks, variables, counts of each group [R] or of each slice of it, level) → masks.
    """

    def prune(
        root: jax.Array, mask: Mask, variables: Variables, counts: Mapping[str, Any], level: Any
    ) -> Mask:
        def of_params(params: Params, examples: Any) -> jax.Array:
            assert loss is not None
            return loss({**variables, "params": params}, examples)

        evidence = Evidence(
            params=variables["params"],
            mask=mask,
            key=jax.random.fold_in(keys.stream(root, "criterion"), level),
            loss=of_params if loss else None,
            examples=examples,
        )
        return select.prune_to(mask, criterion.score(evidence), counts, paths, slices)

    return replicates.each_replicate(mesh, prune, shared=1, once=True)
