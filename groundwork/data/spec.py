"""The config's `data` section, as a dataclass that checks itself."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from groundwork import named
from groundwork.data import augment, cache, own, readers, sources
from groundwork.devices import memory
from groundwork.errors import UserError, shown, unknown
from groundwork.typed import Seed

STREAM_KEYS = ("test_split", "image_size", "augment", "workers", "cache")

MOST_WORKERS = 1024


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The config's `data` section.

    Attributes:
      name: the data set.
      source: `digits`, `mnist1d`, `digit_canvases`, `idx`, `tfds`, `folder`, `npz`, `huggingface`,
        `photographs` or `text`; or a function of the user's own, `package.module:name`, see
        `own.read_function`.
      dir: the folder of the files, for those that have files.
      path: of source `text`, a file or a folder of files; empty = the topics of `pydoc`.
      validation_examples: how many are held out of the training set.
      split_seed: from which the permutation that chooses them is drawn; at least 0.
      standardize: whether the training images' mean is subtracted, and their deviation divided by.
      pad: the black pixels on each side of every image; not for streams.
      classes: those that are kept, numbered anew from 0 in this order; empty = all. Examples of
        other classes leave all splits. It is for data in memory.
      stream: whether a tfds set is read from its files as needed (`file_dataset.open_files`), or
        whole (`dataset.load`).
      test_split: the split that serves as the test set; for ImageNet `validation`, as in its
        papers. It serves all tfds sets; what follows is for streams alone, but for image_size, mean
        and std.
      image_size: the height and width of the network's images; 0 = as they are stored. It serves
        digit_canvases, folder, huggingface and photographs as well as streams.
      augment: `none`, `crop_flip` or `resized_crop`; see `augment.training`.
      workers: how many processes read ahead; 0 = threads of this one.
      cache: where decoded images are kept: `none`, `memory`, a folder, or `auto`; see `cache.made`.
      mean: in [0, 1], one per channel; empty = computed, of streams on
        `file_dataset.MOMENT_EXAMPLES` images.
      std: likewise.
      kwargs: what a function of the user's own is called with; for huggingface, names of columns;
        for digit_canvases, see `canvases.read_canvases`; for photographs, `photographs.read`; for
        text, `text.read_text`.
    """

    name: str
    source: str
    dir: str = ""
    path: str = ""
    validation_examples: int = 0
    split_seed: Seed = 0
    standardize: bool = True
    pad: int = 0
    classes: tuple[int, ...] = ()
    stream: bool = False
    test_split: str = "test"
    image_size: int = 0
    augment: str = "none"
    workers: int = 0
    cache: str = "auto"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    kwargs: Annotated[Mapping[str, Any], "arguments, such as {'size': 8}"] = dataclasses.field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        self._check_source()
        for key in ("split_seed", "pad", "image_size"):
            if getattr(self, key) < 0:
                raise UserError(f"data.{key}={getattr(self, key)} must be at least 0")
        memory.check(f"data.image_size={self.image_size}", self.image_size**2)  # of one image
        if self.augment not in augment.AUGMENTS:
            raise unknown("data.augment", self.augment, augment.AUGMENTS)
        self._check_moments()
        if len(set(self.classes)) < len(self.classes) or min(self.classes, default=0) < 0:
            raise UserError(
                f"data.classes={self.classes} must be distinct classes from 0, such as (0, 1, 2)"
            )
        if self.stream:
            self._check_stream()
        else:
            self._check_no_stream()

    def _check_source(self) -> None:
        if named.is_own(self.source):
            if self.path:
                raise UserError("data.path is for data.source=text: give data.kwargs")
            return
        if self.source not in sources.names():
            raise unknown("data source", self.source, sources.names())
        if self.path and self.source != "text":
            raise UserError(
                f"data.path={shown(self.path)} is for data.source=text, not {self.source}: give "
                "data.dir"
            )
        if self.dir and self.source == "text":
            raise UserError("data.dir has no use with data.source=text: give data.path")
        if self.source in readers.SOURCES:
            own.check_kwargs(self.source, self.kwargs, ())

    def _check_stream(self) -> None:
        if self.pad:
            raise UserError("data.pad is for data in memory; a stream has data.image_size")
        if self.classes:
            raise UserError("data.classes is for data in memory: set data.stream=false")
        if self.source != "tfds":
            raise UserError(f"data.stream=True needs data.source=tfds, not {self.source}")
        if not 0 <= self.workers <= MOST_WORKERS:
            raise UserError(
                f"data.workers={self.workers} must be at least 0, and at most {MOST_WORKERS}"
            )
        cache.check(self.cache, self.workers)
        if self.augment == "resized_crop" and not self.image_size:
            raise UserError("data.augment=resized_crop needs data.image_size, such as 224")

    def _check_moments(self) -> None:
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
            if key == "image_size" and self.source in sources.SOURCES:
                continue
            if key == "test_split" and self.source == "tfds":
                continue
            if value != getattr(DataSpec, key):
                raise UserError(f"data.{key}={shown(value)} needs data.stream=True")
