"""Data sets that fit on the device: `load` gives one, whole, as arrays (or opens a stream).

Read `load` first. `sources.py` reads each kind of file; here the examples are checked, split
and described. The order of training examples is a function of (seed, step): `epoch_order`.
"""

# N examples, B batch, H W C image height, width, channels

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork import config as config_lib
from groundwork import keys
from groundwork.data import augment, readers
from groundwork.data.file_dataset import Streams, open_streams
from groundwork.errors import UserError, unknown

STREAM_KEYS = ("test_split", "image_size", "augment", "workers", "mean", "std")  # of DataSpec


class Split(NamedTuple):
    """Examples of one split. Images are stored as they came (uint8 where they are images)."""

    images: np.ndarray  # [N, H, W, C] uint8, or [N, features] float32
    labels: np.ndarray  # [N] int32 in [0, classes)


class Dataset(NamedTuple):
    """A data set in memory. `validation` may be empty."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    mean: np.ndarray  # [1, …, C], subtracted after scaling to [0, 1]
    std: np.ndarray  # [1, …, C], what it is then divided by

    @property
    def examples(self) -> dict[str, int]:
        """How many there are, by split."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: len(split.labels) for name, split in splits.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train.images.shape[1:]


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The config's `data` section.

    Attributes:
      name: the data set.
      source: `digits`, `mnist1d`, `idx` or `tfds`.
      dir: folder of the files, for idx and tfds.
      validation_examples: held out of train, by a permutation drawn from `split_seed`.
      split_seed: at least 0.
      standardize: subtract the training images' mean, divide by their deviation.
      pad: black pixels around every image, on each side; not for streams.
      stream: read a tfds set as it is needed (`streams.open_streams`), not whole (`load`).

    The rest is for streams alone:
      test_split: the split that is the test set; for ImageNet `validation`, as in its papers.
      image_size: height and width that images are brought to; 0 = as they are stored.
      augment: `none`, `crop_flip` or `resized_crop`: see `augment.training`.
      workers: processes that read ahead; 0 = threads of this one.
      mean, std: in [0, 1], one a channel; empty = computed from `streams.MOMENT_EXAMPLES` images.
    """

    name: str
    source: str
    dir: str = ""
    validation_examples: int = 0
    split_seed: int = 0
    standardize: bool = True
    pad: int = 0
    stream: bool = False
    test_split: str = "test"
    image_size: int = 0
    augment: str = "none"
    workers: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.source not in readers.SOURCES:
            raise unknown("data source", self.source, readers.SOURCES)
        for key in ("split_seed", "pad"):
            if getattr(self, key) < 0:
                raise UserError(f"data.{key}={getattr(self, key)} must be at least 0")
        if self.augment not in augment.AUGMENTS:
            raise unknown("data.augment", self.augment, augment.AUGMENTS)
        if self.stream:
            self._check_stream()
        else:
            self._check_no_stream()

    def _check_stream(self) -> None:
        if self.pad:
            raise UserError("data.pad is for data in memory; a stream has data.image_size")
        if self.source != "tfds":
            raise UserError(f"data.stream=True needs data.source=tfds, not {self.source}")
        for key in ("image_size", "workers"):
            if getattr(self, key) < 0:
                raise UserError(f"data.{key}={getattr(self, key)} must be at least 0")
        if self.augment == "resized_crop" and not self.image_size:
            raise UserError("data.augment=resized_crop needs data.image_size, such as 224")
        if len(self.mean) != len(self.std):
            raise UserError(f"data.mean={self.mean} and data.std={self.std} must be equally long")
        if self.mean and not self.standardize:
            raise UserError("data.mean and data.std have no use with data.standardize=False")
        if not all(0 <= m <= 1 and 0 < s <= 1 for m, s in zip(self.mean, self.std, strict=True)):
            raise UserError(
                f"data.mean={self.mean} and data.std={self.std} must be in [0, 1] (std not 0), as "
                "of images scaled to [0, 1]: divide numbers in [0, 255] by 255"
            )

    def _check_no_stream(self) -> None:
        for key in STREAM_KEYS:
            value = getattr(self, key)
            if value != getattr(DataSpec, key) and value != []:  # JSON's form of ()
                raise UserError(f"data.{key}={value!r} needs data.stream=True")


def load(config: Mapping[str, Any]) -> Dataset | Streams:
    """Read, check and split the data set that a config names, or open it as a stream.

    Args:
      config: an experiment's config or its `data` section: the keys of `DataSpec`.

    Raises:
      UserError: an unknown key, name or source; missing, truncated or foreign files; labels out
        of range; more validation examples than there are; what `open_streams` refuses.
    """
    spec = config_lib.build(DataSpec, config.get("data", config), "data")
    if spec.stream:
        return open_streams(spec)
    name, held = spec.name, spec.validation_examples
    train, test, classes = readers.SOURCES[spec.source](name, spec.dir)
    train, test = (Split(*_checked(name, *split, classes)) for split in (train, test))
    if spec.pad:
        train, test = (Split(_padded(images, spec), labels) for images, labels in (train, test))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(
            f"{name} has training examples of shape {train.images.shape[1:]} but test examples of "
            f"shape {test.images.shape[1:]}"
        )
    kept, held_out = readers.hold_out(name, len(train.labels), held, spec.split_seed)
    validation = Split(train.images[held_out], train.labels[held_out])
    train = Split(train.images[kept], train.labels[kept])
    moments = _moments(train.images) if spec.standardize else _no_moments(train.images)
    return Dataset(name, train, validation, test, classes, *moments)


def digest(dataset: Dataset | Streams) -> str:
    """SHA-256 of all examples and labels, to tell whether a run goes on with the same data.

    Of a stream: of the names and sizes of its files.
    """
    if isinstance(dataset, Streams):
        return dataset.digest
    total = hashlib.sha256()
    for split in (dataset.train, dataset.validation, dataset.test):
        for array in split:
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def normalize(dataset: Dataset | Streams, images: jax.Array) -> jax.Array:
    """Stored images → float32 network inputs, same shape: scaled to [0, 1], standardised."""
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    return (images.astype(jnp.float32) / scale - dataset.mean) / dataset.std


def epoch_order(key: jax.Array, epoch: jax.Array, examples: int) -> jax.Array:
    """Order in which one epoch visits the training examples, [N] int32, of a root key."""
    key = jax.random.fold_in(keys.stream(key, "order"), epoch)
    # One sort of random words; jax.random.permutation sorts twice. A tie among N < 2²⁴ words
    # leaves two neighbours in their old order, which no batch statistic can see.
    words = jax.random.bits(key, (examples,))
    # Zero times the words: under shard_map a sorted bare iota loses its mark of varying by device.
    places = jnp.arange(examples, dtype=jnp.int32) + (words & 0).astype(jnp.int32)
    return lax.sort_key_val(words, places)[1]


def _checked(
    name: str, images: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    if len(images) != len(labels):
        raise UserError(f"{name} has {len(images)} images but {len(labels)} labels")
    if not len(labels):
        raise UserError(f"{name} has a split without examples")
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise UserError(
            f"label {labels[bad[0]]} of example {bad[0]} of {name} is out of range: "
            f"expected 0 to {classes - 1}"
        )
    return images, labels.astype(np.int32)


def _padded(images: np.ndarray, spec: DataSpec) -> np.ndarray:
    if images.ndim != 4:
        raise UserError(f"data.pad={spec.pad}: {spec.name} has no images")
    return np.pad(images, [(0, 0), (spec.pad, spec.pad), (spec.pad, spec.pad), (0, 0)])


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation a channel, of images scaled to [0, 1], as float32."""
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    axes = tuple(range(images.ndim - 1))
    mean = images.mean(axes, dtype=np.float64, keepdims=True) / scale
    std = images.std(axes, dtype=np.float64, keepdims=True) / scale
    return mean.astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32)


def _no_moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shape = (1,) * images.ndim
    return np.zeros(shape, np.float32), np.ones(shape, np.float32)
