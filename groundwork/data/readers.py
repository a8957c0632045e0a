"""Where examples come from: one reader for each kind of source, all with the same signature.

`read(name, folder)` returns train, test and the number of classes: `((inputs, labels), (inputs,
labels), classes)`, where None says that the labels tell.
"""

import dataclasses
import importlib.metadata
import importlib.util
import itertools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from groundwork import paths
from groundwork.data import decoding, idx
from groundwork.data.examples import Records, Source
from groundwork.devices import memory
from groundwork.errors import UserError, missing, unknown

Arrays = tuple[np.ndarray, np.ndarray]

THREADS = min(16, os.cpu_count() or 1)  # for reading and decoding
STREAM = "set data.stream=true and data.image_size, such as 32"  # if images differ in size

IDX_NAMES = {"mnist": 10, "fashion_mnist": 10, "kmnist": 10, "custom": None}  # name → classes
IDX_FILES = {
    "train images": ("train-images-idx3-ubyte", "train-images-idx4-ubyte"),
    "train labels": ("train-labels-idx1-ubyte", "train-labels-idx1-int"),
    "test images": ("t10k-images-idx3-ubyte", "t10k-images-idx4-ubyte"),
    "test labels": ("t10k-labels-idx1-ubyte", "t10k-labels-idx1-int"),
}  # whatever a name says, the file's header decides


def how_to_get(name: str) -> str:
    """Returns the commands with which a user gets a data set."""
    debian = (
        "On Debian: `apt-get install dataset-fashion-mnist`, then "
        "`--config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist`. "
    )
    files = (
        "With its four IDX files in a folder: `--config.data.source=idx --config.data.dir=FOLDER`. "
    )
    tfds = (
        "With a network: `pip install -r requirements-tfds.txt`, then "
        "`--config.data.source=tfds`, and TFDS fetches it"
    )
    local = {"fashion_mnist": debian, "mnist": files, "kmnist": files}.get(name, "")
    return local + ("" if name == "custom" else tfds)


