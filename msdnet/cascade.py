"""Examples on their way through a network's blocks; those that are done leave, the rest are pooled.

After each block, examples that are confident enough are answered. The others wait in a pool before
the next block until a whole batch of them has come together, possibly from several incoming
batches. So late blocks run full too, and every array has one of a few fixed shapes.
"""

# B batch, K exits

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError
from jax import lax

from groundwork.errors import UserError
from groundwork.traced.predictions import Predictor, predictor
from groundwork.trees import Variables
from msdnet import exits as exits_lib
from msdnet.exit_network import Features

SHRINK = 4  # each smaller batch, for what is left at the end, is this many times smaller

Block = Callable[[Any, Features], tuple[Features, jax.Array]]
"""(variables, features) → (features for the next block, logits [B, classes])"""
Answers = tuple[Features, jax.Array, jax.Array]  # features, labels [b], confidences [b]


class Weights:
    """Variables, and what blocks have made of them so far."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.shapes = _shapes(variables)
        self._prepared: dict[Any, Any] = {}

    def prepared(self, one: Predictor) -> Any:
        """Returns what a block needs of the variables."""
        if id(one) not in self._prepared:
            self._prepared[id(one)] = one.prepare(self.variables)
        return self._prepared[id(one)]


class Blocks(NamedTuple):
    """The compiled parts of a network. A pool is features of two batches, leaves [2 B, …]."""

    sizes: tuple[int, ...]  # of batches, the largest first
    first: Callable[..., Answers]  # weights, images [b, …], temperature → answers
    later: Callable[..., Answers]  # k, weights, pool, start, size, temperature → answers
    insert: Callable[..., Features]  # pool (given away), features [b, …], places [b] → pool
    programs: dict[Any, Any]  # what has been compiled so far


def compiled(model: nn.Module | tuple[Block, ...], batch_size: int, confidence: str) -> Blocks:
    """Returns the blocks for batches of `batch_size`, compiled when they are first called."""
    try:
        return _compiled(model, batch_size, confidence)
    except TypeError as error:
        raise UserError(
            f"the blocks cannot be told apart ({error}): give plain functions"
        ) from error


@functools.lru_cache(maxsize=16)
def _compiled(model: nn.Module | tuple[Block, ...], batch_size: int, confidence: str) -> Blocks:
    """Returns the blocks for batches of `batch_size`, compiled when they are first called."""

    programs: dict[Any, tuple[Predictor, Callable[..., Answers]]] = {}

    def block(k: int, variables: Variables, features: Features) -> tuple[Features, jax.Array]:
        if isinstance(model, nn.Module):
            after: Any = model.apply(variables, k, features, method="block")
        else:
            after = model[k](variables, features)
        if after[1].ndim != 2:
            raise ValueError(f"exit {k} gives logits of shape {after[1].shape}, not [B, classes]")
        return after

    def program(
        k: int, weights: Weights, pool: Features, size: int
    ) -> tuple[Predictor, Callable[..., Answers]]:
        """Returns a block for `size` rows of such a pool, which is traced once."""
        rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), pool)
        key = (k, size, _shapes(rows), weights.shapes)
        if key in programs:
            return programs[key]
        made = predictor(functools.partial(block, k), weights.variables, rows)

        def run(prepared: Any, pool: Features, start: jax.Array, temperature: jax.Array) -> Answers:
            taken = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, size), pool)
            features, logits = made.apply(prepared, taken)
            logits = logits.astype(jnp.float32) / temperature
            labels = jnp.argmax(logits, -1).astype(jnp.int32)
            return features, labels, exits_lib.confidence(logits, confidence)

        return programs.setdefault(key, (made, jax.jit(run)))

    def later(
        k: int,
        weights: Weights,
        pool: Features,
        start: np.int32,
        size: int,
        temperature: jax.Array,
    ) -> Answers:
        made, run = program(k, weights, pool, size)
        return run(weights.prepared(made), pool, start, temperature)

    def first(weights: Weights, images: Any, temperature: jax.Array) -> Answers:
        return later(0, weights, images, np.int32(0), len(jax.tree.leaves(images)[0]), temperature)

    def insert(pool: Features, features: Features, places: jax.Array) -> Features:
        return jax.tree.map(lambda old, new: old.at[places].set(new, mode="drop"), pool, features)

    return Blocks(
        sizes=sizes(batch_size),
        first=first,
        later=later,
        insert=jax.jit(insert, donate_argnums=0),
        programs=programs,
    )


def _shapes(tree: Any) -> Any:
    """Returns what tells a tree of arrays from those that need another program."""
    leaves, structure = jax.tree.flatten(tree)
    each = tuple((x.shape, str(x.dtype)) if hasattr(x, "dtype") else x for x in leaves)
    return structure, each


class Cascade:
    """Images on their way through the blocks.

    Args:
      blocks: of `compiled`.
      variables: the network's, on the device.
      limits: [K], the confidence above which an image leaves at each exit.
      scales: [K] float32, the temperatures by which logits are divided.
    """

    def __init__(
        self, blocks: Blocks, variables: Variables, limits: np.ndarray, scales: np.ndarray
    ) -> None:
        self._blocks, self._weights = blocks, Weights(variables)
        self._limits, self._scales = limits, scales
        self._pools = [_Pool(blocks) for _ in limits]  # the one before block 0 stays empty
        self._entered = 0
        self._shape: tuple[int, ...] = ()  # of an image, for errors
        nothing = np.zeros(0, np.int32)
        # places, labels, exits and confidences of the images that are done
        self._done: list[tuple[np.ndarray, ...]] = [(nothing, nothing, nothing, scales[:0])]

    def enter(self, images: Any) -> None:
        """Take a batch, and run whatever is full."""
        leaves = jax.tree.leaves(images)
        count = len(leaves[0])
        places = self._entered + np.arange(count)
        self._entered += count
        self._shape = leaves[0].shape[1:]
        size = fitting(self._blocks.sizes, count)

        def fill(leaf: np.ndarray) -> np.ndarray:
            return np.pad(leaf, [(0, size - count)] + [(0, 0)] * (leaf.ndim - 1))

        padded = jax.tree.map(fill, images) if size > count else images
        with _explained(self._shape):
            answers = self._blocks.first(self._weights, padded, self._scales[0])
        self._leave(0, places, answers)
        self._run_full()

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run what is left; returns labels, exits and confidences in the images' order."""
        for k, pool in enumerate(self._pools):
            while pool.waiting():
                self._run(k)
                self._run_full()
        places, labels, exits, confidences = (
            np.concatenate(parts) for parts in zip(*self._done, strict=True)
        )
        order = np.argsort(places)
        return labels[order], exits[order], confidences[order]

    def _run_full(self) -> None:
        """Run every whole batch: no pool may hold one when the next examples come."""
        for k, pool in enumerate(self._pools):
            if pool.full():
                self._run(k)

    def _run(self, k: int) -> None:
        places, start, size = self._pools[k].take()
        pool = self._pools[k].features
        with _explained(self._shape):
            answers = self._blocks.later(k, self._weights, pool, start, size, self._scales[k])
        self._leave(k, places, answers)

    def _leave(self, k: int, places: np.ndarray, answers: Answers) -> None:
        """Answer the images that are confident at exit k; the others go on to the next pool."""
        features, *on_device = answers
        labels, confidences = (np.asarray(array)[: len(places)] for array in on_device)
        done = (confidences > self._limits[k]) | (k == len(self._limits) - 1)
        exits = np.full(done.sum(), k, np.int32)
        self._done.append((places[done], labels[done], exits, confidences[done]))
        if not done.all():
            self._pools[k + 1].add(features, places, ~done)


