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
      dir: folder of the files, for idx and tfds.
      validation_examples: held out of train, by a permutation drawn from `split_seed`.
      split_seed: at least 0.
      standardize: subtract the training images' mean, divide by their deviation.
      pad: black pixels around every image, on each side; not for streams.
      stream: read a tfds set as it is needed (`streams.open_files`), not whole (`load`).

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
