"""Losses and what they count beside the loss itself. Read `Loss` first.

Sums are taken over examples (in a language model, over tokens) and divided at the end, so that
each example counts once, whatever the batches are.
"""

# B batch, L length of a sequence, C classes

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from groundwork import detection
from groundwork.errors import UserError, about, unknown
from groundwork.metric import ACCURACY, BITS, LOSS, Metric


class Counts(NamedTuple):
    """Sums over examples, to be divided at the end."""

    loss: jax.Array  # [] float32; of the cross-entropy, in nats
    examples: jax.Array  # [] int32
    measures: dict[str, jax.Array]  # name → [], such as the number of right answers

    def means(self) -> dict[str, Any]:
        """Returns the mean loss and the mean of each measure, by name."""
        sums = {"loss": self.loss, **self.measures}
        return {name: total / self.examples for name, total in sums.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """How networks do by what is no sum over examples. It rules nothing; reports show it.

    Attributes:
      score: answers and targets of all examples of a split, on the host (leaves [N, …], NumPy) →
        numbers by name, such as `{"mean_average_precision": 0.8}`; of one replicate.
      answer: outputs of a batch → what `score` takes of them, computed on the devices.
    """

    score: Callable[[Any, Any], Mapping[str, float]]
    answer: Callable[[Any], Any] = lambda outputs: outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of a batch, and what it counts.

    Attributes:
      count: outputs, targets, valid [B] → sums.
      measures: name → dtype of its sum.
      metric: the measure by which networks are judged, or the loss itself.
      uneven: whether examples may count differently, as sequences do by their tokens.
      judge: by what final networks are judged as well, if there is more.
    """

    count: Callable[[Any, Any, jax.Array], Counts]
    measures: Mapping[str, Any]
    metric: Metric = LOSS
    uneven: bool = False
    judge: Judge | None = None


def of_examples(function: Callable[[Any, Any], jax.Array], name: str = "the loss") -> Loss:
    """Returns the loss of a function (outputs, targets) → the losses of the examples, [B].

    Its metric is the loss itself. When it is traced, it raises a UserError if the function gives
    something else; `name` is what the error calls it.

    Example:
        >>> from groundwork.train import losses
        >>> loss = losses.of_examples(lambda outputs, targets: jnp.abs(outputs - targets))
        >>> outputs, targets = jnp.array([1.0, 5.0, 9.0]), jnp.array([2.0, 2.0, 0.0])
        >>> counts = loss.count(outputs, targets, jnp.array([True, True, False]))  # 1 + 3
        >>> float(counts.loss), int(counts.examples), float(counts.means()["loss"])
        (4.0, 2, 2.0)
    """

    def count(outputs: Any, targets: Any, valid: jax.Array) -> Counts:
        losses = jnp.asarray(function(outputs, targets))
        if losses.shape != valid.shape:
            raise UserError(
                f"{name} gives an array of shape {losses.shape} for a batch of {len(valid)}: one "
                f"loss for each example is needed, of shape {valid.shape}"
            )
        losses = losses.astype(jnp.promote_types(losses.dtype, jnp.float32))
        return Counts(jnp.sum(jnp.where(valid, losses, 0.0)), _examples(valid), {})

    return Loss(count=count, measures={})


def count_cross_entropy(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> Counts:
    """Returns the cross-entropies and right answers of the valid examples.

    Args:
      logits: [B, C]. The loss is computed in float32 even if they are of a shorter type.
      labels: [B] int, in [0, C).
      valid: [B] bool.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = jnp.argmax(logits, -1) == labels
    return Counts(
        loss=jnp.sum(jnp.where(valid, losses, 0.0)),
        examples=jnp.sum(valid, dtype=jnp.int32),
        measures={"accuracy": jnp.sum(right & valid, dtype=jnp.int32)},
    )


CROSS_ENTROPY = Loss(count=count_cross_entropy, measures={"accuracy": np.int32}, metric=ACCURACY)


def cross_entropy(label_smoothing: float = 0.0, tokens: bool = False) -> Loss:
    """Returns the cross-entropy of logits with integer labels; its metric is the accuracy.

    Args:
      label_smoothing: the share in [0, 1) of each target that all classes have evenly, in
        training and in evaluation.
      tokens: whether logits are [B, L, C] and labels [B, L]. Each token counts as an example;
        those with a negative label, such as padding, do not count.

    Raises:
      UserError: the share is outside [0, 1).

    Example:
        >>> from groundwork.train import losses
        >>> logits, labels = jnp.array([[0.0, 0.0], [0.0, 50.0]]), jnp.array([0, 1])
        >>> counts = jax.jit(losses.cross_entropy().count)(logits, labels, jnp.array([True, True]))
        >>> round(float(counts.loss), 3), int(counts.measures["accuracy"])  # log 2 + 0, both right
        (0.693, 2)
    """
    if not 0 <= label_smoothing < 1:
        raise UserError(f"loss_kwargs: label_smoothing={label_smoothing} must be in [0, 1)")
    if not label_smoothing and not tokens:
        return CROSS_ENTROPY

    def count(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> Counts:
        valid = valid.reshape(valid.shape + (1,) * (labels.ndim - 1)) & (labels >= 0)
        labels = jnp.where(valid, labels, 0)
        counts = count_cross_entropy(logits, labels, valid)
        if not label_smoothing:
            return counts
        answers = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        even = jnp.sum(jnp.where(valid, -jnp.mean(answers, -1), 0.0))
        loss = (1 - label_smoothing) * counts.loss + label_smoothing * even
        return counts._replace(loss=loss)

    return dataclasses.replace(CROSS_ENTROPY, count=count, uneven=tokens)


def language_model() -> Loss:
    """Returns the cross-entropy of logits [B, L, C] with the tokens that follow, [B, L].

    Each token counts as an example, and those with a negative label do not count, as in
    `cross_entropy`. The metric is `bits_per_character`, the mean of −log₂ of the share that the
    network gives the right token: lower is better, and log₂ C is what an even guess has. Of bytes
    (`data.kwargs={"unit": "bytes"}`) they are bits per byte. 2 to its power is the perplexity;
    `accuracy` is the share of tokens that are named first.

    Example:
        >>> from groundwork.train import losses
        >>> logits, labels = jnp.zeros((1, 3, 4)), jnp.array([[0, 3, -1]])  # an even guess of 4
        >>> counts = jax.jit(losses.language_model().count)(logits, labels, jnp.array([True]))
        >>> int(counts.examples), round(float(counts.means()["bits_per_character"]), 3)
        (2, 2.0)
    """
    of_tokens = cross_entropy(tokens=True)

    def count(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> Counts:
        if labels.ndim != 2 or logits.shape[:-1] != labels.shape:
            raise UserError(
                f"the outputs have the shape {logits.shape}, the targets {labels.shape}: "
                "loss=language_model needs [B, L, C] and [B, L]"
            )
        counts = of_tokens.count(logits, labels, valid)
        bits = {BITS.name: counts.loss / math.log(2)}
        return counts._replace(measures={**bits, **counts.measures})

    measures = {BITS.name: np.float32, **of_tokens.measures}
    return Loss(count=count, measures=measures, metric=BITS, uneven=True)


def mean_squared_error() -> Loss:
    """Returns the squared error, the mean over the numbers of each example's target [B, …].

    Example:
        >>> from groundwork.train import losses
        >>> outputs = jnp.array([[1.0, 2.0], [0.0, 0.0]])
        >>> targets = jnp.array([[1.0, 4.0], [0.0, 0.0]])
        >>> counts = losses.mean_squared_error().count(outputs, targets, jnp.array([True, True]))
        >>> float(counts.means()["mean_squared_error"])  # of 2 and 0
        1.0
    """

    def count(outputs: jax.Array, targets: jax.Array, valid: jax.Array) -> Counts:
        _check_same(outputs, targets)
        errors = jnp.square(outputs.astype(jnp.float32) - targets.astype(jnp.float32))
        loss = jnp.sum(jnp.where(valid, errors.reshape(len(valid), -1).mean(1), 0.0))
        return Counts(loss, _examples(valid), {"mean_squared_error": loss})

    metric = Metric("mean_squared_error", higher_is_better=False)
    return Loss(count=count, measures={metric.name: np.float32}, metric=metric)


def sigmoid_cross_entropy() -> Loss:
    """Returns the cross-entropy of C yes-or-no labels [B, C], the mean over an example's labels.

    Its metric is the share of labels that are right, where a logit above 0 says yes.

    Example:
        >>> from groundwork.train import losses
        >>> logits, labels = jnp.array([[3.0, -3.0], [3.0, 3.0]]), jnp.array([[1, 0], [1, 0]])
        >>> counts = losses.sigmoid_cross_entropy().count(logits, labels, jnp.array([True, True]))
        >>> float(counts.means()["label_accuracy"])  # only the last of four is wrong
        0.75
    """

    def count(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> Counts:
        _check_same(logits, labels)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        losses = optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))
        right = ((logits > 0) == (labels > 0.5)).astype(jnp.float32)
        means = [each.reshape(len(valid), -1).mean(1) for each in (losses, right)]
        loss, accuracy = (jnp.sum(jnp.where(valid, mean, 0.0)) for mean in means)
        return Counts(loss, _examples(valid), {"label_accuracy": accuracy})

    metric = Metric("label_accuracy", higher_is_better=True)
    return Loss(count=count, measures={metric.name: np.float32}, metric=metric)


def squeezedet(
    grid: str = "small",
    *,
    image: tuple[int, int] = (),  # type: ignore[assignment] # of the grid
    stride: int = 0,
    shapes: tuple[tuple[float, float], ...] = (),
    box: float = 5.0,
    positive: float = 75.0,
    negative: float = 100.0,
) -> Loss:
    """Returns the loss of detectors, `detection.losses`; mean average precision judges them.

    Outputs are [B, A, 5 + C], those of `squeezedet`, and targets [B, M, 5], boxes and classes, as
    `groundwork.detection` says. Its metric is the share of an image's objects that are right, the
    mean over images.

    Args:
      grid: one of `detection.GRIDS`, of whose anchors the next three settings replace some.
      image: height and width of images, in pixels.
      stride: height and width of a cell.
      shapes: width and height of each anchor of a cell.
      box: λ_bbox.
      positive: λ⁺_conf.
      negative: λ⁻_conf.

    Raises:
      UserError: there is no such grid, or a number is out of range.

    Example:
        >>> from groundwork.train import losses
        >>> loss = losses.squeezedet(image=(8, 8), stride=8, shapes=((4.0, 4.0),))  # one anchor
        >>> truths = jnp.array([[[4.0, 4.0, 4.0, 4.0, 0.0]]])  # there, and of the first class
        >>> outputs = jnp.array([[[0.0, 0.0, 0.0, 0.0, 0.0, 50.0, 0.0]]])  # found, half sure of it
        >>> counts = jax.jit(loss.count)(outputs, truths, jnp.array([True]))
        >>> float(counts.loss), float(counts.measures["object_accuracy"])  # 75 · (0.5 − 1)²
        (18.75, 1.0)
    """
    if grid not in detection.GRIDS:
        raise unknown("loss_kwargs: grid", grid, detection.GRIDS)
    given = {"stride": stride, "shapes": shapes}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value}
    if image:
        changes |= dict(zip(("height", "width"), image, strict=True))
    with about("loss_kwargs"):
        chosen = dataclasses.replace(detection.GRIDS[grid], **changes)
        weights = detection.Weights(box=box, positive=positive, negative=negative)

    def count(outputs: jax.Array, truths: jax.Array, valid: jax.Array) -> Counts:
        with about("loss_kwargs (grid, image, stride, shapes)"):
            parts = detection.losses(outputs, truths, jnp.asarray(chosen.anchors), weights)
        loss = parts.box + parts.positive + parts.negative + parts.classes
        total, right = (jnp.sum(jnp.where(valid, each, 0.0)) for each in (loss, parts.right))
        return Counts(total, _examples(valid), {"object_accuracy": right})

    def answer(outputs: jax.Array) -> dict[str, jax.Array]:
        return detection.detections(outputs, chosen)._asdict()

    def score(found: Mapping[str, Any], truths: np.ndarray) -> dict[str, float]:
        classes = int(truths[..., 4].max()) + 1
        if not classes:  # no object at all: there is nothing to find
            return {}
        precision = detection.mean_average_precision(detection.Detections(**found), truths, classes)
        return {"mean_average_precision": precision}

    return Loss(
        count=count,
        measures={"object_accuracy": np.float32},
        metric=Metric("object_accuracy", higher_is_better=True),
        judge=Judge(score=score, answer=answer),
    )


def agreement() -> Loss:
    """Returns how far a network is from another one, whose logits [B, C] are the targets.

    The loss is the cross-entropy with the other's softmax. The metric is the share of examples for
    which both name the same class first; `logit_error` is |z − z₀|² / |z₀|², the mean over
    examples.
    """

    def count(logits: jax.Array, targets: jax.Array, valid: jax.Array) -> Counts:
        _check_same(logits, targets)
        logits, targets = (each.astype(jnp.float32) for each in (logits, targets))
        losses = optax.softmax_cross_entropy(logits, jax.nn.softmax(targets))
        same = jnp.argmax(logits, -1) == jnp.argmax(targets, -1)
        apart = jnp.sum(jnp.square(logits - targets), -1)
        errors = apart / jnp.maximum(jnp.sum(jnp.square(targets), -1), jnp.finfo(jnp.float32).tiny)
        loss, error = (jnp.sum(jnp.where(valid, each, 0.0)) for each in (losses, errors))
        agreed = jnp.sum(same & valid, dtype=jnp.int32)
        return Counts(loss, _examples(valid), {"agreement": agreed, "logit_error": error})

    metric = Metric("agreement", higher_is_better=True)
    measures = {metric.name: np.int32, "logit_error": np.float32}
    return Loss(count=count, measures=measures, metric=metric)


LOSSES: dict[str, Callable[..., Loss]] = {
    "cross_entropy": cross_entropy,
    "language_model": language_model,
    "mean_squared_error": mean_squared_error,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
    "agreement": agreement,
    "squeezedet": squeezedet,
}


def _examples(valid: jax.Array) -> jax.Array:
    return jnp.sum(valid, dtype=jnp.int32)


def _check_same(outputs: jax.Array, targets: jax.Array) -> None:
    """Refuses shapes that would be broadcast, such as [B, 1] and [B]."""
    if outputs.shape != targets.shape:
        raise UserError(
            f"the outputs have the shape {outputs.shape}, the targets {targets.shape}: this loss "
            "needs equal ones"
        )
