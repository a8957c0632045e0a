"""Batches from files: Grain reads, decodes and augments them on the host, ahead of the device.

Read `train_batches` first. Each replicate has an endless sequence of reshuffled epochs, and its
order is a function of (seed, step). Batches are counted through the epochs, so one batch may hold
the end of an epoch and the beginning of the next. This module does without JAX, since worker
processes import it.
"""

# R replicates, B batch, H W C image height, width, channels

import dataclasses
import hashlib
import math
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from absl import flags

from groundwork.data import augment as augment_lib
from groundwork.data import order
from groundwork.data.examples import Source, Window
from groundwork.data.file_dataset import FileDataset
from groundwork.data.readers import THREADS
from groundwork.data.spec import DataSpec
from groundwork.errors import UserError

TrainBatch = tuple[np.ndarray, np.ndarray]  # images [R, B, H, W, C] uint8, labels [R, B] int32
EvalBatch = tuple[np.ndarray, np.ndarray, np.ndarray]  # images [B, …], labels [B], valid [B] bool
T = TypeVar("T")
Placed = TypeVar("Placed")


def train_batches(
    files: FileDataset,
    spec: DataSpec,
    seeds: Sequence[int],
    start: int,
    *,
    batch_size: int,
    parts: int,
    part: int,
) -> Generator[TrainBatch, None, None]:
    """Yields training batches without end, one per step from `start` on.

    Args:
      files: the data set.
      spec: how its images are read and augmented.
      seeds: one per replicate.
      start: the first step.
      batch_size: of a replicate.
      parts: the number of equal pieces that each batch is cut into.
      part: which of the pieces is wanted.

    Yields:
      Images uint8 [R, batch_size / parts, H, W, C] and labels int32 [R, batch_size / parts]. Those
      of a step do not depend on `start`, on `parts` or on the workers. Close the iterator to end
      its threads and workers.
    """
    share = _share(batch_size, parts, part)
    words = [(_word(seed, "order"), _word(seed, "augment")) for seed in seeds]
    first = start * batch_size + part * share
    made = _Training(
        files.train, files.shape, spec.augment, spec.image_size, words, first, share, batch_size
    )
    return _read(made, files.name, spec.workers)


def eval_batches(
    files: FileDataset, spec: DataSpec, split: str, *, batch_size: int, parts: int, part: int
) -> Generator[EvalBatch, None, None]:
    """Yields a part of each batch of `validation` or `test`, once and in order.

    Yields:
      Images uint8 [B, H, W, C], labels [B] int32 and valid [B] bool, where B = batch_size / parts.
      The last batch is padded with images that are not valid, so all parts have equally many
      batches.
    """
    source = {"validation": files.validation, "test": files.test}[split]
    share = _share(batch_size, parts, part)
    window = augment_lib.evaluation_window(spec.augment, spec.image_size)
    made = _Evaluation(source, files.shape, window, part * share, share, batch_size)
    return _read(made, files.name, spec.workers)


