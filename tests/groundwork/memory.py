"""A stream whose files are in memory, light to import: worker processes do."""

import io

import numpy as np
from PIL import Image

from groundwork.data.examples import Source
from groundwork.data.file_dataset import FileDataset


def png(image):
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def images_of(count, size=6):
    """Random images; the first byte of image i is i."""
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return images


def streams_of(images, held=0, classes=7):
    """The last `held` images are the validation set; the test set is all of them."""
    records = [{"image": png(image), "label": i % classes} for i, image in enumerate(images)]
    kept, last = np.split(np.arange(len(images)), [len(images) - held])
    train, validation, test = (
        Source("memory", split, records, places, classes, 3)
        for split, places in (("train", kept), ("train", last), ("test", np.arange(len(images))))
    )
    shape = images[0].shape
    moments = np.zeros((1, 1, 1, 3)), np.ones((1, 1, 1, 3))
    return FileDataset("memory", train, validation, test, shape, classes, *moments, "", spec=None)


class BackendRecords:
    """A record's label says whether the process that reads it has initialised a JAX backend."""

    def __getitem__(self, place):
        from jax._src import xla_bridge

        image = png(np.zeros((6, 6, 3), np.uint8))
        return {"image": image, "label": int(xla_bridge.backends_are_initialized())}
