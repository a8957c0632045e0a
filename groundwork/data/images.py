"""Images of a folder: one folder for each class, or a set of Hugging Face's `datasets`.

Pillow decodes all images into memory. Read `read_folder` and `read_huggingface` first.
"""

# N examples, H W C image height, width, channels

import functools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from groundwork.data import augment as augment_lib
from groundwork.data import decoding
from groundwork.data.own import Arrays, Given, check_kwargs
from groundwork.devices import memory
from groundwork.errors import UserError, missing

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
GREY = ("1", "L")  # Pillow's modes of one channel, which have 8 bits or fewer
COLUMNS = ("image", "label")  # of a Hugging Face set, unless data.kwargs names others
SPLITS = ("train", "test", "validation")
LONGEST = 100  # the most by which an image that is scaled may be longer than wide, or wider
THREADS = min(16, os.cpu_count() or 1)  # for reading and decoding


def read_folder(name: str, folder: str, kwargs: Mapping[str, Any], image_size: int) -> Given:
    """Reads `train/CLASS/*.png` and `test/CLASS/*.png`, and so on; classes are sorted by name.

    There may be a folder `validation`, too. Images are grey if all of them are, and else RGB.

    Args:
      name: of the data set.
      folder: that has the folders of the splits.
      kwargs: no argument is known.
      image_size: height and width to which images are scaled and cut; 0 = all have one size.

    Raises:
      UserError: a folder is missing or empty, a class is not among those of the training images,
        an image cannot be read, or images differ in size.
    """
    check_kwargs("folder", kwargs, ())
    if not folder:
        raise UserError(
            "data.source=folder needs data.dir, the folder that has train/CLASS/ and test/CLASS/"
        )
    root = Path(folder)
    splits = [split for split in SPLITS if split != "validation" or (root / split).is_dir()]
    files = {split: _files(root / split) for split in splits}
    classes = list(files["train"])
    for split, by_class in files.items():
        if unknown := sorted(set(by_class) - set(classes)):
            raise UserError(
                f"{root / split} has the class {unknown[0]!r}, which {root / 'train'} lacks"
            )
    paths = [path for by_class in files.values() for found in by_class.values() for path in found]
    images = iter(_decoded(paths, [_opener(path) for path in paths], image_size))
    return Given(**_in_splits(files, classes, images), classes=len(classes))


def read_huggingface(name: str, folder: str, kwargs: Mapping[str, Any], image_size: int) -> Given:
    """Reads a folder that `datasets.save_to_disk` wrote, with its splits.

    Args:
      name: of the data set.
      folder: that `save_to_disk` wrote.
      kwargs: `image` and `label`, the names of columns; `train`, `test` and `validation`, those of
        splits. A column of lists of numbers serves as well as one of images.
      image_size: see `read_folder`.

    Raises:
      UserError: `datasets` is not installed, the folder cannot be read, or lacks a split or column.
    """
    check_kwargs("huggingface", kwargs, (*COLUMNS, *SPLITS))
    if not folder:
        raise UserError("data.source=huggingface needs data.dir, a folder made by save_to_disk")
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "data.source=huggingface needs the package datasets: pip install datasets"
        ) from error
    try:
        stored = datasets.load_from_disk(folder)
    except Exception as error:  # its files may be damaged in many ways
        text = " ".join(str(error).split())[:200]
        raise UserError(f"data.dir={folder} cannot be read by load_from_disk ({text})") from error
    for key, value in kwargs.items():
        if not isinstance(value, str):
            raise UserError(f"data.kwargs: {key}={value!r} must be the name of a column or split")
    names = {split: kwargs.get(split, split) for split in SPLITS}
    if not isinstance(stored, Mapping):
        raise UserError(
            f"data.dir={folder} has one split alone: save a DatasetDict with a test set"
        )
    there = [s for s in SPLITS if names[s] in stored or s != "validation" or s in kwargs]
    for split in there:
        if names[split] not in stored:
            hint = f"; name it: data.kwargs={{'{split}': …}}"
            raise UserError(f"{folder} has no split {names[split]!r} (it has {list(stored)}){hint}")
    columns = [kwargs.get(column, column) for column in COLUMNS]
    read = {s: _rows(f"{folder}: {s}", stored[names[s]], columns, image_size) for s in there}
    feature = stored[names["train"]].features[columns[1]]
    return Given(**read, classes=getattr(feature, "num_classes", None))


