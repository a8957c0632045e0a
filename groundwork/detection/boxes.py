"""Boxes (centre x, centre y, width, height): changes of anchors, and how far boxes overlap."""

import math
from typing import Any

import jax
import jax.numpy as jnp

LARGEST = math.log(1000 / 16)  # of a change of width or height: boxes are finite whatever it is


def changed(anchors: jax.Array, changes: jax.Array) -> jax.Array:
    """Returns the boxes [..., 4] that changes [..., 4] make of anchors [..., 4].

    x = x̂ + ŵ·δx, y = ŷ + ĥ·δy, w = ŵ·exp(δw), h = ĥ·exp(δh), where x̂, ŷ, ŵ, ĥ are the anchor's.
    Source: Wu et al., arXiv:1612.01051, equation 1. Departs: δw and δh above log(1000 / 16) count
    as that, so that nothing overflows; the authors' code continues the exponential by its tangent
    from 1 on instead.
    """
    centre = anchors[..., :2] + anchors[..., 2:] * changes[..., :2]
    size = anchors[..., 2:] * jnp.exp(jnp.minimum(changes[..., 2:], LARGEST))
    return jnp.concatenate([centre, size], -1)


def changes(anchors: jax.Array, boxes: jax.Array) -> jax.Array:
    """Returns the changes [..., 4] that make boxes [..., 4] of anchors [..., 4].

    Widths and heights must be positive. Source: Wu et al., arXiv:1612.01051, equation 2.
    """
    centre = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:]
    return jnp.concatenate([centre, jnp.log(boxes[..., 2:] / anchors[..., 2:])], -1)


def clipped(boxes: jax.Array, height: float, width: float) -> jax.Array:
    """Returns the parts of boxes [..., 4] that lie in an image; those outside have no area."""
    low, high = corners(boxes)
    most = jnp.asarray([width, height], boxes.dtype).reshape((1,) * (boxes.ndim - 1) + (2,))
    low, high = (jnp.clip(corner, 0.0, most) for corner in (low, high))
    return jnp.concatenate([(low + high) / 2, high - low], -1)


def overlaps(first: Any, second: Any) -> Any:
    """Returns intersection over union of boxes [..., 4] that broadcast, in [0, 1].

    It is 0 where both have no area. Boxes are JAX's or NumPy's arrays, and so is what is returned.
    """
    xp = first.__array_namespace__()  # jax.numpy, or numpy, which compiles nothing
    (low, high), (other_low, other_high) = corners(first), corners(second)
    sides = xp.maximum(xp.minimum(high, other_high) - xp.maximum(low, other_low), 0.0)
    intersection = sides[..., 0] * sides[..., 1]
    union = first[..., 2] * first[..., 3] + second[..., 2] * second[..., 3] - intersection
    return xp.where(union > 0, intersection / xp.where(union > 0, union, 1.0), 0.0)


def corners(boxes: Any) -> tuple[Any, Any]:
    """Returns the upper left and the lower right corners of boxes, (x, y) [..., 2] each."""
    half = boxes[..., 2:] / 2
    return boxes[..., :2] - half, boxes[..., :2] + half
