"""Weights that share 2**bits values, found by k-means. Read `kmeans` first."""

# N weights, n of them kept, K centroids

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.quantize import lloyd
from compress.quantize.straight_through_estimator import straight_through
from groundwork.numerics import arrays, checks

INITS = ("linear", "density", "random")
ITERATIONS = 10_000  # the most that are run


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
    iterations: int = ITERATIONS,
) -> Clusters:
    """Makes the weights of a layer share 2**bits values, by Lloyd's iterations until none moves.

    On a line the cluster of a centroid is an interval. So the weights are sorted once, an iteration
    takes K binary searches and K differences of prefix sums (of twice the precision), and no
    assignment is approximate. A weight halfway between two centroids belongs to the lower one.
    Empty clusters take the weights farthest from their centroids, as in scikit-learn. Where all
    weights equal their centroids (there are fewer distinct weights than clusters), the empty
    clusters stay where they are, and no index names them. Works under jit and vmap.

    Args:
      weights: any shape; computed in float32 unless they are float64.
      bits: 1 … 16.
      mask: bool, of the same shape, True = kept. Pruned weights take no part, whatever they are:
        they have index 0, codebook[0] is 0.0, and the kept ones share the 2**bits − 1 other values.
      init: `linear`: evenly spaced from the least to the largest weight; `density`: at the
        quantiles (i + ½) / K; `random`: K of the weights, none twice; or K starting centroids.
      key: draws the random start, and is not needed otherwise.
      iterations: the most that are run; another number compiles nothing.

    Raises:
      ValueError: kept weights are empty or (where values are known) not finite or too large; the
        bits are outside 1…16; the init is unknown, or has another number of centroids than K;
        `random` has no key; the mask has another shape or is not bool; there are fewer than 1
        iterations.

    Source: Han, Mao & Dally, arXiv:1510.00149, Section 3. Departs: zero has an index of its own
    if a mask is given; the paper stores only the kept weights, by their positions.

    Example:
        >>> from compress import quantize
        >>> weights = jnp.array([1.0, 1.5, 4.0, 5.0, 0.2])
        >>> stored = quantize.kmeans(weights, bits=2, mask=weights > 0.5)  # 0.2 is pruned
        >>> stored.codebook.tolist(), stored.indices.tolist()
        ([0.0, 1.25, 4.0, 5.0], [1, 1, 2, 3, 0])
    """
    bits = checks.bits(bits, 1, 16)
    if mask is not None:
        mask = checks.mask(mask, jnp.shape(weights))
        where = np.where if isinstance(weights, np.ndarray) else jnp.where
        weights = where(mask, weights, np.zeros((), jnp.result_type(weights)))
    weights = checks.weights(weights)
    if iterations < 1:
        raise ValueError(f"iterations={iterations}: 1 at least")
    size = 2**bits - (mask is not None)
    start: jax.Array | None = None
    if isinstance(init, str):
        checks.name("init", init, INITS)
        if init == "random":
            if key is None:
                raise ValueError("init='random' needs a key")
            key = checks.key(key)
    else:
        start, init = arrays.floats(init, "starting centroids").astype(weights.dtype), "given"
        if start.shape != (size,):
            raise ValueError(f"{size} starting centroids are needed, not shape {start.shape}")
    return _kmeans(weights, mask, start, key if init == "random" else None, iterations, bits, init)


def kmeans_of_any_size(
    weights: np.ndarray, bits: int, mask: np.ndarray | None = None, most: int = 0
) -> Clusters:
    """Returns what `kmeans` does from a linear start, in arrays of the host.

    It sorts on the host, and compiles once for each number of centroids, whatever the shapes of the
    weights are, where one number `most` serves all of them. So it is for many kernels in turn.

    Args:
      weights: any shape, float32.
      bits: see `kmeans`.
      mask: see `kmeans`.
      most: of the weights of all kernels that it is called for.

    Raises:
      ValueError: see `kmeans`; or there are more weights than `most`.
    """
    bits = checks.bits(bits, 1, 16)
    weights = np.asarray(weights, np.float32)
    mask = None if mask is None else np.asarray(checks.mask(mask, weights.shape))
    kept = weights.ravel() if mask is None else weights[mask]
    if not weights.size or not np.isfinite(kept).all():
        raise ValueError("the weights are none, or not finite")
    most = most or weights.size
    if kept.size > most:
        raise ValueError(f"{kept.size} weights are more than most={most}")
    line = np.full(most, np.inf, np.float32)
    line[: kept.size] = np.sort(kept)
    found = _on_line(line, np.int32(kept.size), 2**bits - (mask is not None))
    centroids, between, converged = (np.asarray(leaf) for leaf in found)
    indices = np.searchsorted(between, weights)
    if mask is not None:
        indices = np.where(mask, indices + 1, 0)
        centroids = np.append(np.zeros(1, np.float32), centroids)
    indices = indices.astype(np.uint8 if bits <= 8 else np.uint16)
    made: Any = (centroids, indices, mask, converged)  # of the host
    return Clusters(*made)


