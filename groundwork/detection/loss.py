"""The loss of SqueezeDet: boxes, confidences and classes of anchors. Read `losses` first."""

# B batch, A anchors, M objects of an image at most, C classes

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from groundwork.detection.boxes import changed, changes, overlaps
from groundwork.detection.responsible import responsible

FOUND = 0.5  # the overlap with the truth from which on a box counts as right


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights of the parts of the loss, all at least 0.

    Attributes:
      box: λ_bbox, of the squared errors of the changes.
      positive: λ⁺_conf, of the confidences of responsible anchors.
      negative: λ⁻_conf, of those of all others.
    """

    box: float = 5.0
    positive: float = 75.0
    negative: float = 100.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not value >= 0:
                raise ValueError(f"{name}={value} must be at least 0")


class Parts(NamedTuple):
    """The loss of each image, [B], in its parts; and the share of its objects that are right."""

    box: jax.Array
    positive: jax.Array
    negative: jax.Array
    classes: jax.Array
    right: jax.Array


def losses(
    outputs: jax.Array, truths: jax.Array, anchors: jax.Array, weights: Weights | None = None
) -> Parts:
    """Returns the loss of each image, in parts whose sum it is.

    With N objects of an image, I = 1 for responsible anchors and 0 for others, γ the confidence and
    p the probabilities of an anchor's classes, the parts are
    λ_bbox / N Σ I Σ (δ − δᴳ)²; λ⁺ / N Σ I (γ − γᴳ)²; λ⁻ / (A − N) Σ (1 − I) γ²; and
    1 / N Σ I (−log p_c) of the true class c. γᴳ is the overlap of the anchor's predicted box with
    the object's; no gradient goes through it. An image without objects has the third part alone.

    `right` is the share of an image's objects whose responsible anchor names the class and has a
    box that overlaps the object's by 0.5 at least; 1 if there are no objects. It knows nothing of
    false alarms.

    Args:
      outputs: [B, A, 5 + C], see the package; computed in float32 even if of a shorter type.
      truths: [B, M, 5], see the package.
      anchors: [A, 4].
      weights: by default the published ones.

    Raises:
      ValueError: outputs and anchors differ in number, or there are more objects than anchors.

    Source: Wu et al., arXiv:1612.01051, equation 3. Departs: N is that of each image, as the
    equation has it, where the authors' code divides by the objects of the whole batch; the
    cross-entropy is that of the equation, where their code adds that of the other classes' absence.
    """
    _check(outputs, truths, anchors)
    weights = weights or Weights()
    outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
    return jax.vmap(lambda one, objects: _of_image(one, objects, anchors, weights))(outputs, truths)


def _of_image(outputs: jax.Array, truths: jax.Array, anchors: jax.Array, weights: Weights) -> Parts:
    places = responsible(anchors, truths)  # [M]
    there = places >= 0
    own, boxes = anchors[places], truths[:, :4]  # of no object: the last anchor, and not counted
    boxes = jnp.where(there[:, None], boxes, own)  # whose logarithms are finite
    predicted, confidence = outputs[places], jax.nn.sigmoid(outputs[:, 4])  # [M, 5 + C], [A]
    count = jnp.sum(there)
    shared = jax.lax.stop_gradient(overlaps(changed(own, predicted[:, :4]), boxes))
    labels = jnp.where(there, truths[:, 4], 0).astype(jnp.int32)
    entropies = -jnp.take_along_axis(jax.nn.log_softmax(predicted[:, 5:]), labels[:, None], 1)[:, 0]
    free = jnp.ones_like(confidence).at[jnp.where(there, places, len(anchors))].set(0, mode="drop")

    def mean(of_objects: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(there, of_objects, 0.0)) / jnp.maximum(count, 1)

    right = (shared >= FOUND) & (jnp.argmax(predicted[:, 5:], -1) == labels)
    return Parts(
        box=weights.box * mean(jnp.sum((predicted[:, :4] - changes(own, boxes)) ** 2, -1)),
        positive=weights.positive * mean((confidence[places] - shared) ** 2),
        negative=weights.negative
        * jnp.sum(free * confidence**2)
        / jnp.maximum(len(anchors) - count, 1),
        classes=mean(entropies),
        right=jnp.where(count > 0, mean(right.astype(jnp.float32)), 1.0),
    )


def _check(outputs: jax.Array, truths: jax.Array, anchors: jax.Array) -> None:
    if truths.ndim != 3 or truths.shape[-1] != 5:
        raise ValueError(
            f"targets must be [B, M, 5], centre x, centre y, width, height and class, not "
            f"{truths.shape}"
        )
    if outputs.ndim != 3 or outputs.shape[-1] < 6:
        raise ValueError(
            f"outputs must be [B, anchors, 5 + classes], as squeezedet's are, not {outputs.shape}"
        )
    if outputs.shape[1] != len(anchors):
        raise ValueError(
            f"the network has {outputs.shape[1]} anchors and the loss {len(anchors)}: its grid "
            "must be that of the network and of the images"
        )
    if truths.shape[1] > len(anchors):
        raise ValueError(f"{truths.shape[1]} objects are more than {len(anchors)} anchors")
