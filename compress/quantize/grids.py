"""Evenly spaced values: integers, a scale and a zero point. Read `uniform` first."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.quantize import ranges, slices
from compress.quantize.straight_through_estimator import straight_through
from groundwork.numerics import checks


class Grid(NamedTuple):
    """Where values may lie: (k − zero_point) × scale for the integers k = lowest … highest."""

    scale: jax.Array  # [], or size 1 on all axes but one
    zero_point: jax.Array  # scale's shape, int32
    lowest: jax.Array  # [] int32
    highest: jax.Array  # [] int32


class Uniform(NamedTuple):
    """(values − zero_point) × scale are the weights."""

    values: jax.Array  # weights' shape: int8 or int16 symmetric, uint8 or uint16 affine
    scale: jax.Array  # [], or size 1 on all axes but one
    zero_point: jax.Array  # scale's shape, values' dtype


def uniform(
    weights: jax.Array,
    bits: int,
    symmetric: bool = True,
    axis: int | None = None,
    range: str = "minmax",
    share: float = ranges.SHARE,
) -> Uniform:
    """Rounds weights to integers: clip(round(weights / scale) + zero_point), half to even.

    Zero is exact. Works under jit and vmap.

    Args:
      weights: any shape; computed in float32 unless they are float64.
      bits: 2 … 16. The integers have 8 bits up to 8, and 16 above.
      symmetric: integers −(2**(bits − 1) − 1) … 2**(bits − 1) − 1 with zero point 0; otherwise
        affine, 0 … 2**bits − 1 over a range that is widened to include zero.
      axis: one scale for each index of this axis; None for a single one.
      range: what the integers span: `minmax` all weights, `percentile` all but the outermost,
        `mse` the one of 100 ranges that has the least squared error (see `ranges.limits`).
      share: of `percentile`: the share of weights below the upper limit.

    Raises:
      ValueError: the weights are empty or (where values are known) not finite or too large; the
        bits are outside 2…16; there is no such axis; the range is unknown; the share is outside
        (0.5, 1].

    Source: Jacob et al., arXiv:1712.05877, Section 2.1 (affine) and 3 (zero point); Krishnamoorthi,
    arXiv:1806.08342, Sections 2.1 to 3 (symmetric; per channel). Departs: symmetric leaves out
    −2**(bits − 1), so that −w always has the negative of w's integer.

    Example:
        >>> from compress import quantize
        >>> stored = quantize.uniform(jnp.array([-1.5, 0.2, 0.6, 1.0]), bits=3)  # −3 … 3
        >>> stored.values.tolist(), float(stored.scale)
        ([-3, 0, 1, 2], 0.5)
    """
    weights = checks.weights(weights)
    chosen = grid(weights, bits, symmetric, axis, range, share)
    dtype = integers(bits, symmetric)
    return Uniform(
        on_grid(weights, chosen).astype(dtype), chosen.scale, chosen.zero_point.astype(dtype)
    )


def grid(
    weights: jax.Array,
    bits: int,
    symmetric: bool = True,
    axis: int | None = None,
    range: str = "minmax",
    share: float = ranges.SHARE,
) -> Grid:
    """Returns the grid of `uniform`, for `fake_quantize`; arguments and errors are the same.

    Example:
        >>> from compress import quantize
        >>> grid = quantize.grid(jnp.array([[3.0, 0.5], [-1.0, -1.5]]), bits=3, axis=-1)
        >>> grid.scale.tolist(), int(grid.lowest), int(grid.highest)  # one scale for each column
        ([[1.0, 0.5]], -3, 3)
    """
    weights = checks.weights(weights)
    bits = checks.bits(bits, 2, 16)
    reduced = checks.others(axis, weights.ndim)
    checks.name("range", range, ranges.RANGES)
    share = checks.fraction("share", share, 0.5)
    return _grid(weights, share, bits, bool(symmetric), reduced, axis is not None, range)


def between(low: jax.Array, high: jax.Array, bits: int, symmetric: bool) -> Grid:
    """Returns the grid of a range, which is widened to include zero.

    A range of nothing but zero has scale 1.

    Args:
      low: the least value, any shape.
      high: the greatest value, of the same shape.
      bits: 2 … 16.
      symmetric: about zero, out to the larger of the two magnitudes.
    """
    if symmetric:
        highest = 2 ** (bits - 1) - 1
        scale = _scale(jnp.maximum(jnp.abs(low), jnp.abs(high)) / highest)
        zero_point = jnp.zeros(scale.shape, jnp.int32)
        return Grid(scale, zero_point, jnp.int32(-highest), jnp.int32(highest))
    highest = 2**bits - 1
    low, high = jnp.minimum(low, 0), jnp.maximum(high, 0)
    scale = _scale(high / highest - low / highest)
    zero_point = jnp.clip(jnp.round(-low / scale), 0, highest).astype(jnp.int32)
    return Grid(scale, zero_point, jnp.int32(0), jnp.int32(highest))


def integers(bits: int, symmetric: bool) -> jnp.dtype:
    """Returns the dtype that holds integers of so many bits."""
    return jnp.dtype(f"{'' if symmetric else 'u'}int{8 if bits <= 8 else 16}")


@jax.jit
def on_grid(values: jax.Array, grid: Grid) -> jax.Array:
    """Returns the integers of values as floats: rounded half to even, then clipped."""
    return jnp.clip(_rounded(values, grid), grid.lowest, grid.highest)


@jax.jit
def dequantize(stored: Uniform) -> jax.Array:
    """Returns the weights in the scale's dtype. Zero is exact, and the scale has a gradient."""
    ndim = stored.values.ndim
    scale, zero_point = (slices.over(part, ndim) for part in (stored.scale, stored.zero_point))
    return _steps(stored.values, zero_point, scale.dtype) * scale


