"""Data sets too large for the device: images that are read from their files while a run trains.

Read `open_files` first; `loader.py` makes batches of what it opens. Nothing here needs JAX, since
worker processes import this module.
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

MOMENT_EXAMPLES = 1000  # training images that mean and deviation are computed from
THREADS = min(16, os.cpu_count() or 1)  # that read and decode


@dataclasses.dataclass(frozen=True)
class Source:
    """Random access to decoded examples: `source[i]` → {"image": uint8 [H, W, C], "label": int}.

    `records[k]` has the image file's bytes; example i is record `places[i]`. `shape` is the (H, W)
    that all images must have, or None. A record that cannot be used is a UserError.
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
        what = f"example {place} of {self.split} of {self.name}"
        try:
            record = self.records[place]
            image, label = augment_lib.decode(record["image"], self.channels), int(record["label"])
        except Exception as error:  # damaged records fail in as many ways as they have bytes
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{what} cannot be read ({reason}): damaged; get it again") from error
        if self.shape not in (None, image.shape[:2]):
            raise UserError(
                f"{what} has {image.shape[:2]} pixels, others {self.shape}: give data.image_size"
            )
        if not 0 <= label < self.classes:
            raise UserError(
                f"{what} has label {label}, expected 0 to {self.classes - 1}: if this split comes "
                "without labels, evaluate another one with data.test_split"
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
    def examples(self) -> dict[str, int]:
        """The number of examples of each split."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: len(source) for name, source in splits.items()}


def open_files(spec: DataSpec) -> FileDataset:
    """Open the TFDS set that a config's `data` section names.

    Mean and deviation are the config's. Where it has none, they are computed from `MOMENT_EXAMPLES`
    training images, as these are evaluated; the same images are taken every time.

    Raises:
      UserError: what `sources.open_tfds` refuses; images other than uint8 grey or RGB, or of
        differing sizes without `data.image_size`; more validation examples than there are.
    """
    builder = readers.open_tfds(spec.name, spec.dir)
    import tensorflow_datasets as tfds  # open_tfds has quietened and imported it

    feature, splits = builder.info.features["image"], ("train", spec.test_split)
    if feature.np_dtype != np.uint8 or feature.shape[2:] not in [(c,) for c in augment_lib.MODES]:
        raise UserError(
            f"{spec.name} has images of shape {feature.shape} and type {feature.np_dtype}: "
            "uint8 with 1 or 3 channels is needed"
        )
    raw = {"image": tfds.decode.SkipDecoding()}  # decoded by Pillow, whatever else is installed
    records = {split: readers.open_split(builder, split, raw) for split in splits}
    channels, classes = feature.shape[2], builder.info.features["label"].num_classes
    stored = feature.shape[:2]
    if None in stored and not spec.image_size:  # then the first image is as good as any
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


def _moments(train: Source, spec: DataSpec) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel, of images in [0, 1]: float32 [1, 1, 1, C]."""
    channels = train.channels
    if len(spec.mean) not in (0, channels):
        raise UserError(
            f"data.mean={spec.mean} has {len(spec.mean)} numbers, but {spec.name} has {channels} "
            "channels: one a channel is needed"
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
    """Number, sum and sum of squares of each channel's pixels, [C, 3] int64."""
    image = augment_lib.evaluation(image, spec.augment, spec.image_size).astype(np.int64)
    count = np.full(image.shape[2], image[..., 0].size)
    return np.stack([count, image.sum((0, 1)), (image**2).sum((0, 1))], axis=1)


def _digest(builder: Any, splits: Sequence[str]) -> str:
    """SHA-256 of a set's name, version, splits and the sizes of their files."""
    about: list[Any] = [builder.info.full_name]
    for split in splits:
        info = builder.info.splits[split]
        try:
            sizes = [os.path.getsize(path) for path in info.filepaths]
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}"
            raise UserError(f"{builder.name}: {split} cannot be read ({reason})") from error
        about.append([split, info.num_examples, info.shard_lengths, sizes])
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
