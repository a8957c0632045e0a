"""Data sets that fit on the device as arrays. Read `load` first.

`readers.py` reads each kind of source; this module checks, splits and describes the examples.
`load` also opens a `FileDataset`, whose examples stay in their files. The order of training
examples is a function of (seed, step); see `epoch_order`.
"""

# N examples, B batch, H W C image height, width, channels

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork import config as config_lib
from groundwork import keys, named
from groundwork.data import checks, readers, sources
from groundwork.data.file_dataset import FileDataset, open_files
from groundwork.data.spec import DataSpec
from groundwork.devices import memory
from groundwork.errors import UserError


class Split(NamedTuple):
    """The examples of one split. Inputs are stored as they were read: images as uint8.

    Both are arrays, or trees of arrays, with a leading axis of N examples.
    """

    inputs: Any  # for example [N, H, W, C] uint8, or [N, features] float32
    labels: Any  # of classes [N] int32 in [0, classes); others of any shape, int32 or float32


class Dataset(NamedTuple):
    """A data set in memory. `validation` may be empty."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int  # 0 if the targets are none
    mean: Any  # [1, …, C], subtracted from the inputs once they are scaled to [0, 1]
    std: Any  # [1, …, C], by which the inputs are then divided

    @property
    def examples(self) -> dict[str, int]:
        """The number of examples of each split."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: checks.count(split.labels) for name, split in splits.items()}

    @property
    def shape(self) -> Any:
        """The shape of one example's inputs, or a tree of shapes."""
        return jax.tree.map(lambda leaf: leaf.shape[1:], self.train.inputs)

    @property
    def example(self) -> Any:
        """The shapes and dtypes of a batch of one example, as the network takes it."""
        return jax.tree.map(_as_input, self.train.inputs)

    @property
    def target(self) -> Any:
        """The shapes and dtypes of the targets of one example, [1, …]."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype), self.train.labels
        )


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
    name = spec.source if named.is_own(spec.source) else spec.name
    where = spec.dir or spec.path
    given = sources.read(spec.source, name, where, spec.kwargs, spec.image_size, spec.test_split)
    about = f"{name} in {where}" if where else name
    given = checks.of_classes(about, checks.checked(about, given), spec.classes)
    train, test = (_padded(Split(*pair), spec) for pair in (given.train, given.test))
    if given.validation is None:
        train, validation = _held_out(about, train, spec)
    elif spec.validation_examples:
        raise UserError(f"{name} has a validation split of its own: set data.validation_examples=0")
    else:
        validation = _padded(Split(*given.validation), spec)
    leaves, structure = jax.tree.flatten(train.inputs)
    of = functools.partial(_given_moments, spec) if spec.mean else _moments
    pairs = [of(leaf) if spec.standardize else _no_moments(leaf) for leaf in leaves]
    moments = [jax.tree.unflatten(structure, part) for part in zip(*pairs, strict=True)]
    return Dataset(name, train, validation, test, given.classes or 0, *moments)


def digest(dataset: AnyDataset) -> str:
    """Returns a SHA-256 by which a run that continues knows its data.

    It covers all inputs and labels; for a `FileDataset`, the names and sizes of its files.
    """
    if isinstance(dataset, FileDataset):
        return dataset.digest
    total = hashlib.sha256()
    for split in (dataset.train, dataset.validation, dataset.test):
        for array in jax.tree.leaves(tuple(split)):
            total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def warnings(dataset: AnyDataset, classifies: bool) -> list[str]:
    """Returns what a run should say of its data.

    Args:
      dataset: of the run.
      classifies: whether its targets are classes.

    Raises:
      UserError: far more classes have no training example than have one.
    """
    if isinstance(dataset, FileDataset):  # which counts its classes, and whose labels are not read
        return []
    said = []
    for leaf in jax.tree.leaves(dataset.train.inputs):
        if leaf.ndim >= 3 and leaf.dtype.kind in "iu" and leaf.dtype != np.uint8:
            said.append(
                f"inputs of {leaf.dtype} are taken as they are, as tokens would be: images are of "
                "uint8, or floats"
            )
    unseen = checks.unseen(dataset.train.labels, dataset.classes) if classifies else []
    more = f" and {len(unseen) - 10} more" if len(unseen) > 10 else ""
    if unseen:
        said.append(
            f"no training example has the label {', '.join(map(str, unseen[:10]))}{more}: the "
            f"network has {dataset.classes} outputs all the same"
        )
    return said


def normalize(dataset: AnyDataset, inputs: Any) -> Any:
    """Returns stored inputs as the network's: float32, scaled to [0, 1], then standardised.

    Integers other than uint8, such as tokens, stay as they are.
    """

    def one(inputs: jax.Array, mean: np.ndarray, std: np.ndarray) -> jax.Array:
        if not _is_scaled(inputs.dtype):
            return inputs
        scale = 255.0 if inputs.dtype == np.uint8 else 1.0
        return (inputs.astype(jnp.float32) / scale - mean) / std

    return jax.tree.map(one, inputs, dataset.mean, dataset.std)


def first_examples(dataset: AnyDataset, count: int) -> tuple[Any, Any]:
    """Returns the network's inputs [B, …] and targets [B, …] of the first training examples.

    Raises:
      UserError: the data set is not in memory.
    """
    if isinstance(dataset, FileDataset):
        raise UserError("images in memory are needed: set data.stream=false")
    inputs, labels = jax.tree.map(lambda leaf: jnp.asarray(leaf[:count]), tuple(dataset.train))
    return normalize(dataset, inputs), labels


def epoch_order(key: jax.Array, epoch: jax.Array, examples: int) -> jax.Array:
    """Returns the order of the training examples in an epoch of a root key, [N] int32."""
    key = jax.random.fold_in(keys.stream(key, "order"), epoch)
    # One sort of random words; jax.random.permutation sorts twice. A tie among N < 2²⁴ words
    # leaves two neighbours in their old order, which no batch statistic can see.
    words = jax.random.bits(key, (examples,))
    # Zero times the words: under shard_map a sorted bare iota loses its mark of varying by device.
    places = jnp.arange(examples, dtype=jnp.int32) + (words & 0).astype(jnp.int32)
    return lax.sort_key_val(words, places)[1]


def _held_out(name: str, train: Split, spec: DataSpec) -> tuple[Split, Split]:
    """Returns the training examples without some that are held out, and those."""
    kept, held = readers.hold_out(
        name, checks.count(train.labels), spec.validation_examples, spec.split_seed
    )
    parts = (jax.tree.map(lambda leaf, at=at: leaf[at], train) for at in (kept, held))
    train, validation = parts
    return train, validation


def _padded(split: Split, spec: DataSpec) -> Split:
    if not spec.pad:
        return split
    if getattr(split.inputs, "ndim", 0) != 4:
        raise UserError(f"data.pad={spec.pad}: {spec.name} has no images")
    examples, height, width, channels = split.inputs.shape
    pixels = (height + 2 * spec.pad) * (width + 2 * spec.pad)
    memory.check(f"data.pad={spec.pad}", examples * pixels * channels)
    sides = [(0, 0), (spec.pad, spec.pad), (spec.pad, spec.pad), (0, 0)]
    return split._replace(inputs=np.pad(split.inputs, sides))


def _as_input(leaf: np.ndarray) -> jax.ShapeDtypeStruct:
    dtype = jnp.float32 if _is_scaled(leaf.dtype) else leaf.dtype
    return jax.ShapeDtypeStruct((1, *leaf.shape[1:]), dtype)


def _is_scaled(dtype: Any) -> bool:
    """Returns whether stored inputs are numbers to standardise: images, or floats."""
    return bool(dtype == np.uint8 or jnp.issubdtype(dtype, jnp.floating))


def _moments(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each channel's mean and standard deviation of inputs in [0, 1], float32."""
    if not _is_scaled(inputs.dtype):
        return _no_moments(inputs)
    scale = 255.0 if inputs.dtype == np.uint8 else 1.0
    axes = tuple(range(inputs.ndim - 1))
    mean = inputs.mean(axes, dtype=np.float64, keepdims=True) / scale
    std = inputs.std(axes, dtype=np.float64, keepdims=True) / scale
    return mean.astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32)


def _given_moments(spec: DataSpec, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the config's mean and standard deviation of each channel, float32."""
    if inputs.ndim < 2 or inputs.shape[-1] != len(spec.mean) or not _is_scaled(inputs.dtype):
        raise UserError(
            f"data.mean={spec.mean} has {len(spec.mean)} channels, but {spec.name} has inputs of "
            f"shape {inputs.shape[1:]} and type {inputs.dtype}"
        )
    shape = (1,) * (inputs.ndim - 1) + (-1,)
    mean, std = (np.asarray(part, np.float32).reshape(shape) for part in (spec.mean, spec.std))
    return mean, std


def _no_moments(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shape = (1,) * inputs.ndim
    return np.zeros(shape, np.float32), np.ones(shape, np.float32)
