"""Weights that share values at the least cost of squared error and bits. Read `rate_distortion`."""

# N weights, K values of which the first is zero

from typing import Any

import jax.numpy as jnp
import numpy as np

from compress.coding import adaptive
from compress.quantize.k_means import Clusters, kmeans
from groundwork.numerics import checks

ROUNDS = 4  # of lengths, assignment and values, unless the caller says otherwise


def rate_distortion(
    weights: Any,
    bits: int,
    rate: float,
    importance: Any = None,
    mask: Any = None,
    codebook: Any = None,
    rounds: int = ROUNDS,
) -> Clusters:
    """Makes the weights of a kernel share 2**bits values, zero among them, that cost few bits.

    Each weight w gets the value c with the least importance × (w − c)² + rate × (bits of c). A
    value takes what the file's adaptive code spends: at its place for being kept or zero, given the
    entries before it, and by its frequency among the kept ones. Then each value but zero becomes
    the mean of its weights, by importance, and all is repeated. A value without weights stays.

    Args:
      weights: any shape; host or device arrays. It does not run under jit.
      bits: 1 … 16, as of `kmeans` with a mask: one of the 2**bits values is zero.
      rate: λ ≥ 0, what a bit costs, in importance × squared weights.
      importance: ≥ 0, of the weights' shape, such as squared gradients; None: 1 each.
      mask: bool, of the same shape, True = kept. Pruned weights stay zero. None: all are kept.
      codebook: [2**bits] to begin with, entry 0 for zero; None: that of `kmeans`.
      rounds: ≥ 0, of lengths, assignment and values. With 0 the values are the given ones, and each
        weight gets the nearest that is not zero.

    Returns:
      Clusters whose mask is False wherever a weight is zero, by `mask` or by choice.

    Raises:
      ValueError: an argument is out of range or of another shape.

    Source: Chou, Lookabaugh & Gray 1989 (entropy-constrained quantisation); Wiedemann et al.,
    arXiv:1907.11900, Section III-B. Departs: values are free (the paper has a grid), the lengths
    come from the assignment before, not from a coder on its way, and all are assigned at once.

    Example:
        >>> from compress import quantize
        >>> weights = np.array([0.125, 1.0, -1.25, 0.125, 1.25, -0.75])
        >>> for rate in (0.0, 0.01):  # where a bit costs something, small weights are not worth it
        ...     stored = quantize.rate_distortion(weights, bits=2, rate=rate)
        ...     print(quantize.dequantize(stored).tolist())
        [0.125, 1.125, -1.0, 0.125, 1.125, -1.0]
        [0.0, 1.125, -1.0, 0.0, 1.125, -1.0]
    """
    bits = checks.bits(bits, 1, 16)
    given = np.asarray(weights)
    kept = (
        np.ones(given.shape, bool) if mask is None else np.asarray(checks.mask(mask, given.shape))
    )
    if not (np.isfinite(rate) and rate >= 0) or rounds < 0:
        raise ValueError(f"rate={rate} and rounds={rounds} must not be below 0")
    values = _values(given, bits, kept, codebook)
    weight = np.ones(given.shape) if importance is None else np.asarray(importance, np.float64)
    if weight.shape != given.shape or not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError(f"importance must be {given.shape} numbers ≥ 0, not {weight.shape}")
    line = np.where(kept, given, 0).astype(np.float64)
    indices = assign(line, values, np.append(np.inf, np.zeros(values.size - 1)), 0.0, weight)
    indices[~kept] = 0
    for _ in range(rounds):
        zero, one = _place_bits(indices, values)
        lengths = _symbol_bits(indices, values.size)
        places = one - zero  # what it takes more to be kept
        indices = assign(line, values, lengths, rate, weight, places)
        indices[~kept] = 0
        values = _means(line, indices, values, weight)
    order = np.append(0, 1 + np.argsort(values[1:], kind="stable"))
    indices = np.argsort(order)[indices].astype(np.uint8 if bits <= 8 else np.uint16)
    dtype = np.result_type(given.dtype, np.float32)
    return Clusters(
        jnp.asarray(values[order].astype(dtype)),
        jnp.asarray(indices),
        jnp.asarray(indices > 0),
        jnp.asarray(True),
    )


def assign(
    weights: np.ndarray,
    values: np.ndarray,
    lengths: np.ndarray,
    rate: float,
    importance: np.ndarray,
    places: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Returns the index of each weight's cheapest value; of equal ones the first.

    Args:
      weights: [...], float64.
      values: [K]; entry 0 is zero.
      lengths: [K] bits of each value, infinite for one that must not be used.
      rate: λ, the cost of a bit.
      importance: [...], of the weights.
      places: bits that any value but zero takes beside its length, [...] or one number.
    """
    best = np.full(weights.shape, np.inf)
    indices = np.zeros(weights.shape, np.int64)
    for index, (value, length) in enumerate(zip(values, lengths, strict=True)):
        if not np.isfinite(length):
            continue
        cost = importance * (weights - value) ** 2 + rate * (length + (places if index else 0.0))
        better = cost < best
        best, indices = np.where(better, cost, best), np.where(better, index, indices)
    return indices


def _values(weights: np.ndarray, bits: int, kept: np.ndarray, codebook: Any) -> np.ndarray:
    """Returns [2**bits] values to begin with, in float64, the first of which is zero."""
    if codebook is None:
        codebook = kmeans(jnp.asarray(weights), bits, jnp.asarray(kept)).codebook
    values = np.array(codebook, np.float64)
    if values.shape != (2**bits,) or not np.isfinite(values).all():
        raise ValueError(f"{2**bits} finite values are needed, not shape {values.shape}")
    values[0] = 0.0
    return values


def _place_bits(indices: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bits of being zero and of being kept, at each place."""
    chances = adaptive.chances(np.sign(np.where(indices > 0, values[indices], 0.0)), indices > 0)
    return -np.log2(1 - chances), -np.log2(chances)


def _symbol_bits(indices: np.ndarray, size: int) -> np.ndarray:
    """Returns [K] bits by frequency among the kept; one that is not used counts as half a time."""
    counts = np.maximum(np.bincount(indices.ravel(), minlength=size)[1:], 0.5)
    return np.append(0.0, np.log2(counts.sum() / counts))


def _means(
    weights: np.ndarray, indices: np.ndarray, values: np.ndarray, importance: np.ndarray
) -> np.ndarray:
    """Returns the mean of each value's weights, by importance; zero and unused ones stay."""
    at = indices.ravel()
    total = np.bincount(at, importance.ravel(), values.size)
    moved = np.bincount(at, (importance * weights).ravel(), values.size)
    new = np.where(total > 0, moved / np.where(total > 0, total, 1), values)
    new[0] = 0.0
    return new
