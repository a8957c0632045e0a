"""Weights of three values or of two. Read `ternary` and `binary` first."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.quantize import slices
from compress.quantize.straight_through_estimator import straight_through
from groundwork.numerics import arrays, checks

SCALES = ("trained", "twn")
THRESHOLDS = {"trained": 0.05, "twn": 0.7}  # of max |w|; of mean |w|
RANGES = {"trained": "[0, 1]", "twn": "[0, ∞)"}  # of thresholds


class Ternary(NamedTuple):
    """A weight is `positive` if its sign is 1, −`negative` if it is −1, exactly 0 if it is 0."""

    signs: jax.Array  # weights' shape, int8 in {−1, 0, 1}
    positive: jax.Array  # []
    negative: jax.Array  # [], not below 0 at the start


class Binary(NamedTuple):
    """The weights are signs × scale."""

    signs: jax.Array  # weights' shape, int8 in {−1, 1}
    scale: jax.Array  # [], or size 1 on all axes but one


def ternary(weights: jax.Array, scales: str = "trained", threshold: float | None = None) -> Ternary:
    """Stores weights as −negative, 0 or positive. Works under jit and vmap.

    Args:
      weights: any shape; computed in float32 unless they are float64.
      scales: `trained`: zero where |w| ≤ threshold × max |w|. The two scales are to be trained, and
        start at the mean |w| of their sides (0 for an empty side), which is the least squared error
        for these signs. `twn`: zero where |w| ≤ threshold × mean |w|. One scale serves both sides,
        the mean |w| of the weights that are not zero.
      threshold: for `trained` a fraction of max |w| in [0, 1] (0.05 by default), for `twn` a
        multiple of mean |w|, at least 0 (0.7 by default).

    Raises:
      ValueError: the weights are empty or (where values are known) not finite, the scales are
        unknown, or the threshold is outside its range.

    Source: Zhu, Han, Mao & Dally, arXiv:1612.01064, equations 6 and 9; Li, Zhang & Liu,
    arXiv:1605.04711, Section 2. Departs: the start of trained scales is ours.

    Example:
        >>> from compress import quantize
        >>> stored = quantize.ternary(jnp.array([1.0, 3.0, 0.1, -4.0]))  # 0.1 is below 0.05 × 4
        >>> stored.signs.tolist(), float(stored.positive), float(stored.negative)
        ([1, 1, 0, -1], 2.0, 4.0)
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
    """Returns ternary weights that can be trained through, with trained or analytic scales.

    Trained scales: the gradient of each scale is that of the ternary weights, summed over its side
    with the sign of the side. Latent weights get the gradient times the scale of their side, or
    times 1 in between. Analytic scales (`twn`): the scale is a constant, and the gradient passes to
    all weights unchanged.

    Args:
      weights: latent weights of any shape.
      positive: [], the trained scale of the positive side; None, with `negative`, for analytic
        scales.
      negative: [], the trained scale of the negative side.
      threshold: as for `ternary`.

    Raises:
      ValueError: one scale is given without the other, or as `ternary`.

    Source: Zhu et al., arXiv:1612.01064, equations 6 to 8. Departs: equation 7 leaves out that
    ∂w/∂negative = −1 on its side, and the paper divides latent weights by their maximum first.

    Example:
        >>> from compress import quantize
        >>> weights = jnp.array([1.0, 3.0, 0.1, -4.0])
        >>> made = lambda weights: quantize.fake_ternary(weights, positive=2.0, negative=5.0)
        >>> made(weights).tolist()
        [2.0, 2.0, 0.0, -5.0]
        >>> jax.grad(lambda weights: made(weights).sum())(weights).tolist()  # scales, and 1 at 0.1
        [2.0, 2.0, 1.0, 5.0]
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
    """Stores weights as ± scale. Works under jit and vmap.

    There is no zero, so pruned weights still need their mask.

    Args:
      weights: any shape; computed in float32 unless they are float64.
      key: draws the signs: 1 with the probability clip((w + 1) / 2, 0, 1), otherwise −1. If it is
        None, nothing is drawn, and the sign is 1 where w ≥ 0.
      scaled: the scale is mean |w|, the least squared error for the signs of w; otherwise it is 1.
      axis: one scale for each index of this axis (of outputs: the last); None for a single one.

    Raises:
      ValueError: the weights are empty or (where values are known) not finite, or there is no such
        axis.

    Source: Courbariaux, Bengio & David, arXiv:1511.00363, equations 1 to 3; Rastegari et al.,
    arXiv:1603.05279, Section 3.1 (scaled).

    Example:
        >>> from compress import quantize
        >>> stored = quantize.binary(jnp.array([0.5, -1.5, 0.0, -2.0]), scaled=True)
        >>> stored.signs.tolist(), float(stored.scale)
        ([1, -1, 1, -1], 1.0)
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
    """Returns binary weights that can be trained through; arguments and errors are as for `binary`.

    The gradient passes through the signs where |w| ≤ 1 and is zero elsewhere, so keep latent
    weights in that range by `clip` after each update. The gradient through the scale is the true
    one.

    Source: Courbariaux et al., arXiv:1511.00363, Algorithm 1; the zero outside is equation 4 of
    Hubara et al., arXiv:1602.02830. Departs: Rastegari et al., arXiv:1603.05279, Section 3.1, have
    g/n for the part of the scale, whose derivative is sign(w)/n × Σ g × signs.

    Example:
        >>> from compress import quantize
        >>> weights = jnp.array([0.5, -0.25, 2.0])
        >>> quantize.fake_binary(weights).tolist()
        [1.0, -1.0, 1.0]
        >>> jax.grad(lambda weights: quantize.fake_binary(weights).sum())(weights).tolist()
        [1.0, 1.0, 0.0]
    """
    stored = binary(jax.lax.stop_gradient(weights), key, scaled, axis)
    inside = jnp.where(jnp.abs(weights) <= 1, weights, 0)
    signs = straight_through(stored.signs.astype(weights.dtype), inside)
    if not scaled:
        return signs
    reduced = checks.others(axis, weights.ndim)
    return signs * jnp.mean(jnp.abs(weights), axis=reduced, keepdims=axis is not None)


def clip(weights: jax.Array) -> jax.Array:
    """Clips latent weights to [−1, 1], as BinaryConnect does after each update.

    Example:
        >>> from compress import quantize
        >>> quantize.clip(jnp.array([-1.5, 0.5, 2.0])).tolist()
        [-1.0, 0.5, 1.0]
    """
    return jnp.clip(weights, -1, 1)


def dequantize_ternary(stored: Ternary) -> jax.Array:
    """Returns the weights in the scales' dtype. Each scale's gradient is a sum over its side."""
    ndim = stored.signs.ndim
    positive, negative = (slices.over(part, ndim) for part in (stored.positive, stored.negative))
    below = jnp.where(stored.signs < 0, -negative, jnp.zeros_like(positive))
    return jnp.where(stored.signs > 0, positive, below)


def dequantize_binary(stored: Binary) -> jax.Array:
    """Returns the weights in the scale's dtype."""
    return stored.signs.astype(stored.scale.dtype) * slices.over(stored.scale, stored.signs.ndim)


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
    """Returns the mean of the chosen entries, or 0 if there are none."""
    total = jnp.sum(jnp.where(chosen, size, 0))
    return total / jnp.maximum(jnp.sum(chosen), 1).astype(size.dtype)
