"""Grids for activations, from batches of them. Read `calibrate` first."""

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
    """Returns a grid for activations like these, for `fake_quantize(activations, grid)`.

    Args:
      batches: arrays of one rank; their sizes may differ. `percentile` and `mse` hold all of them
        at once.
      bits: 2 … 16.
      symmetric: as for `uniform`.
      axis: one scale for each index of this axis; None for a single one.
      range: `minmax`: the least and the greatest value of all batches; `moving`: moving averages of
        the least and the greatest value of each batch, decay × average + (1 − decay) × new, which
        start with the first batch and weigh the last one most; `percentile`, `mse`: as for
        `uniform`, with all batches taken as one.
      share: of `percentile`.
      decay: of `moving`, in (0, 1].

    Raises:
      ValueError: there is no batch, or a batch is empty or (where values are known) not finite; an
        argument is outside its range, as for `uniform`; the batches differ in rank or in the size
        of the axis.

    Source: Jacob et al., arXiv:1712.05877, Section 3.1 (moving averages).

    Example:
        >>> from compress import quantize
        >>> batches = [jnp.array([0.0, 1.0]), jnp.array([0.5, 3.0])]  # after ReLU
        >>> grid = quantize.calibrate(batches, bits=2)  # 0, 1, 2 and 3
        >>> quantize.fake_quantize(jnp.array([0.4, 0.6, 2.2, 9.0]), grid).tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    bits = checks.bits(bits, 2, 16)
    checks.name("range", range, RANGES)
    decay = checks.fraction("decay", decay, 0)
    checked = [arrays.floats(batch, f"batch {i}") for i, batch in enumerate(batches)]
    if not checked:
        raise ValueError("no batch to calibrate with")
    reduced = checks.others(axis, checked[0].ndim)
    _check_alike(checked, axis)
    if range in ("percentile", "mse"):
        return _grid_of_all(checked, bits, symmetric, axis, range, share)
    keepdims = axis is not None
    low = [jnp.min(batch, axis=reduced, keepdims=keepdims) for batch in checked]
    high = [jnp.max(batch, axis=reduced, keepdims=keepdims) for batch in checked]
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
        if batch.ndim != len(first) or (axis is not None and batch.shape[axis] != first[axis]):
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
    grid = grids.grid(jnp.concatenate(rows, axis=1), bits, symmetric, 0, range, share)
    return grid._replace(scale=grid.scale.reshape(shape), zero_point=grid.zero_point.reshape(shape))