def nearest(codebook: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the int32 indices of the nearest entries of a rising codebook [K].

    Halfway between two entries it is the lower one's.
    """
    return jnp.searchsorted(lloyd.borders(codebook), weights).astype(jnp.int32)


def fake_clusters(
    weights: jax.Array, codebook: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Returns each weight's nearest entry of a codebook, which can be trained through.

    The gradient passes to weights within the codebook's range (it is 0 outside), and, summed over
    each cluster, to the codebook.

    Args:
      weights: latent weights of any shape.
      codebook: [K], in any order. With a mask, entry 0 belongs to pruned weights and is not used.
      mask: bool, of the weights' shape, True = kept. Pruned weights are 0 and have no gradient.

    Example:
        >>> from compress import quantize
        >>> weights, codebook = jnp.array([0.9, 1.2, 2.8]), jnp.array([0.0, 1.0, 3.0])
        >>> quantize.fake_clusters(weights, codebook).tolist()
        [1.0, 1.0, 3.0]
        >>> loss = lambda codebook: quantize.fake_clusters(weights, codebook).sum()
        >>> jax.grad(loss)(codebook).tolist()  # summed over each cluster
        [0.0, 2.0, 1.0]
    """
    codebook = jnp.sort(codebook if mask is None else codebook[1:])
    value = codebook[nearest(codebook, jax.lax.stop_gradient(weights))].astype(weights.dtype)
    inside = (weights >= codebook[0]) & (weights <= codebook[-1])
    shared = straight_through(value, jnp.where(inside, weights, 0))
    return shared if mask is None else jnp.where(mask, shared, 0)


@functools.partial(jax.jit, static_argnames="size")
def _on_line(
    line: jax.Array, count: jax.Array, size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns centroids of a sorted line, the borders between them, and whether they converged."""
    start = _start(line, count, size, "linear", None)
    centroids, converged = lloyd.run(line, count, jnp.sort(start), jnp.int32(ITERATIONS))
    return centroids, lloyd.borders(centroids), converged


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
    centroids, converged = lloyd.run(line, count, centroids, iterations)
    indices = nearest(centroids, weights)
    if mask is not None:
        indices = jnp.where(mask, indices + 1, 0)
        centroids = jnp.pad(centroids, (1, 0))
    indices = indices.astype(jnp.uint8 if bits <= 8 else jnp.uint16)
    return Clusters(centroids, indices, mask, converged)


def _start(
    line: jax.Array, count: jax.Array, size: int, init: str, key: jax.Array | None
) -> jax.Array:
    """Returns the first centroids [K], for the first `count` weights of a sorted line [N].

    They are 0 if the count is 0.
    """
    order = jnp.arange(size, dtype=jnp.int32)
    last = jnp.maximum(count - 1, 0)
    if init == "linear":
        start = jnp.linspace(line[0], line[last], size)
    elif init == "density":  # ⌊count (2 i + 1) / 2 K⌋, in two parts that fit 32 bits
        whole, rest = jnp.divmod(count, 2 * size)
        share = (2 * order + 1).astype(jnp.float32) / (2 * size)
        place = whole * (2 * order + 1) + jnp.floor(rest * share).astype(jnp.int32)
        start = line[jnp.clip(place, 0, last)]
    else:
        assert key is not None  # `kmeans` has checked it
        drawn = jax.random.uniform(key, line.shape)
        drawn = jnp.where(jnp.arange(line.size) < count, drawn, 2)
        start = line[jnp.argsort(drawn)[jnp.minimum(order, last)]]
    return jnp.where(count > 0, start, 0)
