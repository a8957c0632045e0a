"""Predictions that really stop early: images leave at the first exit that is confident enough.

Read `predict` first; `cascade` has the way of images through the blocks.
"""

# K exits

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from groundwork.errors import UserError, unknown
from groundwork.trees import Variables
from msdnet import cascade
from msdnet import exits as exits_lib


class Predictions(NamedTuple):
    """One entry per image, in the images' order."""

    labels: np.ndarray  # [N] int32
    exits: np.ndarray  # [N] int32 in [0, K)
    confidences: np.ndarray  # [N] float32


def predict(
    model: nn.Module,
    variables: Variables,
    images: Any,
    thresholds: Any,
    batch_size: int = 256,
    *,
    confidence: str = "softmax",
    temperatures: Any = None,
) -> Predictions:
    """Returns labels of images, each from the first exit that is confident enough.

    Blocks beyond an image's exit are not computed for it. Exits and labels are those of the network
    called on all images at once, except where confidences of different batch sizes, which agree to
    1e-5, lie on two sides of a threshold.

    Args:
      model: a network with exits, such as `MSDNet`.
      variables: its variables, without a replicate axis.
      images: network inputs [N, H, W, C] float32; or an iterable of such arrays of any lengths,
        which is read as it is needed, one batch after the other.
      thresholds: [K − 1]; an image leaves at the first exit whose confidence is above. See
        `exits.thresholds`.
      batch_size: images that run at once.
      confidence: `softmax`, `entropy` or `margin`; the one for which thresholds were chosen.
      temperatures: [K], by which logits are divided first; None = 1.

    Raises:
      UserError: images of another shape or type, a wrong number of thresholds or temperatures, or
        a call from within `jax.jit`, since it is decided on the host which images go on.
    """
    _check_called_outside_jit(variables, thresholds, temperatures, images)
    limits = exits_lib.check_thresholds(thresholds, model.exits)
    scales = _checked_temperatures(temperatures, model.exits)
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise UserError(f"batch_size={batch_size!r} must be an integer, at least 1")
    if confidence not in exits_lib.CONFIDENCES:
        raise unknown("confidence", confidence, exits_lib.CONFIDENCES)
    blocks = cascade.compiled(model, int(batch_size), confidence)
    on_device = jax.device_put(variables)  # once, as every call of a block takes them
    under_way = cascade.Cascade(blocks, on_device, np.append(limits, -np.inf), scales)
    for batch in batches(images, int(batch_size)):
        under_way.enter(batch)
    return Predictions(*under_way.finish())


def batches(images: Any, size: int) -> Iterator[np.ndarray]:
    """Yields batches of `size` images, the last one smaller, of an array or an iterable of arrays.

    Raises:
      UserError: they are not images [N, H, W, C] float32, or differ in shape.
    """
    if not isinstance(images, Iterable):
        raise UserError(f"images must be an array or an iterable of arrays, not {images!r}")
    arrays: Iterable[Any] = [images] if hasattr(images, "shape") else images
    rest: np.ndarray | None = None  # of the arrays before, less than a batch
    for array in arrays:
        array = np.asarray(array)
        if array.ndim != 4 or array.dtype != np.float32:
            raise UserError(
                f"images must be [N, H, W, C] float32 as the network takes them, not "
                f"{list(array.shape)} {array.dtype}"
            )
        if rest is not None and rest.shape[1:] != array.shape[1:]:
            raise UserError(
                f"images of {list(rest.shape[1:])} are followed by some of {list(array.shape[1:])}"
            )
        array = array if rest is None else np.concatenate([rest, array])
        whole = len(array) - len(array) % size
        for start in range(0, whole, size):
            yield array[start : start + size]
        rest = array[whole:]
    if rest is not None and len(rest):
        yield rest


def _check_called_outside_jit(
    variables: Variables, thresholds: Any, temperatures: Any, images: Any
) -> None:
    given = (variables, thresholds, temperatures, images if hasattr(images, "shape") else None)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given)):
        raise UserError("predict decides on the host who goes on: call it outside jit, vmap, grad")


def _checked_temperatures(temperatures: Any, exits: int) -> np.ndarray:
    """Returns temperatures as [K] float32; ones for None."""
    scales = (
        np.ones(exits) if temperatures is None else exits_lib.numbers("temperatures", temperatures)
    )
    if scales.shape != (exits,):
        raise UserError(f"{exits} exits need as many temperatures, not {scales.shape}")
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise UserError(f"temperatures={scales.tolist()} must be positive")
    return scales.astype(np.float32)
