"""Data sets that are too large for the device: their images are read from files during training.

Read `open_files` first; `loader.py` makes the batches. This module does without JAX, since worker
processes import it.
"""

# N examples, H W C image height, width, channels

import collections
import dataclasses
import hashlib
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from groundwork.data import augment as augment_lib
from groundwork.data import cache as cache_lib
from groundwork.data import decoding, readers
from groundwork.data.examples import Cache, Source, Window
from groundwork.data.readers import THREADS
from groundwork.data.spec import DataSpec
from groundwork.errors import UserError

MOMENT_EXAMPLES = 1000  # training images from which mean and deviation are computed
LABELS_BYTES = 2**30  # of a test split's files, up to which all of its labels are read first
LABELS = 1000  # labels of a larger one that are


class FileDataset(NamedTuple):
    """A data set that stays in its files. `validation` may be empty."""

    name: str
    train: Source
    validation: Source
    test: Source
    shape: tuple[int, int, int]  # of one network input: H, W, C
    classes: int
    mean: np.ndarray  # [1, 1, 1, C], subtracted after scaling to [0, 1]
    std: np.ndarray  # [1, 1, 1, C], by which the images are then divided
    digest: str  # equal for equal files
    spec: DataSpec

    @property
    def example(self) -> Any:
        """The shapes and dtypes of a batch of one example, as the network takes it."""
        import jax  # worker processes, which import this module, do without it

        return jax.ShapeDtypeStruct((1, *self.shape), np.float32)

    @property
    def target(self) -> Any:
        """The shape and dtype of the label of one example, [1]."""
        import jax

        return jax.ShapeDtypeStruct((1,), np.int32)

    @property
    def examples(self) -> dict[str, int]:
        """The number of examples of each split."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: len(source) for name, source in splits.items()}


def open_files(spec: DataSpec) -> FileDataset:
    """Opens the TFDS set that a config's `data` section names.

    Mean and deviation are the config's. If it has none, they are computed from `MOMENT_EXAMPLES`
    training images, transformed as for evaluation; the same images are taken every time.

    Raises:
      UserError: `readers.open_tfds` raises it; images are not uint8 grey or RGB, or differ in size
        without `data.image_size`; there are too few examples for validation; a test label is out of
        range; or the cache does not fit.
    """
    builder = readers.open_tfds(spec.name, spec.dir)
    stored, channels = readers.check_images(builder)
    splits = ("train", spec.test_split)
    records = {split: readers.open_split(builder, split) for split in splits}
    classes = builder.info.features["label"].num_classes
    if not stored and not spec.image_size:  # take the first image's size
        first = Source(spec.name, "train", records["train"], np.zeros(1, int), classes, channels)
        stored = first[0]["image"].shape[:2]

    def source(split: str, places: np.ndarray) -> Source:
        needed = None if spec.image_size else stored
        return Source(spec.name, split, records[split], places, classes, channels, needed)

    examples = len(records["train"])
    kept, held = readers.hold_out(spec.name, examples, spec.validation_examples, spec.split_seed)
    train, validation = source("train", kept), source("train", held)
    test = source(spec.test_split, np.arange(len(records[spec.test_split])))
    digest, sizes = _digest(builder, splits)
    _check_labels(test, sizes[spec.test_split])
    mean, std = _moments(train, spec)
    known = {split: [builder.info.full_name, *_written(builder, split)] for split in splits}
    train, validation, test = _cached(train, validation, test, stored, known, spec)
    size = stored if stored and not spec.image_size else (spec.image_size, spec.image_size)
    return FileDataset(
        name=spec.name,
        train=train,
        validation=validation,
        test=test,
        shape=(*size, channels),
        classes=classes,
        mean=mean,
        std=std,
        digest=digest,
        spec=spec,
    )


def _check_labels(test: Source, size: int) -> None:
    """Refuses labels of a test split out of range before a run trains; see `LABELS_BYTES`."""
    count = len(test) if size <= LABELS_BYTES else min(len(test), LABELS)
    for part in np.array_split(np.linspace(0, len(test) - 1, count, dtype=int), count // 500 + 1):
        test.check_labels(part)


def _cached(
    train: Source,
    validation: Source,
    test: Source,
    stored: tuple[int, int] | None,
    known: Mapping[str, Any],
    spec: DataSpec,
) -> tuple[Source, Source, Source]:
    """Returns the splits with the caches that `data.cache` asks for.

    What is `known` of the files of each split is equal for equal files alone.
    """
    if spec.cache == "none":
        return train, validation, test
    training = augment_lib.training_window(spec.augment, spec.image_size)
    evaluation = augment_lib.evaluation_window(spec.augment, spec.image_size)

    def name(source: Source) -> str:
        described = [known[source.split], source.channels, decoding.versions()]
        digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
        return f"{source.name}-{source.split}-{digest}".replace("/", "-")

    needed: collections.Counter[tuple[str, Window]] = collections.Counter()
    for source, window in ((train, training), (validation, evaluation), (test, evaluation)):
        pixels = _pixels(source, window, stored) * source.channels
        needed[name(source), window] += len(source) * pixels
    cache_lib.check_room(spec.cache, needed)
    examples = len(train) + len(validation) + len(test)
    total = needed.total() + examples * cache_lib.PER_EXAMPLE

    def cached(source: Source, total: int) -> Cache | None:
        return cache_lib.made(spec.cache, spec.workers, name(source), source.channels, total)

    shared, own = cached(train, total), cached(test, 0)
    if shared is None:
        return train, validation, test
    return (
        dataclasses.replace(train, cache=shared),
        dataclasses.replace(validation, cache=shared),
        dataclasses.replace(test, cache=own),
    )


def _pixels(source: Source, window: Window, stored: tuple[int, int] | None) -> int:
    """Returns an image's pixels; where images differ in size, the mean of a few that are spread."""
    if window[0]:
        return window[0] ** 2
    if stored:
        return stored[0] * stored[1]
    few = np.linspace(0, len(source) - 1, min(len(source), 50), dtype=int)
    return round(np.mean([image[..., 0].size for image, _ in source.examples(few)]))


