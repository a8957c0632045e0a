"""Weights that share 2**bits values, found by k-means. Read `kmeans` first."""

# N weights, n of them kept, K centroids

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress import checks, sums
from compress.straight_through import straight_through
from lowrank import arrays

INITS = ("linear", "density", "random")


class Clusters(NamedTuple):
    """codebook[indices] are the weights, zero where the mask is False."""

    codebook: jax.Array  # [2**bits], rising; with a mask, entry 0 is 0.0 and the others rise
    indices: jax.Array  # weights' shape, uint8 (uint16 above 8 bits)
    mask: jax.Array | None  # weights' shape, bool, True = kept
    converged: jax.Array  # [] bool: no assignment changed any more


def kmeans(
    weights: jax.Array,
    bits: int,
    mask: jax.Array | None = None,
    init: str | jax.Array = "linear",
    key: jax.Array | None = None,
    iterations: int = 10_000,
) -> Clusters:
    """Share 2**bits values among the weights of a layer, by Lloyd's iterations until none moves.

    On a line the cluster of a centroid is an interval, so the weights are sorted once, an
    iteration is K binary searches and K differences of prefix sums (of twice the precision),
    and no assignment is approximate. A weight halfway between two centroids belongs to the
    lower one. Empty clusters take the weights farthest from their centroids, as in
    scikit-learn; where all weights equal their centroids (fewer distinct weights than
    clusters) the empty ones stay where they are, and no index names them. Works under jit
    and vmap.

    Args:
      weights: any shape; computed in float32 unless they are float64.
      bits: 1 … 16.
      mask: bool, of the same shape, True = kept. Pruned weights take no part: they have index
        0, codebook[0] is 0.0, and the kept ones share the 2**bits − 1 others.
      init: `linear`: evenly from the least to the largest weight; `density`: at the quantiles
        (i + ½) / K; `random`: K of the weights, none twice; or K starting centroids.
      key: draws the random start; not needed otherwise.
      iterations: at most so many; another number compiles nothing.

    Raises:
      ValueError: empty weights or (where values are known) not finite; bits outside 1…16; an
        unknown init, or a number of centroids other than K; `random` without a key; a mask of
        another shape or not bool; fewer than 1 iterations.

    Source: Han, Mao & Dally, arXiv:1510.00149, Section 3. Departs: zero has an index of its own
    where a mask is given; the paper stores kept weights alone, by sparse position.
    """
    weights = arrays.floats(weights, "weights")
    bits = checks.bits(bits, 1, 16)
    if mask is not None:
        mask = checks.mask(mask, weights.shape)
    if iterations < 1:
        raise ValueError(f"iterations={iterations}: 1 at least")
    size = 2**bits - (mask is not None)
    start: jax.Array | None = None
    if isinstance(init, str):
        checks.name("init", init, INITS)
        if init == "random" and key is None:
            raise ValueError("init='random' needs a key")
    else:
        start, init = arrays.floats(init, "starting centroids").astype(weights.dtype), "given"
        if start.shape != (size,):
            raise ValueError(f"{size} starting centroids are needed, not shape {start.shape}")
    return _kmeans(weights, mask, start, key if init == "random" else None, iterations, bits, init)


def nearest(codebook: jax.Array, weights: jax.Array) -> jax.Array:
    """Index of the nearest entry of a rising codebook [K], int32; halfway, of the lower one."""
    return jnp.searchsorted(_borders(codebook), weights).astype(jnp.int32)


def fake_clusters(weights: jax.Array, codebook: jax.Array) -> jax.Array:
    """Each weight's nearest entry of a rising codebook [K], to train through.

    The gradient passes to weights within the codebook's range (0 outside it), and, summed over
    each cluster, to the codebook.
    """
    value = codebook[nearest(codebook, jax.lax.stop_gradient(weights))]
    inside = (weights >= codebook[0]) & (weights <= codebook[-1])
    return straight_through(value.astype(weights.dtype), jnp.where(inside, weights, 0))


