"""Straight-through masks: the network sees the best weights, and all weights learn."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from groundwork.trees import Params
from pruning import masks, select
from pruning.criteria.weights import magnitude
from pruning.masks import Mask
from pruning.select import Scores


def straight_through(
    params: Params,
    counts: Mapping[str, int],
    paths: Mapping[str, tuple[str, ...]] | None = None,
    score: Callable[[Params, Mask], Scores] = magnitude,
) -> Params:
    """Returns the parameters with all but the best weights zero, through which gradients pass.

    Apply it within the loss, `loss(straight_through(params, counts))`: the dense weights are what
    is trained, and what the network has at the end is `straight_through` of them.

    Source: Bengio et al., arXiv:1308.3432 (the estimator).

    Args:
      params: dense ones, any pytree.
      counts: group → the weights that it keeps, such as `densities.counts`.
      paths: group → the paths that are ranked together; by default each path is a group.
      score: (parameters, mask of ones) → scores; higher = keep. No gradient goes through it.

    Raises:
      ValueError: a path is not among the parameters.

    Example:
        >>> from pruning import dynamic
        >>> params, counts = {"kernel": jnp.array([3.0, 1.0, -2.0])}, {"kernel": 2}
        >>> dynamic.straight_through(params, counts)["kernel"].tolist()
        [3.0, 0.0, -2.0]
        >>> loss = lambda params: jnp.sum(dynamic.straight_through(params, counts)["kernel"])
        >>> jax.grad(loss)(params)["kernel"].tolist()
        [1.0, 1.0, 1.0]
    """
    groups = paths or {path: (path,) for path in counts}
    ranked = {path for group in groups.values() for path in group}
    leaves = masks.flatten(params, ranked.__contains__)
    if missing := ranked - leaves.keys():
        raise ValueError(f"the parameters lack {sorted(missing)}; they are {sorted(leaves)}")
    still = jax.lax.stop_gradient(params)
    dense = masks.ones(still, ranked.__contains__)
    mask = select.prune_to(dense, score(still, dense), counts, groups)
    # w + (masked − w), of which the bracket is constant: w − w and 0 − w are exact
    return masks.map_masked(
        lambda keep, w, constant: w + (jnp.where(keep, constant, 0) - constant), mask, params, still
    )
