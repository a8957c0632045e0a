"""k-means on a sorted line. Read `run` first."""

# N values, K centroids

import jax
import jax.numpy as jnp

from compress.quantize import sums

State = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""Centroids [K], ends of clusters [K + 1], [] bool: has anything changed, [] iterations done."""


def run(
    line: jax.Array, count: jax.Array, centroids: jax.Array, iterations: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Runs Lloyd's iterations, as `k_means.kmeans` describes them.

    Args:
      line: [N], rising, +inf from `count` on.
      count: [] int32, the number of values that take part.
      centroids: [K], rising.
      iterations: [], the most that are run.

    Returns:
      Centroids [K], rising, and [] bool: whether the last iteration changed no assignment.

    Source: Lloyd 1982, Method I; empty clusters as scikit-learn's `_relocate_empty_clusters`.
    """
    prefix = sums.prefix(jnp.where(jnp.arange(line.size) < count, line, 0))

    def assign(centroids: jax.Array) -> jax.Array:
        """Returns ends [K + 1]: cluster k holds line[ends[k]:ends[k + 1]]."""
        inner = jnp.searchsorted(line, borders(centroids), side="right").astype(jnp.int32)
        return jnp.concatenate([jnp.zeros(1, jnp.int32), inner, count[None]])

    def renew(state: State) -> State:
        centroids, ends, _, done = state
        held, total = jnp.diff(ends), sums.between(prefix, ends)
        means = jnp.clip(  # the mean of equal weights is that weight, whatever the rounding
            total / jnp.maximum(held, 1), line[ends[:-1]], line[jnp.maximum(ends[1:] - 1, 0)]
        )
        means = jnp.where(held > 0, means, centroids)
        means, moved = jax.lax.cond(
            jnp.any(held == 0),
            lambda: _relocate(line, count, centroids, means, held, total),
            lambda: (means, jnp.any(held < 0)),
        )
        new = assign(means)
        return means, new, moved | jnp.any(new != ends), done + 1

    # This True and the False above depend on arrays, so that they vary by device under shard_map.
    ends = assign(centroids)
    state = (centroids, ends, jnp.any(ends >= 0), jnp.zeros((), jnp.int32))
    centroids, _, changed, _ = jax.lax.while_loop(
        lambda state: state[2] & (state[3] < iterations), renew, state
    )
    return centroids, ~changed


def _relocate(
    line: jax.Array,
    count: jax.Array,
    centroids: jax.Array,
    means: jax.Array,
    held: jax.Array,
    total: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Moves the empty clusters to the weights farthest from their centroids.

    A weight that an empty cluster takes no longer counts in the mean of its old one.

    Returns:
      Means [K], rising, and whether any cluster moved.
    """
    nearest = jnp.repeat(centroids, held, total_repeat_length=line.size)  # [N]
    distance = jnp.where(jnp.arange(line.size) < count, jnp.abs(line - nearest), 0)
    farthest, place = jax.lax.top_k(distance, min(held.size, line.size))
    empty = held == 0
    taken = (jnp.arange(place.size) < jnp.sum(empty)) & (farthest > 0)
    weights = jnp.where(taken, line[place], 0)
    cluster = jnp.searchsorted(jnp.cumsum(held), place, side="right")
    left = held.at[cluster].add(-taken.astype(held.dtype))
    rest = total.at[cluster].add(-weights)
    means = jnp.where((left > 0) & (left < held), rest / jnp.maximum(left, 1), means)
    turn = jnp.minimum(jnp.cumsum(empty) - 1, place.size - 1)  # which of the farthest weights
    means = jnp.where(empty & taken[turn], weights[turn], means)
    return jnp.sort(means), jnp.any(taken)


def borders(centroids: jax.Array) -> jax.Array:
    """Returns the midpoints [K − 1] of rising centroids, below the upper one however near it is."""
    low, high = centroids[:-1], centroids[1:]
    middle = 0.5 * low + 0.5 * high
    return jnp.where(middle < high, middle, low)