def fake_quantize(values: jax.Array, grid: Grid) -> jax.Array:
    """Moves values to their nearest points of the grid, and can be trained through.

    The gradient passes where the rounded integer needed no clipping, and is zero elsewhere. The
    grid has no gradient. The computation is in the scale's precision; the result has the dtype of
    the values.

    Args:
      values: any shape that the scale fits.
      grid: as `grid` (for weights) or `activations.calibrate` gives it.

    Source: Jacob et al., arXiv:1712.05877, Section 3; the zero outside is that of equation 4 of
    Hubara et al., arXiv:1602.02830.

    Example:
        >>> from compress import quantize
        >>> grid = quantize.grid(jnp.array([-1.5, 1.5]), bits=3)  # −1.5, −1, … 1.5
        >>> values = jnp.array([0.6, -1.1, 4.0])
        >>> quantize.fake_quantize(values, grid).tolist()
        [0.5, -1.0, 1.5]
        >>> jax.grad(lambda values: quantize.fake_quantize(values, grid).sum())(values).tolist()
        [1.0, 1.0, 0.0]
    """
    grid = jax.lax.stop_gradient(grid)
    wide = jax.lax.stop_gradient(values).astype(grid.scale.dtype)
    steps = _rounded(wide, grid)
    inside = (steps >= grid.lowest) & (steps <= grid.highest)
    kept = jnp.clip(steps, grid.lowest, grid.highest) - grid.zero_point
    return straight_through((kept * grid.scale).astype(values.dtype), jnp.where(inside, values, 0))


@functools.partial(jax.jit, static_argnames=("bits", "symmetric", "reduced", "keepdims", "range"))
def _grid(
    weights: jax.Array,
    share: jax.Array,
    bits: int,
    symmetric: bool,
    reduced: tuple[int, ...],
    keepdims: bool,
    range: str,
) -> Grid:
    def error(low: jax.Array, high: jax.Array) -> jax.Array:
        tried = between(low, high, bits, symmetric)
        rounded = (on_grid(weights, tried) - tried.zero_point) * tried.scale
        return jnp.sum(jnp.square(weights - rounded), axis=reduced, keepdims=True)

    low, high = ranges.limits(weights, range, reduced, share, symmetric, error)
    grid = between(low, high, bits, symmetric)
    if keepdims:
        return grid
    return grid._replace(scale=grid.scale.reshape(()), zero_point=grid.zero_point.reshape(()))


def _scale(scale: jax.Array) -> jax.Array:
    """Returns the scale, or 1 where it is too small for a normal float, so that all is 0 there."""
    return jnp.where(scale >= jnp.finfo(scale.dtype).tiny, scale, 1)


def _rounded(values: jax.Array, grid: Grid) -> jax.Array:
    return jnp.round(values / grid.scale) + grid.zero_point


def _steps(values: jax.Array, zero_point: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return values.astype(dtype) - zero_point.astype(dtype)
