"""Batches of images held in memory as files: the order, the parts, the workers, the ends."""

import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from jax.extend import backend
from scipy import stats

from groundwork.data import augment, loader
from groundwork.data.dataset import DataSpec
from groundwork.data.file_dataset import Source
from groundwork.errors import UserError
from tests.conftest import ROOT
from tests.groundwork.memory import BackendRecords, images_of, streams_of

# Grain leaves the pipes of its workers to the garbage collector, which Python 3.13 tells of.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def _no_pipes_for_the_next_module():
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


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


def evaluate(streams, split, batch_size, parts=1, part=0, **spec):
    made = loader.eval_batches(
        streams, spec_of(**spec), split, batch_size=batch_size, parts=parts, part=part
    )
    with contextlib.closing(made):
        return list(made)


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


# worker processes


def children():
    return multiprocessing.active_children()


def test_workers_change_nothing():
    streams = streams_of(images_of(10))
    common = dict(seeds=(3, 8), kind="crop_flip", start=3, parts=2, part=1)
    assert_equal(train(streams, 7, workers=2, **common), train(streams, 7, **common))
    assert children() == []


def test_workers_evaluate_the_same_also_when_batches_run_out_unevenly():
    streams = streams_of(images_of(13))
    ours, theirs = (evaluate(streams, "test", 6, workers=workers) for workers in (2, 0))
    assert len(ours) == len(theirs) == 3
    for a, b in zip(ours, theirs, strict=True):
        assert_equal(a, b)
    assert children() == []


def test_workers_initialise_no_backend():
    backend.get_backend()
    streams = streams_of(images_of(2))
    streams = streams._replace(
        train=Source("memory", "train", BackendRecords(), np.arange(2), 7, 3)
    )
    assert train(streams, 1)[1].all()  # here there is one
    assert not train(streams, 1, workers=1)[1].any()


def broken_streams():
    streams = streams_of(images_of(10))
    streams.train.records[7]["image"] = streams.train.records[7]["image"][:50]
    return streams


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_reaches_the_user_as_one_line_that_names_it(workers):
    with pytest.raises(UserError, match=r"example 7 of train of memory cannot be read") as caught:
        train(broken_streams(), 10, workers=workers)
    assert "\n" not in str(caught.value)
    assert children() == []


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


def test_a_worker_that_dies_is_reported_not_waited_for():
    made = loader.train_batches(
        streams_of(images_of(10)), spec_of(workers=1), [0], 0, batch_size=6, parts=1, part=0
    )
    next(made)
    (worker,) = children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"memory cannot be read further: .*1 data.workers"):
        list(made)
    assert children() == []


MAIN = """
if __name__ == "__main__":
    import multiprocessing, sys, time
    from groundwork.data import loader
    from groundwork.data.spec import DataSpec
    from tests.groundwork import memory

    def begin():
        made = loader.train_batches(
            memory.streams_of(memory.images_of(10)),
            DataSpec("memory", "tfds", stream=True, workers=1),
            [0], 0, batch_size=6, parts=1, part=0,
        )
        ahead = loader.prefetch(made, lambda batch: batch)
        next(ahead)
        return ahead

    ahead = begin()
    (worker,) = multiprocessing.active_children()
    print(worker.pid, flush=True)
    if sys.argv[1] == "sleep":
        time.sleep(60)
    ahead.close()
    forgotten = begin()
    (worker,) = multiprocessing.active_children()
    print(worker.pid, flush=True)
"""


@pytest.fixture
def script(tmp_path):
    """A program of a user's that reads with a worker, started with one argument."""
    (tmp_path / "program.py").write_text(MAIN)

    def begin(argument):
        return subprocess.Popen(
            [sys.executable, "program.py", argument],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return begin


def ends(pid, seconds=10):
    """Does the process end within so many seconds?"""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_programs_workers_end_with_it_quietly_closed_or_not(script):
    with script("end") as program:
        out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    closed, forgotten = map(int, out.split())
    assert ends(closed)
    assert ends(forgotten)


def test_a_program_that_is_killed_leaves_no_worker_behind(script):
    with script("sleep") as program:
        worker = int(program.stdout.readline())
        program.kill()
    assert ends(worker)


def test_workers_leave_ctrl_c_to_the_program(script):
    with script("sleep") as program:
        worker = int(program.stdout.readline())
        os.killpg(program.pid, signal.SIGINT)
        _, err = program.communicate(timeout=60)
    assert err.count("Traceback") == err.count("KeyboardInterrupt") == 1
    assert ends(worker)


# prefetch


def test_what_was_put_comes_in_order_and_whole():
    for size in (1, 2, 50):
        assert list(loader.prefetch(iter(range(20)), lambda x: x * x, size)) == [
            x * x for x in range(20)
        ]
    assert list(loader.prefetch(iter(()), abs)) == []


@pytest.mark.parametrize("size", [1, 2, 5])
def test_so_many_batches_are_put_ahead_and_no_more(size):
    put, threads = [], set()

    def note(x):
        put.append(x)
        threads.add(threading.current_thread())
        return x

    with contextlib.closing(loader.prefetch(itertools.count(), note, size)) as ahead:
        for taken in range(1, 6):
            assert next(ahead) == taken - 1
            deadline = time.monotonic() + 5
            while len(put) < taken + size and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.02)
            assert len(put) == taken + size
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_an_error_comes_after_what_was_made_before_it():
    def numbers_until():
        yield 1
        yield 2
        raise UserError("no more")

    ahead = loader.prefetch(numbers_until(), abs, size=5)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(UserError, match="no more"):
        next(ahead)
    assert list(ahead) == []


def test_an_error_of_put_is_raised_and_the_iterator_closed():
    closed = []

    def forever():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    ahead = loader.prefetch(forever(), lambda x: 1 // (2 - x))
    assert next(ahead) == 0
    with pytest.raises(ZeroDivisionError):
        list(ahead)
    assert closed == [True]


@pytest.mark.parametrize("how", ["close", "forget", "break by an error"])
def test_a_consumer_that_stops_early_ends_thread_and_iterator(how):
    closed = []

    def forever():
        try:
            yield from itertools.count()
        finally:
            closed.append(threading.current_thread())

    ahead = loader.prefetch(forever(), abs)
    next(ahead)
    if how == "close":
        ahead.close()
    elif how == "forget":
        del ahead
    else:
        with contextlib.closing(ahead), pytest.raises(KeyError):
            raise KeyError
    (thread,) = closed
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_what_was_never_begun_has_no_thread():
    before = threading.active_count()
    ahead = loader.prefetch(itertools.count(), abs)
    assert threading.active_count() == before
    ahead.close()


def test_closing_ends_the_threads_that_read():
    made = loader.train_batches(
        streams_of(images_of(10)), spec_of(), [0], 0, batch_size=6, parts=1, part=0
    )
    ahead = loader.prefetch(made, lambda batch: batch)
    next(ahead)
    assert any(thread.name.startswith("grain") for thread in threading.enumerate())
    ahead.close()
    deadline = time.monotonic() + 5
    while any(t.name.startswith("grain") for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
