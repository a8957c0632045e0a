"""Gradual pruning: a dense network becomes sparse while it trains, fast first and slowly then."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from groundwork.trees import Params
from pruning import masks, select
from pruning.criteria.weights import magnitude
from pruning.dynamic.changing import changing
from pruning.masks import Mask
from pruning.select import Scores


def gradual(
    optimizer: optax.GradientTransformation,
    mask: Mask | None,
    final: float | Mapping[str, int],
    *,
    begin: int,
    end: int,
    every: int = 100,
    paths: Mapping[str, tuple[str, ...]] | None = None,
    score: Callable[[Params, Mask], Scores] = magnitude,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimiser by a mask that prunes along a cubic curve from dense to its final density.

    At the steps begin + every, begin + 2·every, … and `end`, each group keeps its best weights, by
    rank; their number is size − round(gone × (1 − (1 − t)³)), with t = (step − begin) /
    (end − begin) and `gone` of the group's weights pruned in the end. The step's update follows,
    under the new mask. Pruned weights stay pruned. All counts are host integers that are known
    before, so changes compile nothing.

    Source: Zhu & Gupta, arXiv:1710.01878, Equation 1, with initial sparsity 0.

    Args:
      optimizer: see `enforce.enforce`.
      mask: the mask of the start; one that is sparse already waits for the curve to reach it. None
        if the caller puts it into the state.
      final: the density of every path, in [0, 1]; or group → the weights that it keeps in the end,
        such as `densities.counts`.
      begin: the step at which the curve begins.
      end: the step at which it ends.
      every: steps from one change to the next.
      paths: group → the paths that are ranked together; by default each path is a group.
      score: (parameters, mask) → scores; higher = keep.

    Returns:
      An optax gradient transformation with `changing.DynamicState`.

    Raises:
      ValueError: a setting is out of its range; or, in `update`, `final` lacks a group or has more
        weights than one has. `init` and `update` raise that of `enforce`, too.

    Example:
        >>> import optax
        >>> from pruning import dynamic, masks
        >>> params, gradients = {"kernel": jnp.arange(1.0, 9.0)}, {"kernel": jnp.zeros(8)}
        >>> dense = masks.ones(params)
        >>> optimizer = dynamic.gradual(optax.sgd(0.1), dense, 0.25, begin=0, end=2, every=1)
        >>> state = optimizer.init(params)
        >>> for step in range(3):
        ...     _, state = optimizer.update(gradients, state, params)
        ...     print(step, masks.mask_of(state)["kernel"].astype(int))
        0 [1 1 1 1 1 1 1 1]
        1 [0 0 0 0 0 1 1 1]
        2 [0 0 0 0 0 0 1 1]
    """
    if every < 1 or not 0 <= begin < end:
        raise ValueError(f"steps must be 0 ≤ begin < end and every ≥ 1: {begin}, {end}, {every}")
    if not isinstance(final, Mapping) and not 0 <= final <= 1:
        raise ValueError(f"density {final} is outside [0, 1]")
    number = -(-(end - begin) // every)

    def changes(step: jax.Array) -> jax.Array:
        """Returns the number of changes up to a step."""
        return jnp.where(step >= end, number, jnp.clip((step - begin) // every, 0, number - 1))

    def change(mask: Mask, params: Params, gradients: Params, step: jax.Array, key: Any) -> Mask:
        del gradients, key
        groups = paths or {path: (path,) for path in mask}
        sizes = {name: masks.total({p: mask[p] for p in group}) for name, group in groups.items()}
        kept = _kept(sizes, final)
        times = np.minimum(np.arange(number + 1) * every / (end - begin), 1)
        counts = {n: jnp.asarray(_curve(sizes[n], kept[n], times))[changes(step)] for n in groups}
        return select.prune_to(mask, score(params, mask), counts, groups)

    def due(step: jax.Array, before: jax.Array) -> jax.Array:
        return changes(step) != changes(before)

    return changing(optimizer, mask, change, due, replaces=False)


def _kept(sizes: Mapping[str, int], final: float | Mapping[str, int]) -> dict[str, int]:
    """Returns the weights that each group keeps in the end."""
    if not isinstance(final, Mapping):
        return {name: size - round((1 - final) * size) for name, size in sizes.items()}
    if final.keys() != sizes.keys():
        differing = sorted(final.keys() ^ sizes.keys())
        raise ValueError(f"the final counts and the mask differ in {differing}")
    for name, size in sizes.items():
        if not 0 <= final[name] <= size:
            raise ValueError(f"{name!r} has {size} weights and cannot keep {final[name]}")
    return {name: int(count) for name, count in final.items()}


def _curve(size: int, kept: int, times: np.ndarray) -> np.ndarray:
    """Returns the weights that a group keeps after each change, int32; all of them at first."""
    gone = size - kept
    return np.asarray([size - round(gone * (1 - (1 - t) ** 3)) for t in times.tolist()], np.int32)
