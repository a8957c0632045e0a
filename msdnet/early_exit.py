"""Predictions that stop early for real: confident examples leave the batch, the rest go on.

Read `predict` first. After each block the examples that are done are answered; the others wait in
a pool before the next block until a whole batch of them has come together, also from several
incoming batches. So late blocks run full too, and every array has one of a few fixed shapes.
"""

# B batch, K exits

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError
from jax import lax

from groundwork.errors import UserError, unknown
from msdnet import exits as exits_lib

SHRINK = 4  # each smaller batch, for what is left at the end, is this many times smaller


class Predictions(NamedTuple):
    """One entry an image, in the images' order."""

    labels: np.ndarray  # [N] int32
    exits: np.ndarray  # [N] int32 in [0, K)
    confidences: np.ndarray  # [N] float32


def predict(
    model: nn.Module,
    variables: Any,
    images: Any,
    thresholds: Any,
    batch_size: int = 256,
    *,
    confidence: str = "softmax",
    temperatures: Any = None,
) -> Predictions:
    """Labels of images, each from the first exit that is confident enough.

    Blocks beyond an image's exit are not computed for it. Exits and labels are those of the network
    called on all images at once, up to what confidences differ between batch sizes (1e-5).

    Args:
      model: a network with exits, such as `MSDNet`.
      variables: its variables, without a replicate axis.
      images: network inputs [N, H, W, C] float32; or an iterable of such arrays, which is read as
        it is needed: one whole batch after the other, however long its arrays are.
      thresholds: [K − 1]; an image leaves at the first exit whose confidence is above. See
        `exits.thresholds`.
      batch_size: images that run at once.
      confidence: `softmax`, `entropy` or `margin`; that for which thresholds were chosen.
      temperatures: [K], by which logits are divided before; None = 1.

    Raises:
      UserError: images of another shape or type, thresholds or temperatures of the wrong number,
        or a call from within `jax.jit`: who goes on is decided on the host.
    """
    given = (variables, thresholds, temperatures, images if hasattr(images, "shape") else None)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given)):
        raise UserError("predict decides on the host who goes on: call it outside jit, vmap, grad")
    limits = exits_lib.check_thresholds(thresholds, model.exits)
    scales = _checked_temperatures(temperatures, model.exits)
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise UserError(f"batch_size={batch_size!r} must be an integer, at least 1")
    if confidence not in exits_lib.CONFIDENCES:
        raise unknown("confidence", confidence, exits_lib.CONFIDENCES)
    blocks = _compiled(model, int(batch_size), confidence)
    on_device = jax.device_put(variables)  # once: every call of a block takes them
    cascade = _Cascade(blocks, on_device, np.append(limits, -np.inf), scales)
    for batch in _batches(images, int(batch_size)):
        cascade.enter(batch)
    return cascade.finish()


class Blocks(NamedTuple):
    """The compiled parts of `predict`. A pool is features of two batches, [2 B, …] a leaf."""

    sizes: tuple[int, ...]  # of batches, the largest first
    first: Callable  # variables, images [b, …], temperature → features, labels [b], confidences
    later: Callable  # k, variables, pool, start, size, temperature → the same of block k
    insert: Callable  # pool (given away), features [b, …], places [b] → pool


@functools.lru_cache(maxsize=16)
def _compiled(model: nn.Module, batch_size: int, confidence: str) -> Blocks:
    def run(k, variables, features, temperature):
        both: Any = model.apply(variables, k, features, method="block")
        features, logits = both
        logits = logits.astype(jnp.float32) / temperature
        labels = jnp.argmax(logits, -1).astype(jnp.int32)
        return features, labels, exits_lib.confidence(logits, confidence)

    def later(k, variables, pool, start, size, temperature):
        taken = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, size), pool)
        return run(k, variables, taken, temperature)

    def insert(pool, features, places):
        return jax.tree.map(lambda old, new: old.at[places].set(new, mode="drop"), pool, features)

    return Blocks(
        sizes=_sizes(batch_size),
        first=jax.jit(functools.partial(run, 0)),
        later=jax.jit(later, static_argnums=(0, 4)),
        insert=jax.jit(insert, donate_argnums=0),
    )


