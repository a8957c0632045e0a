"""Which anchor is responsible for which object of an image."""

# A anchors, M objects

import jax
import jax.numpy as jnp
from jax import lax

from groundwork.detection.boxes import overlaps


def responsible(anchors: jax.Array, truths: jax.Array) -> jax.Array:
    """Returns the place of each object's anchor, [M] int32; −1 where there is no object.

    In the order of the truths, an object takes the free anchor that overlaps it most. If no free
    one overlaps, it takes the one whose four numbers are nearest to its own, by the sum of squares.
    Ties fall to the lower place.

    Args:
      anchors: [A, 4], at least as many as there are objects.
      truths: [M, 5], see the package.

    Source: the code of Wu et al., BichenWuUCB/squeezeDet; the paper (arXiv:1612.01051, Section 3.3)
    says that the anchor with the greatest overlap is responsible, but not which one is if two
    objects have the same.
    """
    boxes, there = truths[:, :4], truths[:, 4] >= 0
    shared = overlaps(anchors[None], boxes[:, None])  # [M, A]
    squares = jnp.sum((anchors[None] - boxes[:, None]) ** 2, -1)

    def take(taken: jax.Array, one: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        overlap, square, exists = one
        overlap = jnp.where(taken, 0.0, overlap)
        nearest = jnp.argmin(jnp.where(taken, jnp.inf, square))
        place = jnp.where(jnp.max(overlap) > 0, jnp.argmax(overlap), nearest).astype(jnp.int32)
        place = jnp.where(exists, place, -1)
        return taken | (jnp.arange(len(taken)) == place), place

    none = shared[0] < 0  # all False; under shard_map it varies by device, as what follows does
    return lax.scan(take, none, (shared, squares, there))[1]
