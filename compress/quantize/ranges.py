"""Which range of values the integers span: all, all but the outermost, or that of least error."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

RANGES = ("minmax", "percentile", "mse")
SHARE = 0.9999  # of `percentile`: the 99.99th, one of those tried in arXiv:2004.09602
TRIED = 100  # ranges that `mse` tries, evenly from 1/100 of all to all

Error = Callable[[jax.Array, jax.Array], jax.Array]


def limits(
    values: jax.Array,
    method: str,
    reduced: tuple[int, ...],
    share: jax.Array,
    symmetric: bool,
    error: Error,
) -> tuple[jax.Array, jax.Array]:
    """The least and greatest value to represent, size 1 on the reduced axes.

    `minmax`: of all values. `percentile`: symmetric ± the quantile `share` of |values|, affine the
    quantiles 1 − `share` and `share`, interpolated linearly. `mse`: `minmax`'s limits times
    i/100 for the i = 100 … 1 of least squared error of the rounded values, the largest of equals;
    both limits shrink alike, so that zero keeps its relative place.

    Args:
      values: any shape.
      method: of `RANGES`.
      reduced: axes over which a range is shared.
      share: in (0.5, 1], of `percentile`.
      symmetric: about zero.
      error: squared error of the values on the grid of two limits, of the limits' shape.

    Source: Wu et al., arXiv:2004.09602, Section 3.3 (percentile).
    """
    if method == "percentile" and symmetric:
        high = jnp.quantile(jnp.abs(values), share, axis=reduced, keepdims=True)
        return -high, high
    if method == "percentile":
        low = jnp.quantile(values, 1 - share, axis=reduced, keepdims=True)
        return low, jnp.quantile(values, share, axis=reduced, keepdims=True)
    low = jnp.min(values, axis=reduced, keepdims=True)
    high = jnp.max(values, axis=reduced, keepdims=True)
    if method == "minmax":
        return low, high

    def better(best: tuple[jax.Array, jax.Array], part: jax.Array):
        least, of = best
        found = error(part * low, part * high)
        return (jnp.minimum(found, least), jnp.where(found < least, part, of)), None

    parts = jnp.arange(TRIED, 0, -1).astype(values.dtype) / TRIED
    start = (jnp.full_like(low, jnp.inf), jnp.ones_like(low))
    (_, part), _ = jax.lax.scan(better, start, parts)
    return part * low, part * high
