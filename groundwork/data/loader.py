"""Batches of streams: Grain reads, decodes and augments them on the host, ahead of the device.

Read `train_batches` first. The order is an endless sequence of reshuffled epochs a replicate, and
a function of (seed, step): batches are counted through the epochs, so that one may hold the end of
an epoch and the beginning of the next. Nothing here needs JAX: worker processes import this module.
"""

# R replicates, B batch, H W C image height, width, channels

import functools
import hashlib
import math
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

import grain
import numpy as np
from absl import flags

from groundwork.data import augment as augment_lib
from groundwork.data.file_dataset import THREADS, FileDataset, Source
from groundwork.data.spec import DataSpec
from groundwork.errors import UserError

TrainBatch = tuple[np.ndarray, np.ndarray]  # images [R, B, H, W, C] uint8, labels [R, B] int32
EvalBatch = tuple[np.ndarray, np.ndarray, np.ndarray]  # images [B, …], labels [B], valid [B] bool
T = TypeVar("T")
Placed = TypeVar("Placed")


def train_batches(
    streams: FileDataset,
    spec: DataSpec,
    seeds: Sequence[int],
    start: int,
    *,
    batch_size: int,
    parts: int,
    part: int,
) -> Generator[TrainBatch, None, None]:
    """Endless training batches from step `start` on, one a step, of the replicates with `seeds`.

    Yields:
      Images uint8 [R, batch_size / parts, H, W, C] and labels int32 [R, batch_size / parts]: part
      `part` of `parts` equal pieces of each replicate's batch. What step s has depends on neither
      `start` nor the parts nor the workers. Close the iterator to end its threads and workers.
    """
    share = _share(batch_size, parts, part)
    view = functools.partial(_training_view, augment=spec.augment, size=spec.image_size)

    def of_seed(seed: int) -> grain.MapDataset:
        shuffled = grain.MapDataset.source(streams.train).shuffle(seed=_word(seed, "order"))
        views = shuffled.repeat().random_map(view, seed=_word(seed, "augment"))
        return views.batch(share)[start * parts + part :: parts]

    together = grain.experimental.ZipMapDataset([of_seed(seed) for seed in seeds])
    return _read(together.map(_stacked), streams.name, spec.workers)


def eval_batches(
    streams: FileDataset, spec: DataSpec, split: str, *, batch_size: int, parts: int, part: int
) -> Generator[EvalBatch, None, None]:
    """Once through `validation` or `test`, in order: this part of every batch.

    Yields:
      Images uint8 [batch_size / parts, H, W, C], labels int32 and valid bool, one an image: the
      last batch is padded with images that are not valid. All parts have equally many batches.
    """
    source = {"validation": streams.validation, "test": streams.test}[split]
    share = _share(batch_size, parts, part)
    whole = math.ceil(len(source) / batch_size) * batch_size
    view = functools.partial(
        _evaluation_view, source, streams.shape, augment=spec.augment, size=spec.image_size
    )
    views = grain.MapDataset.range(whole).map(view).batch(share)[part::parts]
    return _read(views, streams.name, spec.workers)


def prefetch(
    iterator: Iterator[T], put: Callable[[T], Placed], size: int = 2
) -> Generator[Placed, None, None]:
    """`put(batch)` for each batch of `iterator`, in order, made up to `size` ahead by a thread.

    The thread starts at the first `next`. What it raises is raised here, at its place in the
    order. Closing the generator ends the thread and closes the iterator.
    """
    made: queue.SimpleQueue = queue.SimpleQueue()  # (batch, None), at last (None, why it ended)
    room, closed = threading.Semaphore(size), threading.Event()
    program_ends = sys.is_finalizing  # threads run no more then, and `sys` itself may be gone

    def make() -> None:
        try:
            while room.acquire() and not closed.is_set():
                made.put((put(next(iterator)), None))
        except BaseException as error:  # also StopIteration; whatever it is, it is not lost
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


def _read(batches: grain.MapDataset, name: str, workers: int) -> Generator:
    """Its elements in order, read ahead by threads or, with `workers`, by processes."""
    _default_flags()
    threads = 0 if workers else THREADS
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    # Pipes, not shared memory, which containers keep small, and which an early end leaks.
    options = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
    piped = grain.experimental.WithOptionsIterDataset(batches.to_iter_dataset(ahead), options)
    processes = grain.multiprocessing.MultiprocessingOptions(num_workers=workers)
    reader = iter(piped.mp_prefetch(processes, _begin_worker))
    try:
        yield from reader
    except RuntimeError as error:  # Grain's, where a worker is gone
        raise UserError(
            f"{name} cannot be read on: one of {workers} data.workers was killed; where memory is "
            f"short, use fewer ({' '.join(str(error).split())[:100]})"
        ) from error
    finally:
        reader.close()


def _default_flags() -> None:
    """Where no absl app has parsed the flags, Grain trips over its own unless they have values."""
    if not flags.FLAGS.is_parsed():
        for name in flags.FLAGS:
            if name.startswith("grain_"):
                flags.FLAGS[name].present = 1


def _begin_worker(index: int, count: int) -> None:
    """Signals are for the main process to answer, and no worker outlives it, however it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they may come to the whole group
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _training_view(row: dict, rng: np.random.Generator, augment: str, size: int) -> dict:
    image = augment_lib.training(row["image"], rng, augment, size)
    return {"image": image, "label": np.int32(row["label"])}


def _evaluation_view(
    source: Source, shape: tuple[int, int, int], index: int, augment: str, size: int
) -> tuple:
    """Image, label and valid; beyond the end of the source an image that is not valid."""
    if index >= len(source):
        return np.zeros(shape, np.uint8), np.int32(0), np.bool_(False)
    row = source[index]
    image = augment_lib.evaluation(row["image"], augment, size)
    return image, np.int32(row["label"]), np.bool_(True)


def _stacked(batches: tuple[dict, ...]) -> TrainBatch:
    images, labels = ([batch[key] for batch in batches] for key in ("image", "label"))
    return np.stack(images), np.stack(labels)


def _share(batch_size: int, parts: int, part: int) -> int:
    if batch_size % parts or not 0 <= part < parts:
        raise ValueError(f"part {part} of {parts} of a batch of {batch_size}")
    return batch_size // parts


def _word(seed: int, name: str) -> int:
    """32 random bits of any integer. Grain's epoch e of seed s is epoch e - 1 of seed s + 1."""
    return int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:4])
