"""Drops weights and grows as many others in each layer: what RigL and SET share."""

# N weights of a leaf

import math

import jax
import jax.numpy as jnp

from groundwork.trees import Params
from pruning import masks, select
from pruning.masks import Mask
from pruning.select import Scores


def regrown(mask: Mask, params: Params, growth: Scores, fraction: jax.Array) -> Mask:
    """Returns the mask after a share of the kept weights gave way to as many others.

    Of each leaf, `round(fraction × kept)` weights of the least magnitude go, or as many as are
    pruned if these are fewer; then the pruned ones of the highest scores are kept instead.
    Weights are selected by rank; see `select.prune`. The rounding is to even, in float32. No
    weight that goes comes back in the same change.

    Args:
      mask: path → bool array.
      params: whose magnitudes decide what goes.
      growth: path → scores of the pruned weights; higher = grow.
      fraction: [] float32 in [0, 1].
    """
    magnitudes = {p: jnp.abs(leaf) for p, leaf in masks.flatten(params, mask.__contains__).items()}
    paths = {path: (path,) for path in mask}
    kept = {path: jnp.sum(leaf, dtype=jnp.int32) for path, leaf in mask.items()}
    moved = {path: _moved(count, mask[path].size, fraction) for path, count in kept.items()}
    stays = select.prune_to(mask, magnitudes, {p: kept[p] - moved[p] for p in mask}, paths)
    pruned = {path: ~leaf for path, leaf in mask.items()}
    grown = select.prune_to(pruned, growth, moved, paths)
    return {path: stays[path] | grown[path] for path in mask}


def cosine(fraction: float, step: jax.Array, end: int | None) -> jax.Array:
    """Returns the share that changes at a step: from `fraction` at 0 to 0 at the end, if any."""
    if end is None:
        return jnp.float32(fraction)
    return fraction / 2 * (1 + jnp.cos(jnp.minimum(step, end) * (math.pi / end)))


def due(step: jax.Array, before: jax.Array, every: int, end: int | None) -> jax.Array:
    """Returns whether one of 0, every, 2·every, … before any end was reached since another step.

    That step is the last one that was seen, or −1 if none was, which then counts as the one before.
    """
    before = jnp.where(before < 0, step - 1, before)
    if end is not None:
        step, before = jnp.minimum(step, end - 1), jnp.minimum(before, end - 1)
    return step // every > before // every


def check(every: int, fraction: float, end: int | None) -> None:
    """Checks settings.

    Raises:
      ValueError: a number of steps is not positive, or the fraction is outside [0, 1].
    """
    for name, steps in {"every": every, "end": end}.items():
        if steps is not None and steps < 1:
            raise ValueError(f"{name}={steps} must be at least 1 step")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction {fraction} is outside [0, 1]")


def _moved(kept: jax.Array, size: int, fraction: jax.Array) -> jax.Array:
    rounded = jnp.round(fraction * kept.astype(jnp.float32)).astype(jnp.int32)
    return jnp.minimum(rounded, size - kept)
