"""The config's `data` section, as a dataclass that checks itself."""

import dataclasses

from groundwork.data import augment, readers
from groundwork.errors import UserError, unknown

STREAM_KEYS = ("test_split", "image_size", "augment", "workers", "mean", "std")  # for streams alone


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The config's `data` section.

    Attributes:
      name: the data set.
      source: `digits`, `mnist1d`, `idx` or `tfds`.
      dir: the folder of the files, for idx and tfds.
      validation_examples: how many are held out of the training set.
      split_seed: from which the permutation that chooses them is drawn; at least 0.
      standardize: whether the training images' mean is subtracted, and their deviation divided by.
      pad: the black pixels on each side of every image; not for streams.
      stream: whether a tfds set is read from its files as needed (`file_dataset.open_files`), or
        whole (`dataset.load`).
      test_split: the split that serves as the test set; for ImageNet `validation`, as in its
        papers. This and all that follow are for streams alone.
      image_size: the height and width of the network's images; 0 = as they are stored.
      augment: `none`, `crop_flip` or `resized_crop`; see `augment.training`.
      workers: how many processes read ahead; 0 = threads of this one.
      mean: in [0, 1], one per channel; empty = computed (`file_dataset.MOMENT_EXAMPLES` images).
      std: likewise.
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
                "for images scaled to [0, 1]: divide numbers in [0, 255] by 255"
            )

    def _check_no_stream(self) -> None:
        for key in STREAM_KEYS:
            value = getattr(self, key)
            if value != getattr(DataSpec, key) and value != []:  # JSON's form of ()
                raise UserError(f"data.{key}={value!r} needs data.stream=True")
