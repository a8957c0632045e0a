"""The range that the integers span: of all values, of all but the outermost, of least error."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

RANGES = ("minmax", "percentile", "mse")
SHARE = 0.9999  # of `percentile`: the 99.99th, one of those tried in arXiv:2004.09602
TRIED = 100  # the ranges that `mse` tries, evenly spaced from 1/100 of the whole range to all of it

Error = Callable[[jax.Array, jax.Array], jax.Array]


def limits(
    values: jax.Array,
    method: str,
    reduced: tuple[int, ...],
    share: jax.Array,
    symmetric: bool,
    error: Error,
) -> tuple[jax.Array, jax.Array]:
    """Returns the least and the greatest value to represent, of size 1 on the reduced axes.

    `minmax` takes those of all values. `percentile` takes ± the quantile `share` of |values| if it
    is symmetric, and the quantiles 1 − `share` and `share` if it is affine, both interpolated
    linearly. `mse` multiplies the limits of `minmax` by each i/100, i = 100 … 1, and takes the
    limits for which the rounded values have the least squared error, the widest of equals. Both
    limits shrink alike, so that zero keeps its relative place.

    Args:
      values: any shape.
      method: one of `RANGES`.
      reduced: the axes that share a range.
      share: in (0.5, 1], of `percentile`.
      symmetric: about zero.
      error: (low, high) → squared error of the values on the grid of these limits, of their shape.

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

    def better(
        best: tuple[jax.Array, jax.Array], part: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        least, best_part = best
        new = error(part * low, part * high)
        return (jnp.minimum(new, least), jnp.where(new < least, part, best_part)), None

    parts = jnp.arange(TRIED, 0, -1).astype(values.dtype) / TRIED
    start = (jnp.full_like(low, jnp.inf), jnp.ones_like(low))
    (_, part), _ = jax.lax.scan(better, start, parts)
    return part * low, part * high
