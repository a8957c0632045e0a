"""Data sets that fit on the device as arrays. Read `load` first.

`readers.py` reads each kind of source; this module checks, splits and describes the examples.
`load` also opens a `FileDataset`, whose examples stay in their files. The order of training
examples is a function of (seed, step); see `epoch_order`.
"""

# N examples, B batch, H W C image height, width, channels

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork import config as config_lib
from groundwork import keys
from groundwork.data import readers
from groundwork.data.file_dataset import FileDataset, open_files
from groundwork.data.spec import DataSpec
from groundwork.errors import UserError


class Split(NamedTuple):
    """The examples of one split. Inputs are stored as they were read: images as uint8."""

    inputs: np.ndarray  # [N, H, W, C] uint8, or [N, features] float32
    labels: np.ndarray  # [N] int32 in [0, classes)


class Dataset(NamedTuple):
    """A data set in memory. `validation` may be empty."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    mean: np.ndarray  # [1, …, C], subtracted from the inputs once they are scaled to [0, 1]
    std: np.ndarray  # [1, …, C], by which the inputs are then divided

    @property
    def examples(self) -> dict[str, int]:
        """The number of examples of each split."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: len(split.labels) for name, split in splits.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example's inputs."""
        return self.train.inputs.shape[1:]


AnyDataset = Dataset | FileDataset


def load(config: Mapping[str, Any]) -> AnyDataset:
    """Reads, checks and splits the data set that a config names, or opens its files.

    Args:
      config: the config of an experiment, or its `data` section (the keys of `DataSpec`).

    Raises:
      UserError: a key, name or source is unknown; files are missing, truncated or of another
        kind; labels are out of range; there are too few examples for validation; or `open_files`
        raises it.
    """
    spec = config_lib.build(DataSpec, config.get("data", config), "data")
    if spec.stream:
        return open_files(spec)
    name, held = spec.name, spec.validation_examples
    train, test, classes = readers.SOURCES[spec.source](name, spec.dir)
    train, test = (Split(*_checked(name, *split, classes)) for split in (train, test))
    if spec.pad:
        train, test = (Split(_padded(inputs, spec), labels) for inputs, labels in (train, test))
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise UserError(
            f"{name} has training examples of shape {train.inputs.shape[1:]} but test examples of "
            f"shape {test.inputs.shape[1:]}"
        )
    kept, held_out = readers.hold_out(name, len(train.labels), held, spec.split_seed)
    validation = Split(train.inputs[held_out], train.labels[held_out])
    train = Split(train.inputs[kept], train.labels[kept])
    moments = _moments(train.inputs) if spec.standardize else _no_moments(train.inputs)
    return Dataset(name, train, validation, test, classes, *moments)


def digest(dataset: AnyDataset) -> str:
    """Returns a SHA-256 by which a run that continues knows its data.

    It covers all inputs and labels; for a `FileDataset`, the names and sizes of its files.
    """
    if isinstance(dataset, FileDataset):
        return dataset.digest
    total = hashlib.sha256()
    for split in (dataset.train, dataset.validation, dataset.test):
        for array in split:
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def normalize(dataset: AnyDataset, inputs: jax.Array) -> jax.Array:
    """Returns stored inputs as the network's: float32, scaled to [0, 1], then standardised."""
    scale = 255.0 if inputs.dtype == np.uint8 else 1.0
    return (inputs.astype(jnp.float32) / scale - dataset.mean) / dataset.std


def first_examples(dataset: AnyDataset, count: int) -> tuple[jax.Array, jax.Array]:
    """Returns the network's inputs [B, …] and labels [B] of the first training examples.

    Raises:
      UserError: the data set is not in memory.
    """
    if isinstance(dataset, FileDataset):
        raise UserError("images in memory are needed: set data.stream=false")
    inputs, labels = dataset.train.inputs[:count], dataset.train.labels[:count]
    return normalize(dataset, jnp.asarray(inputs)), jnp.asarray(labels, jnp.int32)


def epoch_order(key: jax.Array, epoch: jax.Array, examples: int) -> jax.Array:
    """Returns the order of the training examples in an epoch of a root key, [N] int32."""
    key = jax.random.fold_in(keys.stream(key, "order"), epoch)
    # One sort of random words; jax.random.permutation sorts twice. A tie among N < 2²⁴ words
    # leaves two neighbours in their old order, which no batch statistic can see.
    words = jax.random.bits(key, (examples,))
    # Zero times the words: under shard_map a sorted bare iota loses its mark of varying by device.
    places = jnp.arange(examples, dtype=jnp.int32) + (words & 0).astype(jnp.int32)
    return lax.sort_key_val(words, places)[1]


def _checked(
    name: str, inputs: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    if len(inputs) != len(labels):
        raise UserError(f"{name} has {len(inputs)} images but {len(labels)} labels")
    if not len(labels):
        raise UserError(f"{name} has a split without examples")
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise UserError(
            f"label {labels[bad[0]]} of example {bad[0]} of {name} is out of range: "
            f"expected 0 to {classes - 1}"
        )
    return inputs, labels.astype(np.int32)


def _padded(images: np.ndarray, spec: DataSpec) -> np.ndarray:
    if images.ndim != 4:
        raise UserError(f"data.pad={spec.pad}: {spec.name} has no images")
    return np.pad(images, [(0, 0), (spec.pad, spec.pad), (spec.pad, spec.pad), (0, 0)])


def _moments(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each channel's mean and standard deviation of inputs in [0, 1], float32."""
    scale = 255.0 if inputs.dtype == np.uint8 else 1.0
    axes = tuple(range(inputs.ndim - 1))
    mean = inputs.mean(axes, dtype=np.float64, keepdims=True) / scale
    std = inputs.std(axes, dtype=np.float64, keepdims=True) / scale
    return mean.astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32)


def _no_moments(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shape = (1,) * inputs.ndim
    return np.zeros(shape, np.float32), np.ones(shape, np.float32)
