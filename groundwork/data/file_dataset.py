"""Data sets that are too large for the device: their images are read from files during training.

Read `open_files` first; `loader.py` makes the batches. This module does without JAX, since worker
processes import it.
"""

# N examples, H W C image height, width, channels

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from groundwork.data import augment as augment_lib
from groundwork.data import readers
from groundwork.data.spec import DataSpec
from groundwork.errors import UserError

MOMENT_EXAMPLES = 1000  # training images from which mean and deviation are computed
THREADS = min(16, os.cpu_count() or 1)  # for reading and decoding


@dataclasses.dataclass(frozen=True)
class Source:
    """Random access to decoded examples: `source[i]` → {"image": uint8 [H, W, C], "label": int}.

    `records[k]` has the image file's bytes; example i is record `places[i]`. `shape` is the (H, W)
    that all images must have, or None. A record that cannot be used raises a UserError.
    """

    name: str
    split: str
    records: Any
    places: np.ndarray  # [N]
    classes: int
    channels: int
    shape: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = int(self.places[index])
        example = f"example {place} of {self.split} of {self.name}"
        try:
            record = self.records[place]
            image, label = augment_lib.decode(record["image"], self.channels), int(record["label"])
        except Exception as error:  # damaged records fail in many ways
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{example} cannot be read ({reason}): damaged; get it again"
            ) from error
        if self.shape not in (None, image.shape[:2]):
            raise UserError(
                f"{example} has {image.shape[:2]} pixels, others {self.shape}: give data.image_size"
            )
        if not 0 <= label < self.classes:
            raise UserError(
                f"{example} has label {label}, expected 0 to {self.classes - 1}: if this split "
                "comes without labels, evaluate another one with data.test_split"
            )
        return {"image": image, "label": label}


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
        without `data.image_size`; or there are too few examples for validation.
    """
    builder = readers.open_tfds(spec.name, spec.dir)
    import tensorflow_datasets as tfds  # open_tfds has imported it, without its warnings

    feature, splits = builder.info.features["image"], ("train", spec.test_split)
    _check_images(spec.name, feature.shape, feature.np_dtype)
    raw = {"image": tfds.decode.SkipDecoding()}  # Pillow decodes, whatever else is installed
    records = {split: readers.open_split(builder, split, raw) for split in splits}
    channels, classes = feature.shape[2], builder.info.features["label"].num_classes
    stored = feature.shape[:2]
    if None in stored and not spec.image_size:  # take the first image's size
        first = Source(spec.name, "train", records["train"], np.zeros(1, int), classes, channels)
        stored = first[0]["image"].shape[:2]

    def source(split: str, places: np.ndarray) -> Source:
        needed = None if spec.image_size else stored
        return Source(spec.name, split, records[split], places, classes, channels, needed)

    examples = len(records["train"])
    kept, held = readers.hold_out(spec.name, examples, spec.validation_examples, spec.split_seed)
    train = source("train", kept)
    mean, std = _moments(train, spec)
    size = (spec.image_size,) * 2 if spec.image_size else stored
    return FileDataset(
        name=spec.name,
        train=train,
        validation=source("train", held),
        test=source(spec.test_split, np.arange(len(records[spec.test_split]))),
        shape=(*size, channels),
        classes=classes,
        mean=mean,
        std=std,
        digest=_digest(builder, splits),
        spec=spec,
    )


def _check_images(name: str, shape: tuple[int | None, ...], dtype: Any) -> None:
    if dtype != np.uint8 or shape[2:] not in [(channels,) for channels in augment_lib.MODES]:
        raise UserError(
            f"{name} has images of shape {shape} and type {dtype}: uint8 with 1 or 3 channels is "
            "needed"
        )


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
    with ThreadPoolExecutor(THREADS) as pool:
        sums = list(pool.map(lambda index: _sums(train[index]["image"], spec), chosen))
    count, total, squares = np.sum(sums, axis=0).astype(np.float64).T
    std = np.sqrt(count * squares - total**2) / count / 255  # exactly 0 where all are equal
    return total / count / 255, np.where(std > 0, std, 1.0)


def _sums(image: np.ndarray, spec: DataSpec) -> np.ndarray:
    """Returns number, sum and sum of squares of each channel's pixels, [C, 3] int64."""
    image = augment_lib.evaluation(image, spec.augment, spec.image_size).astype(np.int64)
    count = np.full(image.shape[2], image[..., 0].size)
    return np.stack([count, image.sum((0, 1)), (image**2).sum((0, 1))], axis=1)


def _digest(builder: Any, splits: Sequence[str]) -> str:
    """Returns a SHA-256 of a set's name, version and splits, and of the sizes of their files."""
    described: list[Any] = [builder.info.full_name]
    for split in splits:
        info = builder.info.splits[split]
        try:
            sizes = [os.path.getsize(path) for path in info.filepaths]
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}"
            raise UserError(f"{builder.name}: {split} cannot be read ({reason})") from error
        described.append([split, info.num_examples, info.shard_lengths, sizes])
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()