class _Cascade:
    """Images on their way through the blocks."""

    def __init__(self, blocks: Blocks, variables: Any, limits: np.ndarray, scales: np.ndarray):
        self._blocks, self._variables = blocks, variables
        self._limits, self._scales = limits, scales
        self._pools = [_Pool(blocks) for _ in limits]  # that before block 0 stays empty
        self._entered = 0
        self._shape: tuple[int, ...] = ()  # of an image, for errors
        nothing = np.zeros(0, np.int32)
        # places, labels, exits, confidences of those that are done
        self._found: list[tuple[np.ndarray, ...]] = [(nothing, nothing, nothing, scales[:0])]

    def enter(self, images: np.ndarray) -> None:
        """Take a batch, and run what is full."""
        places = self._entered + np.arange(len(images))
        self._entered += len(images)
        self._shape = images.shape[1:]
        size = _fitting(self._blocks.sizes, len(images))
        padding = [(0, size - len(images))] + [(0, 0)] * (images.ndim - 1)
        padded = np.pad(images, padding) if size > len(images) else images
        with _explained(self._shape):
            out = self._blocks.first(self._variables, padded, self._scales[0])
        self._leave(0, places, out)
        self._run_full()

    def finish(self) -> Predictions:
        """Run what is left, and put all in order."""
        for k, pool in enumerate(self._pools):
            while pool.waiting():
                self._run(k)
                self._run_full()
        places, labels, exits, confidences = (
            np.concatenate(parts) for parts in zip(*self._found, strict=True)
        )
        order = np.argsort(places)
        return Predictions(labels[order], exits[order], confidences[order])

    def _run_full(self) -> None:
        """Run every whole batch: no pool may hold one when the next examples come."""
        for k, pool in enumerate(self._pools):
            if pool.full():
                self._run(k)

    def _run(self, k: int) -> None:
        places, start, size = self._pools[k].take()
        pool = self._pools[k].features
        with _explained(self._shape):
            out = self._blocks.later(k, self._variables, pool, start, size, self._scales[k])
        self._leave(k, places, out)

    def _leave(self, k: int, places: np.ndarray, out: tuple[Any, jax.Array, jax.Array]) -> None:
        """Answer those that are confident at exit k; the others go on to the next pool."""
        features, *answers = out
        labels, confidences = (np.asarray(a)[: len(places)] for a in answers)
        done = (confidences > self._limits[k]) | (k == len(self._limits) - 1)
        exits = np.full(done.sum(), k, np.int32)
        self._found.append((places[done], labels[done], exits, confidences[done]))
        if not done.all():
            self._pools[k + 1].add(features, places, ~done)


class _Pool:
    """Examples before a block: a ring of two batches on the device, and which images they are."""

    def __init__(self, blocks: Blocks):
        self._blocks, self._size = blocks, blocks.sizes[0]
        self._places: list[int] = []  # of images, in the order in which they came
        self._start = 0  # of the first of them in the ring
        self.features: Any = None

    def add(self, features: Any, places: np.ndarray, chosen: np.ndarray) -> None:
        """Put the chosen rows behind those that wait: at most a batch of them."""
        ring = 2 * self._size
        if self.features is None:
            self.features = jax.tree.map(
                lambda leaf: jnp.zeros((ring, *leaf.shape[1:]), leaf.dtype), features
            )
        rows = len(jax.tree.leaves(features)[0])
        slots = np.full(rows, ring, np.int32)  # past the end: dropped
        free = self._start + len(self._places) + np.arange(chosen.sum())
        slots[: len(chosen)][chosen] = free % ring
        self.features = self._blocks.insert(self.features, features, slots)
        self._places += places[chosen].tolist()

    def waiting(self) -> int:
        """How many examples there are."""
        return len(self._places)

    def full(self) -> bool:
        """Is there a whole batch?"""
        return len(self._places) >= self._size

    def take(self) -> tuple[np.ndarray, np.int32, int]:
        """Places of the next batch's images, where it lies in the ring, and its padded size."""
        number = min(len(self._places), self._size)
        size = _fitting(self._blocks.sizes, number)
        taken, self._places = self._places[:number], self._places[number:]
        start, self._start = self._start, (self._start + self._size) % (2 * self._size)
        return np.asarray(taken), np.int32(start), size


@contextlib.contextmanager
def _explained(shape: Sequence[int]) -> Iterator[None]:
    """Say in one line why a block cannot be compiled for such images."""
    try:
        yield
    except (FlaxError, ValueError, TypeError, UserError) as error:
        reason = " ".join(str(error).partition(" (https")[0].split())
        raise UserError(
            f"the network cannot take images of {list(shape)} with these variables "
            f"(of one replicate): {reason}"
        ) from error


def _checked_temperatures(temperatures: Any, exits: int) -> np.ndarray:
    scales = (
        np.ones(exits) if temperatures is None else exits_lib.numbers("temperatures", temperatures)
    )
    if scales.shape != (exits,):
        raise UserError(f"{exits} exits need as many temperatures, not {scales.shape}")
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise UserError(f"temperatures={scales.tolist()} must be positive")
    return scales.astype(np.float32)


def _sizes(batch_size: int) -> tuple[int, ...]:
    sizes = [batch_size]
    while sizes[-1] > 1:
        sizes.append(max(1, sizes[-1] // SHRINK))
    return tuple(sizes)


def _fitting(sizes: tuple[int, ...], number: int) -> int:
    return min(size for size in sizes if size >= number)


def _batches(images: Any, size: int) -> Iterator[np.ndarray]:
    """Batches of `size` images, the last one smaller, of an array or of an iterable of arrays."""
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
