"""Batches of images held in memory as files, as arrays."""

import contextlib
import itertools

import numpy as np

from groundwork.data import loader
from groundwork.data.dataset import DataSpec


def spec_of(kind="none", workers=0, image_size=0):
    spec = dict(stream=True, augment=kind, workers=workers, image_size=image_size)
    return DataSpec("memory", "tfds", **spec)


def train(streams, count, start=0, seeds=(0,), batch_size=6, parts=1, part=0, **spec):
    """The first `count` batches: images [count, R, B, …] and labels [count, R, B]."""
    made = loader.train_batches(
        streams, spec_of(**spec), seeds, start, batch_size=batch_size, parts=parts, part=part
    )
    with contextlib.closing(made):
        images, labels = zip(*itertools.islice(made, count), strict=True)
    return np.stack(images), np.stack(labels)


def numbers(images):
    return images[..., 0, 0, 0].astype(int)


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def evaluate(streams, split, batch_size, parts=1, part=0, **spec):
    made = loader.eval_batches(
        streams, spec_of(**spec), split, batch_size=batch_size, parts=parts, part=part
    )
    with contextlib.closing(made):
        return list(made)
