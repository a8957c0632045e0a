"""What is made ahead in a thread: in order, no more than asked for, and ended with its consumer."""

import contextlib
import itertools
import threading
import time

import pytest

from groundwork.data import loader
from groundwork.errors import UserError
from tests.groundwork.data.batches import spec_of
from tests.groundwork.memory import images_of, streams_of


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
    before = set(threading.enumerate())
    ahead = loader.prefetch(itertools.count(), abs)
    assert not set(threading.enumerate()) - before
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
