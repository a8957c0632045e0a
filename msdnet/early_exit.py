"""Predictions that really stop early: images leave at the first exit that is confident enough.

Read `predict` first; `cascade` has the way of images through the blocks.
"""

# K exits

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from groundwork.errors import UserError, unknown
from msdnet import cascade
from msdnet import exits as exits_lib


class Predictions(NamedTuple):
    """One entry per image, in the images' order."""

    labels: np.ndarray  # [N] int32
    exits: np.ndarray  # [N] int32 in [0, K)
    confidences: np.ndarray  # [N] float32


def predict(
    model: nn.Module | Sequence[cascade.Block],
    variables: Any,
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
      model: a network with exits, such as `MSDNet` or one from `heads.attach`; or the K blocks of
        any network, as functions (variables, features) → (features for the next block, logits
        [B, classes]), where block 0 takes the inputs. Features are any pytree of arrays [B, …].
      variables: its variables, without a replicate axis; for functions any pytree.
      images: network inputs [N, H, W, C] float32; or an iterable of such arrays of any lengths,
        which is read as it is needed, one batch after the other. Functions, and networks with
        `heads`, take any arrays [N, …], or dicts of them.
      thresholds: [K − 1]; an image leaves at the first exit whose confidence is above. See
        `exits.thresholds`.
      batch_size: images that run at once.
      confidence: `softmax`, `entropy` or `margin`; the one for which thresholds were chosen.
      temperatures: [K], by which logits are divided first; None = 1.

    Raises:
      UserError: images of another shape or type, a wrong number of thresholds or temperatures, or
        a call from within `jax.jit`, since it is decided on the host which images go on.

    Example:
        >>> from msdnet import predict
        >>> first = lambda variables, x: (x, x)  # features for the next block, and logits
        >>> last = lambda variables, x: (x, variables["scale"] * x)
        >>> images = np.array([[4.0, 0.0], [0.0, 1.0]])  # the second one is less clear
        >>> found = predict([first, last], {"scale": 10.0}, images, thresholds=[0.9])
        >>> found.labels.tolist(), found.exits.tolist()
        ([0, 1], [0, 1])
    """
    _check_called_outside_jit(variables, thresholds, temperatures, images)
    is_module = isinstance(model, nn.Module)
    if not is_module and not (isinstance(model, Sequence) and model and all(map(callable, model))):
        raise UserError(
            "model must be a network with exits, or a sequence of functions (variables, features) "
            f"→ (features, logits), not {model!r}"
        )
    exits: int = model.exits if isinstance(model, nn.Module) else len(model)
    limits = exits_lib.check_thresholds(thresholds, exits)
    scales = _checked_temperatures(temperatures, exits)
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise UserError(f"batch_size={batch_size!r} must be an integer, at least 1")
    if confidence not in exits_lib.CONFIDENCES:
        raise unknown("confidence", confidence, exits_lib.CONFIDENCES)
    parts = model if isinstance(model, nn.Module) else tuple(model)
    blocks = cascade.compiled(parts, int(batch_size), confidence)
    on_device = jax.tree.map(_on_device, variables)  # once: every call of a block takes them
    under_way = cascade.Cascade(blocks, on_device, np.append(limits, -np.inf), scales)
    any_arrays = not isinstance(model, nn.Module) or getattr(model, "any_inputs", False)
    for batch in batches(images, int(batch_size), any_arrays=any_arrays):
        under_way.enter(batch)
    return Predictions(*under_way.finish())


def batches(images: Any, size: int, any_arrays: bool = False) -> Iterator[Any]:
    """Yields batches of `size` images, the last one smaller, of an array or an iterable of arrays.

    Args:
      images: see `predict`.
      size: of a batch.
      any_arrays: whether arrays of other shapes and types, and dicts of them, are taken, too.

    Raises:
      UserError: they are not images [N, H, W, C] float32, or differ in shape.
    """
    if not isinstance(images, Iterable):
        raise UserError(f"images must be an array or an iterable of arrays, not {images!r}")
    is_one = hasattr(images, "shape") or (any_arrays and isinstance(images, Mapping))
    rest: Any = None  # of the arrays before, less than a batch
    if any_arrays and isinstance(images, tuple):
        raise UserError("several inputs must be a dict of arrays: a tuple is read as batches")
    for given in [images] if is_one else images:
        arrays = jax.tree.map(np.asarray, given)
        count = _count(arrays) if any_arrays else _count_images(arrays)
        if rest is not None:
            _check_alike(rest, arrays)
            arrays = jax.tree.map(lambda *parts: np.concatenate(parts), rest, arrays)
            count += len(jax.tree.leaves(rest)[0])
        whole = count - count % size
        for start in range(0, whole, size):
            yield jax.tree.map(lambda leaf, start=start: leaf[start : start + size], arrays)
        rest = jax.tree.map(lambda leaf, whole=whole: leaf[whole:], arrays)
    if rest is not None and len(jax.tree.leaves(rest)[0]):
        yield rest


def _on_device(leaf: Any) -> Any:
    """Returns an array on the device; whatever else a tree has is no argument of a block."""
    if not isinstance(leaf, np.ndarray | np.generic | jax.Array | int | float):
        raise UserError(
            f"the variables have {leaf!r}, which is no array: give the arrays alone (eqx.partition)"
        )
    return jax.device_put(leaf)


def _count_images(array: Any) -> int:
    if not isinstance(array, np.ndarray) or array.ndim != 4 or array.dtype != np.float32:
        shown = f"{list(array.shape)} {array.dtype}" if hasattr(array, "shape") else repr(array)
        raise UserError(
            f"images must be [N, H, W, C] float32 as the network takes them, not {shown}"
        )
    return len(array)


def _count(arrays: Any) -> int:
    """Returns N, the length of the leading axis that all arrays share."""
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(arrays)}
    if len(lengths) != 1 or not (length := lengths.pop()):
        raise UserError(f"inputs must be arrays [N, …] of one N, not {_shapes(arrays)}")
    return length[0]


def _check_alike(before: Any, after: Any) -> None:
    if _shapes(before) != _shapes(after):
        raise UserError(f"images of {_shapes(before)} are followed by some of {_shapes(after)}")


def _shapes(arrays: Any) -> Any:
    """Returns the shape of an example, or of each part of it."""
    shapes = [list(np.shape(leaf)[1:]) for leaf in jax.tree.leaves(arrays)]
    return shapes[0] if hasattr(arrays, "shape") else shapes


def _check_called_outside_jit(
    variables: Any, thresholds: Any, temperatures: Any, images: Any
) -> None:
    is_tree = hasattr(images, "shape") or isinstance(images, Mapping)
    given = (variables, thresholds, temperatures, images if is_tree else None)
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