@functools.partial(jax.jit, static_argnames=("bits", "init"))
def _kmeans(
    weights: jax.Array,
    mask: jax.Array | None,
    start: jax.Array | None,
    key: jax.Array | None,
    iterations: jax.Array,
    bits: int,
    init: str,
) -> Clusters:
    kept = jnp.ones_like(weights, bool) if mask is None else mask
    size = 2**bits - (mask is not None)
    count = jnp.sum(kept, dtype=jnp.int32)
    line = jnp.sort(jnp.where(kept, weights, jnp.inf).ravel())  # pruned last  [N]
    centroids = jnp.sort(_start(line, count, size, init, key)) if start is None else jnp.sort(start)
    centroids, converged = _lloyd(line, count, centroids, iterations)
    indices = nearest(centroids, weights)
    if mask is not None:
        indices = jnp.where(mask, indices + 1, 0)
        centroids = jnp.pad(centroids, (1, 0))
    indices = indices.astype(jnp.uint8 if bits <= 8 else jnp.uint16)
    return Clusters(centroids, indices, mask, converged)


def _start(
    line: jax.Array, count: jax.Array, size: int, init: str, key: jax.Array | None
) -> jax.Array:
    """Initial centroids [K] of the first `count` weights of a sorted line [N]; 0 if it is 0."""
    order = jnp.arange(size, dtype=jnp.int32)
    if init == "linear":
        last = line[jnp.maximum(count - 1, 0)]
        found = jnp.linspace(line[0], last, size)
    elif init == "density":  # ⌊count (2 i + 1) / 2 K⌋, in two parts that fit 32 bits
        whole, rest = jnp.divmod(count, 2 * size)
        share = (2 * order + 1).astype(jnp.float32) / (2 * size)
        place = whole * (2 * order + 1) + jnp.floor(rest * share).astype(jnp.int32)
        found = line[jnp.clip(place, 0, jnp.maximum(count - 1, 0))]
    else:
        drawn = jax.random.uniform(key, line.shape)
        drawn = jnp.where(jnp.arange(line.size) < count, drawn, 2)
        place = jnp.argsort(drawn)[jnp.minimum(order, jnp.maximum(count - 1, 0))]
        found = line[place]
    return jnp.where(count > 0, found, 0)


def _lloyd(
    line: jax.Array, count: jax.Array, centroids: jax.Array, iterations: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Centroids [K], rising, and whether they have settled."""
    prefix = sums.prefix(jnp.where(jnp.arange(line.size) < count, line, 0))

    def assign(centroids):  # cluster k holds line[ends[k]:ends[k + 1]]  [K + 1]
        inner = jnp.searchsorted(line, _borders(centroids), side="right").astype(jnp.int32)
        return jnp.concatenate([jnp.zeros(1, jnp.int32), inner, count[None]])

    def renew(state):
        centroids, ends, _, done = state
        held, total = jnp.diff(ends), sums.between(prefix, ends)
        means = jnp.clip(  # equal weights have themselves as mean, whatever rounding says
            total / jnp.maximum(held, 1), line[ends[:-1]], line[jnp.maximum(ends[1:] - 1, 0)]
        )
        means = jnp.where(held > 0, means, centroids)
        means, moved = jax.lax.cond(
            jnp.any(held == 0),
            lambda: _relocate(line, count, centroids, means, held, total),
            lambda: (means, jnp.zeros((), bool)),
        )
        new = assign(means)
        return means, new, moved | jnp.any(new != ends), done + 1

    state = (centroids, assign(centroids), jnp.ones((), bool), jnp.zeros((), jnp.int32))
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
    """Means [K] with the empty clusters on the farthest weights, rising; and whether any moved.

    A weight that an empty cluster takes counts no longer in the mean of its old one.
    """
    own = jnp.repeat(centroids, held, total_repeat_length=line.size)  # [N]
    distance = jnp.where(jnp.arange(line.size) < count, jnp.abs(line - own), 0)
    farthest, place = jax.lax.top_k(distance, min(held.size, line.size))
    empty = held == 0
    taken = (jnp.arange(place.size) < jnp.sum(empty)) & (farthest > 0)
    weights = jnp.where(taken, line[place], 0)
    cluster = jnp.searchsorted(jnp.cumsum(held), place, side="right")
    left = held.at[cluster].add(-taken.astype(held.dtype))
    rest = total.at[cluster].add(-weights)
    means = jnp.where((left > 0) & (left < held), rest / jnp.maximum(left, 1), means)
    turn = jnp.minimum(jnp.cumsum(empty) - 1, place.size - 1)  # which of the farthest
    means = jnp.where(empty & taken[turn], weights[turn], means)
    return jnp.sort(means), jnp.any(taken)


def _borders(centroids: jax.Array) -> jax.Array:
    """Midpoints [K − 1] of rising centroids; below the upper one however near they are."""
    low, high = centroids[:-1], centroids[1:]
    middle = 0.5 * low + 0.5 * high
    return jnp.where(middle < high, middle, low)


