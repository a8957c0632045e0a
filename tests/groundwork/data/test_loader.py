"""Batches of images held in memory as files: the order, the parts, evaluation, what is refused."""

import itertools
import time

import numpy as np
import pytest
from scipy import stats

from groundwork.data import augment, loader
from groundwork.data.examples import Source
from groundwork.errors import UserError
from tests.groundwork.data.batches import assert_equal, evaluate, numbers, spec_of, train
from tests.groundwork.memory import images_of, streams_of

# order


def test_batches_have_the_promised_shapes_and_types():
    images, labels = train(streams_of(images_of(10)), 3, seeds=(5, 9), batch_size=6, parts=2)
    assert (images.shape, images.dtype) == ((3, 2, 3, 6, 6, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((3, 2, 3), np.int32)


def test_every_image_is_unchanged_and_has_its_own_label():
    stored = images_of(10)
    images, labels = train(streams_of(stored), 8, seeds=(1, 2))
    np.testing.assert_array_equal(labels, numbers(images) % 7)
    np.testing.assert_array_equal(images, stored[numbers(images)])


@pytest.mark.parametrize(("examples", "batch_size"), [(10, 4), (10, 10), (7, 3), (3, 8), (1, 2)])
def test_each_epoch_visits_every_example_once(examples, batch_size):
    steps = -(-6 * examples // batch_size)
    images, _ = train(streams_of(images_of(examples)), steps, batch_size=batch_size)
    order = numbers(images).ravel()
    epochs = order[: len(order) // examples * examples].reshape(-1, examples)
    assert len(epochs) >= 6
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(examples), (len(epochs), 1)))


def test_no_epoch_of_a_replicate_is_an_epoch_of_another_nor_comes_again():
    images, _ = train(streams_of(images_of(60)), 6, seeds=range(5), batch_size=60)
    assert len(np.unique(numbers(images).reshape(30, 60), axis=0)) == 30


def test_orders_are_uniform():
    """Twelve epochs of 512, in eighths: no place prefers an example, nor one its neighbour."""
    streams = streams_of(np.zeros((512, 1, 1, 3), np.uint8), classes=512)
    _, labels = train(streams, 12, batch_size=512)
    eighth = labels.reshape(12, 512) // 64
    place = np.broadcast_to(np.arange(512) // 64, (12, 512))
    for one, other in (
        (place, eighth),
        (eighth[:, 1:], eighth[:, :-1]),
        (eighth[1:], eighth[:-1]),
    ):
        counts = np.bincount((one * 8 + other).ravel(), minlength=64)
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("seed", [-1, 0, 2**32, 2**63, 12345678901234567890123])
def test_any_integer_is_a_seed(seed):
    streams = streams_of(images_of(30))
    ours, again = (train(streams, 2, seeds=(seed,), batch_size=30) for _ in range(2))
    assert_equal(ours, again)
    other = train(streams, 2, seeds=(seed + 1,), batch_size=30)
    assert (numbers(ours[0]) == numbers(other[0])).mean() < 0.3


def test_a_replicate_is_the_same_alone_and_in_company():
    streams = streams_of(images_of(10))
    together = train(streams, 5, seeds=(3, 8), kind="crop_flip")
    for row, seed in enumerate((3, 8)):
        alone = train(streams, 5, seeds=(seed,), kind="crop_flip")
        assert_equal(alone, [a[:, row : row + 1] for a in together])


@pytest.mark.parametrize("kind", augment.AUGMENTS)
def test_begun_at_any_step_the_batches_are_those_of_an_undisturbed_run(kind):
    streams = streams_of(images_of(10))
    whole = train(streams, 12, seeds=(3, 8), batch_size=4, kind=kind, image_size=6)
    for start in (1, 2, 5, 11):
        rest = 12 - start
        later = train(
            streams, rest, start=start, seeds=(3, 8), batch_size=4, kind=kind, image_size=6
        )
        assert_equal(later, [a[start:] for a in whole])


def test_a_very_late_step_is_reached_at_once():
    begun = time.perf_counter()
    images, _ = train(streams_of(images_of(10)), 5, start=10**9, batch_size=4)
    assert time.perf_counter() - begun < 2
    np.testing.assert_array_equal(np.sort(numbers(images).reshape(2, 10)), [np.arange(10)] * 2)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("start", [0, 4])
def test_the_parts_together_are_the_whole_batch_in_order(parts, start):
    streams = streams_of(images_of(10))
    common = dict(seeds=(3, 8), kind="crop_flip", start=start)
    whole = train(streams, 6, **common)
    pieces = [train(streams, 6, parts=parts, part=part, **common) for part in range(parts)]
    for whole_of, *parts_of in zip(whole, *pieces, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts_of, axis=2), whole_of)


@pytest.mark.parametrize(("batch_size", "parts", "part"), [(6, 4, 0), (6, 2, 2), (6, 2, -1)])
def test_parts_that_do_not_fit_are_refused_at_once(batch_size, parts, part):
    common = dict(batch_size=batch_size, parts=parts, part=part)
    with pytest.raises(ValueError, match=f"part {part} of {parts} of a batch of {batch_size}"):
        loader.train_batches(streams_of(images_of(8)), spec_of(), [0], 0, **common)
    with pytest.raises(ValueError, match=f"part {part} of {parts} of a batch of {batch_size}"):
        loader.eval_batches(streams_of(images_of(8)), spec_of(), "test", **common)


def test_an_image_is_augmented_otherwise_by_step_place_and_replicate():
    """One image alone, 40 times: the 81 × 2 crops of crop_flip hardly ever come again."""
    images, _ = train(streams_of(images_of(1)), 5, seeds=(0, 1), batch_size=4, kind="crop_flip")
    assert len(np.unique(images.reshape(40, -1), axis=0)) > 30


def test_images_of_all_sizes_become_batches():
    sizes = [(9, 30), (50, 12), (8, 8), (100, 7)]
    images = [np.full((*size, 3), 40 * i + 40, np.uint8) for i, size in enumerate(sizes)]
    streams = streams_of(images)._replace(shape=(8, 8, 3))
    made, labels = train(streams, 3, batch_size=4, kind="resized_crop", image_size=8)
    assert made.shape == (3, 1, 4, 8, 8, 3)
    expected = np.broadcast_to((40 * labels + 40)[..., None, None, None], made.shape)
    np.testing.assert_array_equal(made, expected)


# evaluation


@pytest.mark.parametrize("examples", [1, 6, 10, 12, 13])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_evaluation_counts_every_example_once_over_all_parts(examples, parts):
    stored = images_of(examples)
    made = [evaluate(streams_of(stored), "test", 6, parts, part) for part in range(parts)]
    assert {len(batches_of) for batches_of in made} == {-(-examples // 6)}
    for images, labels, valid in itertools.chain(*made):
        assert (images.shape, images.dtype) == ((6 // parts, 6, 6, 3), np.uint8)
        assert (labels.dtype, valid.dtype) == (np.int32, bool)
        assert not images[~valid].any()
    whole = [np.concatenate(list(itertools.chain(*parts_of))) for parts_of in steps(made)]
    images, labels, valid = whole
    np.testing.assert_array_equal(valid, np.arange(len(valid)) < examples)
    np.testing.assert_array_equal(images[valid], stored)
    np.testing.assert_array_equal(labels[valid], np.arange(examples) % 7)


def steps(made):
    """Per part a list of (images, labels, valid) → for each of the three, its pieces in order."""
    by_step = list(zip(*made, strict=True))
    return [[[piece[k] for piece in step] for step in by_step] for k in range(3)]


def test_the_validation_split_is_read_and_an_empty_one_has_no_batches():
    ((images, _, valid),) = evaluate(streams_of(images_of(10), held=3), "validation", 4)
    assert list(numbers(images[valid])) == [7, 8, 9]
    assert evaluate(streams_of(images_of(10)), "validation", 4) == []


@pytest.mark.parametrize("kind", augment.AUGMENTS)
def test_evaluation_does_not_augment(kind):
    stored = images_of(5, 12)
    streams = streams_of(stored)._replace(shape=(8, 8, 3))
    ((images, *_),) = evaluate(streams, "test", 5, kind=kind, image_size=8)
    expected = [augment.evaluation(image, kind, 8) for image in stored]
    np.testing.assert_array_equal(images, expected)


# what is refused


def test_images_of_another_size_are_named_and_what_to_do():
    streams = streams_of([*images_of(5), np.zeros((8, 9, 3), np.uint8)])
    fixed = Source("memory", "train", streams.train.records, np.arange(6), 7, 3, (6, 6))
    with pytest.raises(UserError, match=r"example 5 of train of memory .*8, 9.*data\.image_size"):
        train(streams._replace(train=fixed), 10)


@pytest.mark.parametrize("label", [-1, 7])
def test_a_label_out_of_range_is_named(label):
    streams = streams_of(images_of(5))
    streams.test.records[3]["label"] = label
    with pytest.raises(UserError, match=f"example 3 of test of memory has label {label}.*0 to 6"):
        evaluate(streams, "test", 5)
