"""python -m benchmarks.streams: images per second that the host reads for training, as a table.

Two kinds of synthetic images lie encoded in memory: JPEGs (`--height`, `--width`) for
`resized_crop` to 224, and grey PNGs of 28 × 28 as they are. The decoders alone work in threads on
all cores: ours, which is OpenCV's for such files, and Pillow's. Ours reads the images with threads
of one process and with `--workers` processes, without a cache and from one that is full. PyTorch's
DataLoader (if torch is installed) calls the same functions for each image. All take turns. The
first batches, which wait for the workers to start, are not counted.
"""

import argparse
import collections
import contextlib
import dataclasses
import importlib.util
import io
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import setting
from groundwork.data import augment, decoding, loader, readers
from groundwork.data.examples import Source
from groundwork.data.file_dataset import FileDataset
from groundwork.data.spec import DataSpec

BATCH, WARM = 64, 4  # images; batches
EXAMPLES = 60_000  # of an epoch, over far fewer images


def jpegs(count: int, height: int, width: int) -> list[dict]:
    """Returns smooth colours with some noise, at Pillow's quality of 90."""
    rng = np.random.default_rng(0)
    records = []
    for label in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (10, 12, 3), np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        records.append({"image": encoded(noisy, "JPEG", quality=90), "label": label})
    return records


def pngs(count: int) -> list[dict]:
    """Returns grey blobs on black."""
    rng = np.random.default_rng(0)
    records = []
    for label in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8))
        smooth = np.asarray(coarse.resize((28, 28), Image.Resampling.BICUBIC))
        records.append({"image": encoded(np.where(smooth > 110, smooth, 0), "PNG"), "label": label})
    return records


class Endless:
    """A few records, over and over, at places of their own: nothing knows them again."""

    def __init__(self, records: list[dict]):
        self.records = records

    def __getitems__(self, places: Sequence[int]) -> list[dict]:
        return [self.records[place % len(self.records)] for place in places]


def encoded(image: np.ndarray, kind: str, **kwargs: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(content, kind, **kwargs)
    return content.getvalue()


def stream(records: list[dict], channels: int, size: int, augment: str) -> FileDataset:
    """Returns a data set of the records, without a cache."""
    places = np.arange(EXAMPLES)
    source = Source("synthetic", "train", Endless(records), places, len(records), channels)
    spec = DataSpec("synthetic", "tfds", stream=True, image_size=size, augment=augment)
    return FileDataset(
        name="synthetic",
        train=source,
        validation=source,
        test=source,
        shape=(size or 28, size or 28, channels),
        classes=len(records),
        mean=np.zeros((1, 1, 1, channels)),
        std=np.ones((1, 1, 1, channels)),
        digest="",
        spec=spec,
    )


def ours(dataset: FileDataset, seconds: float, workers: int, cached: bool) -> float:
    """Returns the images per second of one replicate."""
    spec = dataclasses.replace(dataset.spec, workers=workers)
    if cached:
        few = np.arange(EXAMPLES) % len(dataset.train.records.records)
        train = dataclasses.replace(dataset.train, places=few, cache={})
        window = augment.training_window(spec.augment, spec.image_size)
        train.examples(range(few.max() + 1), window)
        dataset = dataset._replace(train=train)
    batches = loader.train_batches(dataset, spec, [0], 0, batch_size=BATCH, parts=1, part=0)
    with contextlib.closing(batches):
        return timed(batches, seconds)


def pillows(content: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert(decoding.MODES[channels]))


def decoder(dataset: FileDataset, seconds: float, decode: Callable[..., np.ndarray]) -> float:
    """Returns the images per second that a decoder alone decodes, in a thread for each core."""
    contents = [record["image"] for record in dataset.train.records.records]

    def some(_: int) -> np.ndarray:
        chosen = (contents[i % len(contents)] for i in range(BATCH))
        return np.asarray([decode(c, dataset.train.channels).size for c in chosen])

    with ThreadPoolExecutor(readers.THREADS) as pool:
        ahead = collections.deque(pool.submit(some, 0) for _ in range(2 * readers.THREADS))

        def made() -> Iterator[tuple[None, np.ndarray]]:
            while True:
                ahead.append(pool.submit(some, 0))
                yield None, ahead.popleft().result()

        return timed(made(), seconds)


class Images:
    """The data set as PyTorch has it: one image per call."""

    def __init__(self, dataset: FileDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import torch

        spec, source = self.dataset.spec, self.dataset.train
        (record,) = source.records.__getitems__([index])
        image = decoding.decode(record["image"], source.channels)
        rng = np.random.default_rng(index)
        image = augment.training(image, rng, spec.augment, spec.image_size)
        return torch.from_numpy(np.array(image)), record["label"]


def torchs(dataset: FileDataset, seconds: float, workers: int) -> float:
    """Returns the images per second of PyTorch's DataLoader."""
    from torch.utils.data import DataLoader

    data = DataLoader(Images(dataset), BATCH, shuffle=True, num_workers=workers)  # type: ignore
    batches = itertools.chain.from_iterable(data for _ in itertools.count())  # epochs
    return timed(((images, labels.numpy()) for images, labels in batches), seconds)


def timed(batches: Iterator[tuple[Any, np.ndarray]], seconds: float) -> float:
    for _ in range(WARM):
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        count += next(batches)[1].size
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--workers", type=int, default=2, help="processes that read")
    parser.add_argument("--repeats", type=int, default=3, help="turns, of which medians are given")
    parser.add_argument("--height", type=int, default=224, help="of the JPEGs, in pixels")
    parser.add_argument("--width", type=int, default=224, help="of the JPEGs, in pixels")
    options = parser.parse_args()
    print(setting.machine())
    print(setting.load())
    jpeg = jpegs(100, options.height, options.width)
    sets = {
        f"JPEG {options.height} × {options.width}": stream(jpeg, 3, 224, "resized_crop"),
        "PNG 28 × 28": stream(pngs(1000), 1, 0, "none"),
    }
    seconds, workers = options.seconds, options.workers
    medians: dict[str, dict[str, float]] = {}
    for title, dataset in sets.items():
        forms: dict[str, Callable[[], float]] = {
            "the decoder alone": lambda d=dataset: decoder(d, seconds, decoding.decode),
            "Pillow's decoder alone": lambda d=dataset: decoder(d, seconds, pillows),
            "a stream, threads": lambda d=dataset: ours(d, seconds, 0, False),
            f"a stream, {workers} workers": lambda d=dataset: ours(d, seconds, workers, False),
            "a stream, threads, a full cache": lambda d=dataset: ours(d, seconds, 0, True),
        }
        if importlib.util.find_spec("torch"):
            forms["DataLoader, no workers"] = lambda d=dataset: torchs(d, seconds, 0)
            forms[f"DataLoader, {workers} workers"] = lambda d=dataset: torchs(d, seconds, workers)
        rates: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(options.repeats):
            for name, form in forms.items():
                rates[name].append(form())
        medians[title] = {name: float(np.median(found)) for name, found in rates.items()}
    print(f"| images per second | {' | '.join(medians)} |")
    print("|---" * (len(medians) + 1) + "|")
    for name in forms:
        print(f"| {name} | {' | '.join(f'{found[name]:,.0f}' for found in medians.values())} |")


if __name__ == "__main__":
    main()
