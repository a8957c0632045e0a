"""python -m benchmarks.streams: images per second that the host decodes and augments for training.

Synthetic JPEGs of 400 × 500 pixels (ImageNet's mean is 400 × 350) lie in memory and pass through
`resized_crop` to 224, with threads of one process (`data.workers=0`) and with 2 worker processes.
The first batches, which wait for the workers to start, are not counted.
"""

import argparse
import contextlib
import dataclasses
import io
import time

import numpy as np
from PIL import Image

from benchmarks import setting
from groundwork.data import loader
from groundwork.data.examples import Source
from groundwork.data.file_dataset import FileDataset
from groundwork.data.spec import DataSpec

BATCH, WARM = 64, 4  # images; batches


def jpegs(count: int) -> list[dict]:
    """Returns smooth colours with some noise: about 60 kB each at Pillow's quality of 90."""
    rng = np.random.default_rng(0)
    records = []
    for label in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (10, 12, 3), np.uint8))
        smooth = np.asarray(coarse.resize((500, 400), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        content = io.BytesIO()
        Image.fromarray(noisy).save(content, "JPEG", quality=90)
        records.append({"image": content.getvalue(), "label": label})
    return records


def rate(dataset: FileDataset, seconds: float) -> float:
    """Returns the images per second of one replicate."""
    batches = loader.train_batches(dataset, dataset.spec, [0], 0, batch_size=BATCH, parts=1, part=0)
    with contextlib.closing(batches):
        for _ in range(WARM):
            next(batches)
        start, count = time.perf_counter(), 0
        while time.perf_counter() < start + seconds:
            count += next(batches)[1].size
        return count / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    seconds = parser.parse_args().seconds
    print(setting.machine())
    print(setting.load())
    records = jpegs(100)
    size = np.mean([len(record["image"]) for record in records])
    print(f"{len(records)} JPEGs of 400 × 500, {size / 1000:.0f} kB in the mean")
    source = Source("synthetic", "train", records, np.arange(100), 100, 3)
    spec = DataSpec("synthetic", "tfds", stream=True, image_size=224, augment="resized_crop")
    zeros, ones = np.zeros((1, 1, 1, 3)), np.ones((1, 1, 1, 3))
    dataset = FileDataset(
        name="synthetic",
        train=source,
        validation=source,
        test=source,
        shape=(224, 224, 3),
        classes=100,
        mean=zeros,
        std=ones,
        digest="",
        spec=spec,
    )
    for workers in (0, 2):
        dataset = dataset._replace(spec=dataclasses.replace(spec, workers=workers))
        print(f"data.workers={workers}: {rate(dataset, seconds):.0f} images per second")


if __name__ == "__main__":
    main()