def _files(folder: Path) -> dict[str, list[Path]]:
    """Returns class → the image files of its folder, both sorted."""
    if not folder.is_dir():
        raise UserError(f"{missing(folder)}: folders of classes with images are needed there")
    try:
        found = {
            inner.name: sorted(
                p for p in inner.rglob("*") if p.suffix.lower() in SUFFIXES and not p.is_dir()
            )
            for inner in sorted(folder.iterdir())
            if inner.is_dir() and not inner.name.startswith(".")
        }
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror})") from error
    if not found:
        raise UserError(f"{folder} has no folders of classes")
    for name, paths in found.items():
        if not paths:
            kinds = ", ".join(SUFFIXES)
            raise UserError(f"{folder / name} has no image ({kinds})")
        for path in paths:
            if not path.is_file():  # opening a pipe would wait for ever
                raise UserError(f"{path} is no file, but a pipe or a link to nowhere: remove it")
    return found


def _in_splits(
    files: Mapping[str, Mapping[str, Sequence[Path]]],
    classes: Sequence[str],
    images: Iterator[np.ndarray],
) -> dict[str, Arrays]:
    splits = {}
    for split, by_class in files.items():
        labels = [classes.index(name) for name, found in by_class.items() for _ in found]
        splits[split] = (np.stack([next(images) for _ in labels]), np.asarray(labels, np.int32))
    return splits


def _opener(path: Path) -> Callable[[], Image.Image]:
    return lambda: Image.open(path)


def _decoded(
    names: Sequence[Any], openers: Sequence[Callable[[], Image.Image]], image_size: int
) -> list[np.ndarray]:
    """Returns images uint8 [H, W, C] of one size; `names` tell them apart in errors."""
    memory.check(f"data.image_size={image_size}", len(names) * image_size**2)
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice as many are refused
        described = list(pool.map(_described, names, openers))
        if not image_size:
            _check_sizes(names, [size for _, size in described])
        mode = decoding.MODES[1 if all(grey for grey, _ in described) else 3]
        return list(
            pool.map(lambda name, opener: _pixels(name, opener, mode, image_size), names, openers)
        )


def _described(name: Any, opener: Callable[[], Image.Image]) -> tuple[bool, tuple[int, int]]:
    """Returns whether an image is grey, and its width and height, which its header says.

    A PNG's checksums are compared: Pillow decodes its last rows without them.
    """
    try:
        with opener() as image:
            found = image.mode in GREY, image.size
            image.verify()
            return found
    except Exception as error:  # damaged images fail in many ways
        raise _unreadable(name, error) from error


def _check_sizes(names: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> None:
    """Refuses images of several sizes, before any of them is decoded."""
    for name, size in zip(names, sizes, strict=True):
        if size != sizes[0]:
            (width, height), (others, usual) = size, sizes[0]
            raise UserError(
                f"{name} has {height}×{width} pixels, {names[0]} {usual}×{others}: give "
                "data.image_size"
            )


def _pixels(name: Any, opener: Callable[[], Image.Image], mode: str, image_size: int) -> np.ndarray:
    try:
        with opener() as image:
            decoding.check_depth(image)
            pixels = np.asarray(image.convert(mode))
    except UserError as error:
        raise UserError(f"{name} {error}") from error
    except Exception as error:  # damaged images fail in many ways
        raise _unreadable(name, error) from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    height, width, _ = pixels.shape
    if image_size and max(height, width) > LONGEST * min(height, width):
        raise UserError(
            f"{name} has {height}×{width} pixels, which cannot be scaled and cut to "
            f"{image_size}×{image_size}"
        )
    return augment_lib.evaluation(pixels, "none", image_size)


def _unreadable(name: Any, error: Exception) -> UserError:
    return UserError(f"{name} cannot be read ({' '.join(str(error).split())[:200]})")


def _rows(name: str, rows: Any, columns: Sequence[str], image_size: int) -> Arrays:
    """Returns inputs and labels of one split of a Hugging Face set."""
    for column in columns:
        if column not in rows.column_names:
            hint = f"; name it: data.kwargs={{'image': …, 'label': …}} of {rows.column_names}"
            raise UserError(f"{name} has no column {column!r}{hint}")
    try:
        inputs, labels = rows[columns[0]][:], np.asarray(rows[columns[1]][:])
    except Exception as error:  # images are decoded here, and labels may be lists of any lengths
        raise _unreadable(name, error) from error
    if len(inputs) and isinstance(inputs[0], Image.Image):
        names = [f"{name}: image {number}" for number in range(len(inputs))]
        openers = [functools.partial(_copied, image) for image in inputs]
        return np.stack(_decoded(names, openers, image_size)), labels
    if image_size:
        raise UserError(f"data.image_size={image_size}: {columns[0]} of {name} has no images")
    try:
        return np.asarray(inputs), labels
    except ValueError as error:  # rows of other lengths
        raise UserError(f"{columns[0]} of {name}: its rows differ in length") from error


def _copied(image: Any) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise ValueError(f"it is no image, but {image!r}")
    return image.copy()
