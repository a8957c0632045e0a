"""Prunes one replicate to given counts by a criterion, which may score anew on the way."""

# S slices of a stack

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pruning import masks, select
from pruning.criteria import Criterion, Evidence
from pruning.masks import Mask


def prune(
    criterion: Criterion,
    evidence: Evidence,
    counts: Mapping[str, Any],
    paths: Mapping[str, tuple[str, ...]],
    slices: Mapping[str, int] | None = None,
) -> tuple[Mask, jax.Array]:
    """Keeps the weights of each group that a criterion scores highest.

    A criterion of several rounds scores the weights that are left anew in each of them. In round r
    of T, a group keeps `round(before × (count / before) ** (r / T))`, as Tanaka et al.,
    arXiv:2006.05467, Algorithm 1, prune to the density ρ^(r/T). If the criterion corrects weights,
    the next round scores the corrected ones.

    Args:
      criterion: scores the weights.
      evidence: of one replicate.
      counts: see `select.prune_to`; they may be traced.
      paths: group → the paths that are ranked together.
      slices: group → S, how many slices of a stack it has.

    Returns:
      The mask, and how many of the scores were no number, [] int32. Such weights rank lowest.

    Raises:
      ValueError: the evidence lacks something, or the scores do not fit the mask.
    """
    if criterion.rounds == 1:
        scores = criterion(evidence)
        select.check_same(evidence.mask, scores)
        return select.prune_to(evidence.mask, scores, counts, paths, slices), missing(
            scores, evidence.mask
        )
    before = {
        name: _kept(evidence.mask, paths[name], (slices or {}).get(name, 1)) for name in paths
    }

    def one_round(number: jax.Array, state: Any) -> Any:
        params, mask, wrong = state
        seen = dataclasses.replace(evidence, params=masks.apply(mask, params), mask=mask)
        scores = criterion(seen)
        left = {
            name: _left(before[name], counts[name], (number + 1) / criterion.rounds)
            for name in paths
        }
        new = select.prune_to(mask, scores, left, paths, slices)
        if criterion.correct:
            params = criterion.correct(seen, new)
        return params, new, wrong + missing(scores, mask)

    state = evidence.params, dict(evidence.mask), missing({}, evidence.mask)
    _, mask, wrong = lax.fori_loop(0, criterion.rounds, one_round, state)
    return mask, wrong


def check(missing: Any) -> None:
    """Refuses scores that are no numbers.

    Args:
      missing: how many there are, as `prune` gives it, [] or [R] on the host.

    Raises:
      ValueError: there are some.
    """
    if wrong := int(np.sum(missing)):
        raise ValueError(
            f"{wrong} scores are no numbers: what the criterion computes overflows, or is 0 for all"
        )


def _kept(mask: Mask, paths: tuple[str, ...], slices: int) -> jax.Array:
    """Returns how many weights each slice of a group keeps, [S]."""
    parts = (jnp.sum(mask[path].reshape(slices, -1), axis=1, dtype=jnp.int32) for path in paths)
    return sum(parts, jnp.zeros(slices, jnp.int32))


def _left(before: jax.Array, count: Any, share: jax.Array) -> jax.Array:
    """Returns the weights that each slice keeps after a share of the rounds, [S]."""
    count = jnp.broadcast_to(jnp.asarray(count), before.shape)
    ratio = jnp.maximum(count, 1) / jnp.maximum(before, 1)
    left = jnp.round(before * ratio**share).astype(count.dtype)
    return jnp.where(share < 1, jnp.maximum(left, count), count)


def missing(scores: Mapping[str, jax.Array], mask: Mask) -> jax.Array:
    """Returns how many scores of kept weights are no number."""
    none = sum(jnp.sum(leaf & False, dtype=jnp.int32) for leaf in mask.values())
    wrong = (jnp.sum(jnp.isnan(scores[path]) & mask[path], dtype=jnp.int32) for path in scores)
    return sum(wrong, jnp.asarray(none))
