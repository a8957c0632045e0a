"""What a network detects: the likeliest boxes, without those that show the same object."""

# B batch, A anchors, C classes, K detections

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from groundwork.detection.anchors import Grid
from groundwork.detection.boxes import changed, clipped, overlaps


class Detections(NamedTuple):
    """The detections of each image, the likeliest first; K of them, whatever there is."""

    boxes: jax.Array  # [B, K, 4], within the image
    scores: jax.Array  # [B, K] in [0, 1]; 0 where there is nothing
    classes: jax.Array  # [B, K] int32


def detections(
    outputs: jax.Array,
    grid: Grid,
    *,
    most: int = 64,
    least_score: float = 0.005,
    overlap: float = 0.4,
) -> Detections:
    """Returns what a network detects; it can be jitted, and sizes depend on no values.

    The score of an anchor is its confidence times the probability of its likeliest class. The
    `most` anchors of the highest scores remain; of two that show the same class and overlap by more
    than `overlap`, the one with the lower score goes, if the other one stays itself. Ties fall to
    the lower anchor. Scores that are NaN are none.

    Args:
      outputs: [B, A, 5 + C], see the package.
      grid: whose anchors they are.
      most: K, if there are as many anchors.
      least_score: scores below it are none.
      overlap: intersection over union, in [0, 1].

    Source: Wu et al., arXiv:1612.01051, Section 3.2, with the numbers of the authors' code.
    """
    anchors = jnp.asarray(grid.anchors)
    if outputs.shape[1] != len(anchors):
        raise ValueError(f"there are {len(anchors)} anchors, but outputs of {outputs.shape[1]}")
    outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))

    def of_image(one: jax.Array) -> Detections:
        likely = jax.nn.softmax(one[:, 5:], -1)
        scores = jax.nn.sigmoid(one[:, 4]) * jnp.max(likely, -1)
        scores = jnp.where(scores >= least_score, scores, 0.0)  # and where they are NaN
        scores, places = lax.top_k(scores, min(most, len(anchors)))
        boxes = clipped(changed(anchors[places], one[places, :4]), grid.height, grid.width)
        classes = jnp.argmax(likely[places], -1).astype(jnp.int32)
        kept = not_suppressed(boxes, scores, classes, overlap)
        return _likeliest_first(Detections(boxes, jnp.where(kept, scores, 0.0), classes))

    return jax.vmap(of_image)(outputs)


def not_suppressed(
    boxes: jax.Array, scores: jax.Array, classes: jax.Array, overlap: float
) -> jax.Array:
    """Returns which of the boxes [K, 4], the likeliest first, stay in non-maximum suppression, [K].

    A box goes if it overlaps one before it that stays, of its class, by more than `overlap`; and so
    does one with a score of 0.
    """
    alike = (classes[:, None] == classes[None]) & (overlaps(boxes[:, None], boxes[None]) > overlap)

    def decide(place: jax.Array, kept: jax.Array) -> jax.Array:
        hidden = jnp.any(kept & alike[place] & (jnp.arange(len(kept)) < place))
        return kept.at[place].set(kept[place] & ~hidden)

    return lax.fori_loop(0, len(scores), decide, scores > 0)


def _likeliest_first(one: Detections) -> Detections:
    """Returns the detections of an image, those that are none last."""
    order = jnp.argsort(-one.scores, stable=True)
    return jax.tree.map(lambda leaf: leaf[order], one)