class _Pool:
    """Examples before a block: a ring of two batches on the device, and which images they are."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks, self._size = blocks, blocks.sizes[0]
        self._places: list[int] = []  # of images, in the order in which they came
        self._start = 0  # of the first of them in the ring
        self.features: Features = None

    def add(self, features: Features, places: np.ndarray, chosen: np.ndarray) -> None:
        """Put the chosen rows, at most a batch of them, behind those that wait."""
        ring = 2 * self._size
        if self.features is None:
            self.features = jax.tree.map(
                lambda leaf: jnp.zeros((ring, *leaf.shape[1:]), leaf.dtype), features
            )
        rows = len(jax.tree.leaves(features)[0])
        slots = np.full(rows, ring, np.int32)  # a slot past the end is dropped
        free = self._start + len(self._places) + np.arange(chosen.sum())
        slots[: len(chosen)][chosen] = free % ring
        self.features = self._blocks.insert(self.features, features, slots)
        self._places += places[chosen].tolist()

    def waiting(self) -> int:
        """Returns how many examples wait."""
        return len(self._places)

    def full(self) -> bool:
        """Is there a whole batch?"""
        return len(self._places) >= self._size

    def take(self) -> tuple[np.ndarray, np.int32, int]:
        """Returns the next batch: its images' places, its start in the ring, its padded size."""
        number = min(len(self._places), self._size)
        size = fitting(self._blocks.sizes, number)
        taken, self._places = self._places[:number], self._places[number:]
        start, self._start = self._start, (self._start + self._size) % (2 * self._size)
        return np.asarray(taken), np.int32(start), size


@contextlib.contextmanager
def _explained(shape: Sequence[int]) -> Iterator[None]:
    """Say in one line why a block cannot be compiled for images of this shape."""
    try:
        yield
    except (FlaxError, ValueError, TypeError, UserError) as error:
        reason = " ".join(str(error).partition(" (https")[0].split())
        raise UserError(
            f"the network cannot take images of {list(shape)} with these variables "
            f"(of one replicate): {reason}"
        ) from error


def sizes(batch_size: int) -> tuple[int, ...]:
    """Returns the sizes of batches, each `SHRINK` times smaller than the one before, down to 1."""
    sizes = [batch_size]
    while sizes[-1] > 1:
        sizes.append(max(1, sizes[-1] // SHRINK))
    return tuple(sizes)


def fitting(sizes: tuple[int, ...], number: int) -> int:
    """Returns the smallest of the sizes that so many examples fit into."""
    return min(size for size in sizes if size >= number)