def read_digits(name: str, folder: str) -> tuple[Arrays, Arrays, int]:
    """Returns scikit-learn's 1,797 handwritten digits of 8×8; the last 297 are the test set."""
    del folder
    _only("digits", name)
    # Its file is read without importing scikit-learn, which would take a second.
    package = importlib.metadata.distribution("scikit-learn")
    path = package.locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(path), delimiter=",")  # per line 64 pixels from 0 to 16, and the digit
    images = np.round(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = table[:, -1].astype(int)
    train, test = slice(None, 1500), slice(1500, None)
    return (images[train], labels[train]), (images[test], labels[test]), 10


def read_mnist1d(name: str, folder: str) -> tuple[Arrays, Arrays, int]:
    """Returns MNIST-1D: 4,000 + 1,000 sequences of 40 numbers, float32, in 10 classes.

    Source: Greydanus & Kobak, arXiv:2011.14439; `make_dataset` with its default arguments.
    """
    del folder
    _only("mnist1d", name)
    from mnist1d.data import make_dataset

    state = np.random.get_state()  # the package seeds NumPy's global generator
    data = make_dataset()
    np.random.set_state(state)
    train = (data["x"].astype(np.float32), data["y"])
    test = (data["x_test"].astype(np.float32), data["y_test"])
    return train, test, 10


def read_idx(name: str, folder: str) -> tuple[Arrays, Arrays, int | None]:
    """Reads a folder of four IDX files, gzipped or not, such as those of MNIST.

    Their headers are compared before any array is read. A `custom` set has as many classes as its
    largest training label says, counted from 0.
    """
    if name not in IDX_NAMES:
        refusal = unknown("data.name of data.source=idx", name, IDX_NAMES)
        raise UserError(f"{refusal}: custom is for files of your own")
    if not folder:
        needs = f"data.source=idx needs data.dir, the folder of {name}'s files"
        raise UserError(f"{needs}. {how_to_get(name)}".removesuffix(". "))
    paths = {part: _idx_path(name, Path(folder), stems) for part, stems in IDX_FILES.items()}
    headers = {
        part: (idx.images if "images" in part else idx.labels)(path) for part, path in paths.items()
    }
    _check_alike(headers)
    train, test = (
        (_in_channels(idx.read(headers[f"{split} images"])), idx.read(headers[f"{split} labels"]))
        for split in ("train", "test")
    )
    return train, test, IDX_NAMES[name]


def read_tfds(name: str, folder: str, test_split: str = "test") -> tuple[Arrays, Arrays, int]:
    """Reads an image classification set of TFDS from array_record files, without TensorFlow.

    Raises:
      UserError: `open_tfds`, `check_images` or `open_split` raises it; images differ in size; or an
        example is damaged, or has a label out of range.
    """
    builder = open_tfds(name, folder)
    shape, channels = check_images(builder)
    splits = [(split, open_split(builder, split)) for split in ("train", test_split)]
    if shape:
        pixels = sum(len(records) for _, records in splits) * shape[0] * shape[1]
        memory.check(f"data.name={name}", pixels * channels)
    classes = builder.info.features["label"].num_classes
    read = []
    for split, records in splits:
        places = np.arange(len(records))
        where = f"{builder.name} in {builder.data_path}"
        source = Source(where, split, records, places, classes, channels, shape, how=STREAM)
        read.append(_read_all(source))
        shape = read[0][0].shape[1:3]  # of all splits
    train, test = read
    return train, test, classes


SOURCES: dict[str, Callable[[str, str], tuple[Arrays, Arrays, int | None]]] = {
    "digits": read_digits,
    "mnist1d": read_mnist1d,
    "idx": read_idx,
    "tfds": read_tfds,
}


def open_tfds(name: str, folder: str) -> Any:
    """Returns the TFDS builder of an image classification set, which it prepares if needed.

    Preparing a set (its first use) needs TensorFlow and a network; reading it needs neither.

    Raises:
      UserError: the name is unknown, or the set cannot be prepared or has no images and labels.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns of every optional package
    import tensorflow_datasets as tfds

    usual = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    data_dir = paths.given(folder or usual)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = [*tfds.list_builders(with_community_datasets=False), *_folders(data_dir)]
        raise unknown(f"TFDS data set (nor is it in {data_dir}):", name, known, most=0) from None
    except (ValueError, AssertionError, ImportError) as error:
        raise UserError(f"TFDS has no {name!r}: {' '.join(str(error).split())[:200]}") from error
    if not builder.is_prepared():
        builder = _prepare(name, data_dir)
    for part in ("image", "label"):
        if part not in builder.info.features:
            raise UserError(
                f"{name} has no feature {part!r}: an image classification set is needed"
            )
    label = builder.info.features["label"]
    # A sequence of labels has the attributes of its members.
    if getattr(label, "num_classes", None) is None or label.shape != ():
        raise UserError(f"the labels of {name} are not classes: a classification set is needed")
    return builder


def check_images(builder: Any) -> tuple[tuple[int, int] | None, int]:
    """Returns (height, width) and channels of the images of a TFDS builder; None = they may differ.

    Raises:
      UserError: they are not uint8 with 1 or 3 channels.
    """
    feature = builder.info.features["image"]
    shape, dtype = tuple(feature.shape), np.dtype(feature.np_dtype)
    if dtype == np.uint8 and len(shape) == 3 and shape[2] in decoding.MODES:
        return None if None in shape[:2] else shape[:2], shape[2]
    wrong = f"{builder.name} has images of shape {shape} and type {dtype}: "
    if dtype != np.uint8:
        do = "prepare them with 8 bits, or give their numbers as they are with data.source=npz"
    else:
        do = "prepare them as RGB or grey images, or give all channels with data.source=npz"
    raise UserError(f"{wrong}uint8 with 1 or 3 channels is needed; {do}")


def open_split(builder: Any, split: str) -> Records:
    """Returns the records of one split of a TFDS builder.

    Raises:
      UserError: there is no such split, it is not stored as array_record, or it cannot be opened.
    """
    import tensorflow_datasets as tfds  # open_tfds has imported it, without its warnings

    if split not in builder.info.splits:
        raise UserError(f"{builder.name} has no split {split!r}: {list(builder.info.splits)}")
    try:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES  # `decoding` does it, whatever TFDS would use
        return Records(builder.as_data_source(split=split, deserialize_method=raw))
    except NotImplementedError as error:
        raise UserError(
            f"{builder.data_path} is prepared as {builder.info.file_format.value}, which cannot be "
            "read without TensorFlow: prepare it as array_record, in another data.dir"
        ) from error
    except Exception as error:  # damaged files fail in many ways
        raise _unreadable(builder, split, error) from error


def hold_out(name: str, examples: int, held: int, split_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns sorted indices of the training examples, kept ones and those held out.

    Raises:
      UserError: nothing would be left to train on.
    """
    if not 0 <= held < examples:
        raise UserError(
            f"data.validation_examples={held} must be at least 0 and less than the "
            f"{examples} training examples of {name}"
        )
    order = np.random.default_rng(split_seed).permutation(examples)
    return np.sort(order[held:]), np.sort(order[:held])


def _only(known: str, name: str) -> None:
    if name != known:
        raise unknown(f"data set of source {known!r}", name, [known])


def _idx_path(name: str, folder: Path, stems: Sequence[str]) -> Path:
    """Returns the file of one of the names, which may have dots in them and end in .gz.

    Raises:
      UserError: there is none, or there are files of two names.
    """
    found = []
    for stem in stems:
        spelt = (stem, stem.replace("-idx", ".idx"))
        paths = [folder / (start + end) for start in spelt for end in (".gz", "")]
        found += [path for path in paths if path.exists()][:1]
    if not found:
        first = folder / stems[0]
        gone = f"{missing(first)}, nor does {stems[0]}.gz. {how_to_get(name)}"
        raise UserError(gone.removesuffix(". "))
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1]} are both there: keep the one that is meant")
    return found[0]