def prefetch(
    iterator: Iterator[T], put: Callable[[T], Placed], size: int = 2
) -> Generator[Placed, None, None]:
    """Yields `put(batch)` for each batch of `iterator`; a thread makes up to `size` in advance.

    The thread starts at the first `next`. An exception in it is raised here, at its place in the
    order. Closing the generator ends the thread and closes the iterator.
    """
    made: queue.SimpleQueue[tuple[Any, BaseException | None]] = (
        queue.SimpleQueue()
    )  # (batch, None), at last (None, exception)
    room, closed = threading.Semaphore(size), threading.Event()
    program_ends = sys.is_finalizing  # at exit threads have stopped, and `sys` may be gone

    def make() -> None:
        try:
            while room.acquire() and not closed.is_set():
                made.put((put(next(iterator)), None))
        except BaseException as error:  # StopIteration too
            made.put((None, error))
        finally:
            getattr(iterator, "close", lambda: None)()

    thread = threading.Thread(target=make, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            batch, ended = made.get()
            if isinstance(ended, StopIteration):
                return
            if ended is not None:
                raise ended
            room.release()
            yield batch
    finally:
        closed.set()
        room.release()
        if not program_ends():
            thread.join()


def _read(made: Any, name: str, workers: int) -> Generator[Any, None, None]:
    """Yields the batches in order, read ahead by threads or, with `workers`, by processes."""
    import grain  # only here: its import takes a third of a second

    _default_flags()
    batches = grain.MapDataset.source(made)
    threads = 0 if workers else THREADS
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    # Pipes, since shared memory is small in containers and leaks when a run ends early.
    options = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
    piped = grain.experimental.WithOptionsIterDataset(batches.to_iter_dataset(ahead), options)
    processes = grain.multiprocessing.MultiprocessingOptions(num_workers=workers)
    reader = iter(piped.mp_prefetch(processes, _begin_worker))
    try:
        yield from reader
    except RuntimeError as error:  # Grain's, when a worker has died
        if not workers:
            raise
        raise UserError(
            f"{name} cannot be read further: one of {workers} data.workers was killed; if memory "
            f"is short, use fewer ({' '.join(str(error).split())[:100]})"
        ) from error
    finally:
        reader.close()


def _default_flags() -> None:
    """Gives Grain's flags their defaults where no absl app has parsed them, since it reads them."""
    if not flags.FLAGS.is_parsed():
        for name in flags.FLAGS:
            if name.startswith("grain_"):
                flags.FLAGS[name].present = 1


def _begin_worker(index: int, count: int) -> None:
    """Leaves signals to the main process, and makes the worker end with it, however it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the whole process group may get them
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@dataclasses.dataclass(frozen=True)
class _Training:
    """Random access to training batches: step after the first → images of `shape` and labels.

    `words` are the seeds of the order and of the augmentation of each replicate. `first` is the
    place of the first example in a replicate's endless sequence, and `stride` leads to the next
    batch of `share` examples.
    """

    source: Source
    shape: tuple[int, int, int]
    augment: str
    size: int
    words: list[tuple[int, int]]
    first: int
    share: int
    stride: int

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, step: int) -> TrainBatch:
        start = self.first + step * self.stride
        sequence = range(start, start + self.share)
        orders = [order.shuffled(sequence, len(self.source), word) for word, _ in self.words]
        window = augment_lib.training_window(self.augment, self.size)
        examples = self.source.examples(np.concatenate(orders), window)
        images = np.empty((len(examples), *self.shape), np.uint8)
        if self.augment == "none":
            np.stack([image for image, _ in examples], out=images)
        else:
            rngs = (rng for _, word in self.words for rng in _generators(word, sequence))
            for out, (image, _), rng in zip(images, examples, rngs, strict=True):
                augment_lib.training(image, rng, self.augment, self.size, out)
        labels = np.asarray([label for _, label in examples], np.int32)
        shape = (len(self.words), self.share)
        return images.reshape(*shape, *self.shape), labels.reshape(shape)


@dataclasses.dataclass(frozen=True)
class _Evaluation:
    """Random access to the batches of a split: number of a batch → images, labels and valid.

    The batch begins at example `first + number × stride`. Beyond the end of the split, images of
    `shape` are not valid.
    """

    source: Source
    shape: tuple[int, int, int]
    window: Window
    first: int
    share: int
    stride: int

    def __len__(self) -> int:
        return math.ceil(len(self.source) / self.stride)

    def __getitem__(self, number: int) -> EvalBatch:
        start = self.first + number * self.stride
        there = range(start, min(start + self.share, len(self.source)))
        images = np.zeros((self.share, *self.shape), np.uint8)
        labels = np.zeros(self.share, np.int32)
        for row, (image, label) in enumerate(self.source.examples(there, self.window)):
            images[row], labels[row] = image, label
        return images, labels, np.arange(self.share) < len(there)


def _generators(word: int, sequence: range) -> Iterator[np.random.Generator]:
    """Yields the generator of each place of the sequence, as Grain's `random_map` seeds it.

    It is one object in several states, since making one takes longer than setting it.
    """
    rng = np.random.Generator(np.random.Philox(word))
    begun: dict[str, Any] = {**rng.bit_generator.state}
    for at in sequence:
        counter = np.array([0, 0, 0, at], np.uint64)
        rng.bit_generator.state = {**begun, "state": {**begun["state"], "counter": counter}}
        yield rng


def _share(batch_size: int, parts: int, part: int) -> int:
    if batch_size % parts or not 0 <= part < parts:
        raise ValueError(f"part {part} of {parts} of a batch of {batch_size}")
    return batch_size // parts


def _word(seed: int, name: str) -> int:
    """Returns 32 bits of a hash: to Grain, epoch e of seed s is epoch e - 1 of seed s + 1."""
    return int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:4])