def _moments(train: Source, spec: DataSpec) -> tuple[np.ndarray, np.ndarray]:
    """Returns each channel's mean and deviation of images in [0, 1], float32 [1, 1, 1, C]."""
    channels = train.channels
    if len(spec.mean) not in (0, channels):
        raise UserError(
            f"data.mean={spec.mean} has {len(spec.mean)} numbers, but {spec.name} has {channels} "
            "channels: one per channel is needed"
        )
    if not spec.standardize:
        moments = np.zeros(channels), np.ones(channels)
    elif spec.mean:
        moments = np.asarray(spec.mean), np.asarray(spec.std)
    else:
        moments = _sampled_moments(train, spec)
    mean, std = (moment.astype(np.float32).reshape(1, 1, 1, -1) for moment in moments)
    return mean, std


def _sampled_moments(train: Source, spec: DataSpec) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.random.default_rng(0).permutation(len(train))[:MOMENT_EXAMPLES]
    window = augment_lib.evaluation_window(spec.augment, spec.image_size)
    with ThreadPoolExecutor(THREADS) as pool:
        parts = np.array_split(chosen, math.ceil(len(chosen) / 20))
        read = pool.map(lambda part: [_sums(x) for x, _ in train.examples(part, window)], parts)
        sums = list(itertools.chain.from_iterable(read))
    count, total, squares = np.sum(sums, axis=0).astype(np.float64).T
    std = np.sqrt(count * squares - total**2) / count / 255  # exactly 0 where all are equal
    return total / count / 255, np.where(std > 0, std, 1.0)


def _sums(image: np.ndarray) -> np.ndarray:
    """Returns number, sum and sum of squares of each channel's pixels, [C, 3] int64."""
    image = image.astype(np.int64)
    count = np.full(image.shape[2], image[..., 0].size)
    return np.stack([count, image.sum((0, 1)), (image**2).sum((0, 1))], axis=1)


def _digest(builder: Any, splits: Sequence[str]) -> tuple[str, dict[str, int]]:
    """Returns a SHA-256 of a set's name, version, splits and sizes of files, and splits' bytes."""
    described: list[Any] = [builder.info.full_name]
    total = {}
    for split in splits:
        info = builder.info.splits[split]
        try:
            sizes = [os.path.getsize(path) for path in info.filepaths]
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}"
            raise UserError(f"{builder.name}: {split} cannot be read ({reason})") from error
        described.append([split, info.num_examples, info.shard_lengths, sizes])
        total[split] = sum(sizes)
    return hashlib.sha256(json.dumps(described).encode()).hexdigest(), total


def _written(builder: Any, split: str) -> list[tuple[str, int, int]]:
    """Returns name, bytes and time of each file: those of equal sizes may have other labels."""
    paths = builder.info.splits[split].filepaths
    stats = [os.stat(path) for path in paths]
    names = [os.path.basename(path) for path in paths]
    return [(n, stat.st_size, stat.st_mtime_ns) for n, stat in zip(names, stats, strict=True)]
