"""Batches from files: Grain reads, decodes and augments them on the host, ahead of the device.

Read `train_batches` first. Each replicate has an endless sequence of reshuffled epochs, and its
order is a function of (seed, step). Batches are counted through the epochs, so one batch may hold
the end of an epoch and the beginning of the next. This module does without JAX, since worker
processes import it.
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
from typing import Any, TypeVar

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
    view = functools.partial(_training_view, augment=spec.augment, size=spec.image_size)

    def of_seed(seed: int) -> grain.MapDataset:
        shuffled = grain.MapDataset.source(files.train).shuffle(seed=_word(seed, "order"))
        views = shuffled.repeat().random_map(view, seed=_word(seed, "augment"))
        return views.batch(share)[start * parts + part :: parts]

    together = grain.experimental.ZipMapDataset([of_seed(seed) for seed in seeds])
    return _read(together.map(_stacked), files.name, spec.workers)


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
    whole = math.ceil(len(source) / batch_size) * batch_size
    view = functools.partial(
        _evaluation_view, source, files.shape, augment=spec.augment, size=spec.image_size
    )
    views = grain.MapDataset.range(whole).map(view).batch(share)[part::parts]
    return _read(views, files.name, spec.workers)


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


def _read(batches: grain.MapDataset, name: str, workers: int) -> Generator[Any, None, None]:
    """Yields the batches in order, read ahead by threads or, with `workers`, by processes."""
    _default_flags()
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


def _training_view(
    row: dict[str, Any], rng: np.random.Generator, augment: str, size: int
) -> dict[str, Any]:
    image = augment_lib.training(row["image"], rng, augment, size)
    return {"image": image, "label": np.int32(row["label"])}


def _evaluation_view(
    source: Source, shape: tuple[int, int, int], index: int, augment: str, size: int
) -> tuple[np.ndarray, np.int32, np.bool_]:
    """Returns image, label and valid; beyond the end of the source, an invalid image."""
    if index >= len(source):
        return np.zeros(shape, np.uint8), np.int32(0), np.bool_(False)
    row = source[index]
    image = augment_lib.evaluation(row["image"], augment, size)
    return image, np.int32(row["label"]), np.bool_(True)


def _stacked(batches: tuple[dict[str, np.ndarray], ...]) -> TrainBatch:
    images, labels = ([batch[key] for batch in batches] for key in ("image", "label"))
    return np.stack(images), np.stack(labels)


def _share(batch_size: int, parts: int, part: int) -> int:
    if batch_size % parts or not 0 <= part < parts:
        raise ValueError(f"part {part} of {parts} of a batch of {batch_size}")
    return batch_size // parts


def _word(seed: int, name: str) -> int:
    """Returns 32 bits of a hash: to Grain, epoch e of seed s is epoch e - 1 of seed s + 1."""
    return int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:4])
