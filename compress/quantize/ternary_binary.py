"""Weights of three values or of two. Read `ternary` and `binary` first."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.quantize.straight_through_estimator import straight_through
from groundwork.numerics import arrays, checks

SCALES = ("trained", "twn")
THRESHOLDS = {"trained": 0.05, "twn": 0.7}  # of max |w|; of mean |w|
RANGES = {"trained": "[0, 1]", "twn": "[0, ∞)"}  # of thresholds


class Ternary(NamedTuple):
    """positive where the sign is 1, −negative where it is −1, exactly 0 where it is 0."""

    signs: jax.Array  # weights' shape, int8 in {−1, 0, 1}
    positive: jax.Array  # []
    negative: jax.Array  # [], not below 0 at the start


class Binary(NamedTuple):
    """signs × scale."""

    signs: jax.Array  # weights' shape, int8 in {−1, 1}
    scale: jax.Array  # [], or size 1 on all axes but one


def ternary(weights: jax.Array, scales: str = "trained", threshold: float | None = None) -> Ternary:
    """Weights as −negative, 0 or positive. Works under jit and vmap.

    Args:
      weights: any shape; computed in float32 unless they are float64.
      scales: `trained`: zero where |w| ≤ threshold × max |w|, and the two scales, which are to be
        trained, start at the mean |w| of their sides (0 for none), the least squared error for
        these signs; `twn`: zero where |w| ≤ threshold × mean |w|, and one scale for both sides,
        the mean |w| of what is not zero.
      threshold: in [0, 1] of max |w| for `trained` (0.05 by default), from 0 of mean |w| for
        `twn` (0.7 by default).

    Raises:
      ValueError: empty weights or (where values are known) not finite, unknown scales, a
        threshold outside its range.

    Source: Zhu, Han, Mao & Dally, arXiv:1612.01064, equations 6 and 9; Li, Zhang & Liu,
    arXiv:1605.04711, Section 2. The start of trained scales is ours.
    """
    weights = checks.weights(weights)
    size = jnp.abs(weights)
    signs = _signs(weights, scales, threshold)
    positive, negative = signs > 0, signs < 0
    if scales == "twn":
        scale = _mean(size, positive | negative)
        return Ternary(signs, scale, scale)
    return Ternary(signs, _mean(size, positive), _mean(size, negative))


def fake_ternary(
    weights: jax.Array,
    positive: jax.Array | None = None,
    negative: jax.Array | None = None,
    threshold: float | None = None,
) -> jax.Array:
    """Ternary weights to train through: with two trained scales, or analytic without them.

    Trained: the gradient of each scale is that of the ternary weights summed over its side, with
    the side's sign; latent weights get the gradient times their side's scale, times 1 in between.
    Analytic (`twn`): the scale is a constant, the gradient passes to all weights as it is.

    Args:
      weights: latent, any shape.
      positive: [], with `negative`; both None for analytic scales.
      negative: [].
      threshold: as `ternary` has it.

    Raises:
      ValueError: one scale without the other, or as `ternary`.

    Source: Zhu et al., arXiv:1612.01064, equations 6 to 8. Departs: equation 7 leaves out that
    ∂w/∂negative = −1 on its side, and the paper divides latent weights by their maximum first.
    """
    if (positive is None) != (negative is None):
        raise ValueError("positive and negative scales are given together or not at all")
    frozen = jax.lax.stop_gradient(weights)
    if positive is None or negative is None:
        stored = ternary(frozen, "twn", threshold)
        return straight_through(dequantize_ternary(stored).astype(weights.dtype), weights)
    signs = _signs(arrays.floats(frozen, "weights"), "trained", threshold)
    value = dequantize_ternary(Ternary(signs, jnp.asarray(positive), jnp.asarray(negative)))
    slope = jnp.where(signs > 0, positive, jnp.where(signs < 0, negative, 1))
    return straight_through(
        value.astype(weights.dtype), jax.lax.stop_gradient(slope).astype(weights.dtype) * weights
    )


def binary(
    weights: jax.Array,
    key: jax.Array | None = None,
    scaled: bool = False,
    axis: int | None = None,
) -> Binary:
    """Weights as ± scale; there is no zero, so pruned weights need their mask. For jit and vmap.

    Args:
      weights: any shape; computed in float32 unless they are float64.
      key: None: 1 where w ≥ 0; else 1 with the probability clip((w + 1) / 2, 0, 1), drawn.
      scaled: by mean |w|, the least squared error for the signs of w; else by 1.
      axis: one scale for each index of this axis (outputs: the last); None for one in all.

    Raises:
      ValueError: empty weights or (where values are known) not finite, an axis that is not there.

    Source: Courbariaux, Bengio & David, arXiv:1511.00363, equations 1 to 3; Rastegari et al.,
    arXiv:1603.05279, Section 3.1 (scaled).
    """
    weights = checks.weights(weights)
    reduced = checks.others(axis, weights.ndim)
    if key is None:
        up = weights >= 0
    else:
        chance = jnp.clip((weights + 1) / 2, 0, 1)
        up = jax.random.uniform(key, weights.shape, weights.dtype) < chance
    signs = jnp.where(up, 1, -1).astype(jnp.int8)
    scale = jnp.mean(jnp.abs(weights), axis=reduced, keepdims=axis is not None)
    return Binary(signs, scale if scaled else jnp.ones_like(scale))


def fake_binary(
    weights: jax.Array,
    key: jax.Array | None = None,
    scaled: bool = False,
    axis: int | None = None,
) -> jax.Array:
    """Binary weights to train through; arguments and errors are those of `binary`.

    Of the signs, the gradient passes where |w| ≤ 1 and is zero elsewhere; keep latent weights
    there by `clip` after each update. Of the scale, it is the true one.

    Source: Courbariaux et al., arXiv:1511.00363, Algorithm 1; the zero outside is equation 4 of
    Hubara et al., arXiv:1602.02830. Departs: Rastegari et al., arXiv:1603.05279, Section 3.1, have
    g/n for the part of the scale, whose derivative is sign(w)/n × Σ g × signs.
    """
    stored = binary(jax.lax.stop_gradient(weights), key, scaled, axis)
    inside = jnp.where(jnp.abs(weights) <= 1, weights, 0)
    signs = straight_through(stored.signs.astype(weights.dtype), inside)
    if not scaled:
        return signs
    reduced = checks.others(axis, weights.ndim)
    return signs * jnp.mean(jnp.abs(weights), axis=reduced, keepdims=axis is not None)


def clip(weights: jax.Array) -> jax.Array:
    """Latent weights of binary ones, to [−1, 1], as after each update of BinaryConnect."""
    return jnp.clip(weights, -1, 1)


def dequantize_ternary(stored: Ternary) -> jax.Array:
    """The weights in the scales' dtype; gradients of the scales are sums over their sides."""
    zero = jnp.zeros_like(stored.positive)
    below = jnp.where(stored.signs < 0, -stored.negative, zero)
    return jnp.where(stored.signs > 0, stored.positive, below)


def dequantize_binary(stored: Binary) -> jax.Array:
    """The weights in the scale's dtype."""
    return stored.signs.astype(stored.scale.dtype) * stored.scale


def _signs(weights: jax.Array, scales: str, threshold: float | None) -> jax.Array:
    checks.name("scales", scales, SCALES)
    threshold = THRESHOLDS[scales] if threshold is None else threshold
    most = 1.0 if scales == "trained" else math.inf
    if not 0 <= threshold <= most or math.isinf(threshold):
        raise ValueError(f"threshold {threshold} is outside {RANGES[scales]}")
    size = jnp.abs(weights)
    border = threshold * (jnp.max(size) if scales == "trained" else jnp.mean(size))
    return jnp.where(size > border, jnp.sign(weights), 0).astype(jnp.int8)


def _mean(size: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mean of the chosen entries, 0 where there are none."""
    total = jnp.sum(jnp.where(chosen, size, 0))
    return total / jnp.maximum(jnp.sum(chosen), 1).astype(size.dtype)