def _check_alike(headers: Mapping[str, idx.Header]) -> None:
    """Refuses images and labels of other numbers, and splits of other sizes of images."""
    for split in ("train", "test"):
        images, labels = headers[f"{split} images"], headers[f"{split} labels"]
        if images.shape[0] != labels.shape[0]:
            raise UserError(
                f"{images.path} has {images.shape[0]} images, but {labels.path} has "
                f"{labels.shape[0]} labels"
            )
    train, test = headers["train images"], headers["test images"]
    if train.shape[1:] != test.shape[1:]:
        raise UserError(
            f"{train.path} has images of shape {train.shape[1:]}, but {test.path} of "
            f"{test.shape[1:]}"
        )


def _in_channels(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images


def _prepare(name: str, data_dir: Path) -> Any:
    """Downloads and prepares a set as array_record, which needs TensorFlow and a network."""
    import tensorflow_datasets as tfds

    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{name} is not prepared in {data_dir}, and preparing it needs TensorFlow. "
            f"{how_to_get(name)}"
        )
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    try:
        builder.download_and_prepare()
    except Exception as error:  # downloads fail in many ways, in many libraries
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"TFDS could not prepare {name} ({reason}). {how_to_get(name)}") from error
    return builder


def _read_all(source: Source) -> Arrays:
    """Returns all examples of a split, decoded by several threads."""
    size = 500  # examples of a call: a few calls, and not all encoded images at once
    starts = range(0, len(source), size)
    if not starts:
        raise UserError(f"{source.split} of {source.name}: there are no examples")
    if source.shape is None:
        source = dataclasses.replace(source, shape=source[0]["image"].shape[:2])
    with ThreadPoolExecutor(THREADS) as pool:
        parts = pool.map(lambda at: source.examples(range(at, min(at + size, len(source)))), starts)
        images, labels = zip(*itertools.chain.from_iterable(parts), strict=True)
    return np.stack(images), np.asarray(labels)


def _unreadable(builder: Any, split: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{builder.data_path}: {split} cannot be read ({reason})")


def _folders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
