"""Ranges of activations, from batches of them. Read `calibrate` first."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from compress.quantize import grids, ranges
from groundwork.numerics import arrays, checks

RANGES = ("minmax", "moving", "percentile", "mse")


def calibrate(
    batches: Iterable[jax.Array],
    bits: int,
    symmetric: bool = False,
    axis: int | None = None,
    range: str = "minmax",
    share: float = ranges.SHARE,
    decay: float = 0.9,
) -> grids.Grid:
    """A grid for activations like these; then `fake_quantize(activations, grid)`.

    Args:
      batches: arrays of one rank; batches of other sizes are fine. For `percentile` and `mse` all
        are held at once.
      bits: 2 … 16.
      symmetric: as `uniform` has it.
      axis: one scale for each index of this axis; None for one in all.
      range: `minmax`: the least and greatest value of all batches; `moving`: averages of each
        batch's least and greatest, the last batch weighing most: decay × average +
        (1 − decay) × new, from the first batch's own; `percentile`, `mse`: as `uniform` has
        them, of all batches as one.
      share: of `percentile`.
      decay: of `moving`, in (0, 1].

    Raises:
      ValueError: no batch, an empty one or (where values are known) not finite; arguments as for
        `uniform`, batches that differ in rank or in the size of the axis.

    Source: Jacob et al., arXiv:1712.05877, Section 3.1 (moving averages).
    """
    bits = checks.bits(bits, 2, 16)
    checks.name("range", range, RANGES)
    decay = checks.fraction("decay", decay, 0)
    found = [arrays.floats(batch, f"batch {i}") for i, batch in enumerate(batches)]
    if not found:
        raise ValueError("no batch to calibrate with")
    reduced = checks.others(axis, found[0].ndim)
    _check_alike(found, axis)
    if range in ("percentile", "mse"):
        return _grid_of_all(found, bits, symmetric, axis, range, share)
    keepdims = axis is not None
    low = [jnp.min(batch, axis=reduced, keepdims=keepdims) for batch in found]
    high = [jnp.max(batch, axis=reduced, keepdims=keepdims) for batch in found]
    if range == "minmax":
        return grids.between(
            functools.reduce(jnp.minimum, low), functools.reduce(jnp.maximum, high), bits, symmetric
        )

    def moved(average: jax.Array, new: jax.Array) -> jax.Array:
        return decay * average + (1 - decay) * new

    low_average, high_average = functools.reduce(moved, low), functools.reduce(moved, high)
    return grids.between(low_average, high_average, bits, symmetric)


def _check_alike(batches: list[jax.Array], axis: int | None) -> None:
    first = batches[0].shape
    for i, batch in enumerate(batches):
        alike = batch.ndim == len(first) and (axis is None or batch.shape[axis] == first[axis])
        if not alike:
            raise ValueError(f"batch {i} has shape {batch.shape}, batch 0 {first}")


def _grid_of_all(
    batches: list[jax.Array],
    bits: int,
    symmetric: bool,
    axis: int | None,
    range: str,
    share: float,
) -> grids.Grid:
    if axis is None:
        values = jnp.concatenate([batch.ravel() for batch in batches])
        return grids.grid(values, bits, symmetric, None, range, share)
    size, shape = batches[0].shape[axis], [1] * batches[0].ndim
    shape[axis] = size
    rows = [jnp.moveaxis(batch, axis, 0).reshape(size, -1) for batch in batches]
    found = grids.grid(jnp.concatenate(rows, axis=1), bits, symmetric, 0, range, share)
    return found._replace(
        scale=found.scale.reshape(shape), zero_point=found.zero_point.reshape(shape)
    )
