"""Processes that read beside the program: they change nothing, and end with it."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from jax.extend import backend

from groundwork.data import loader
from groundwork.data.examples import Source
from groundwork.errors import UserError
from tests.conftest import ROOT
from tests.groundwork.data.batches import assert_equal, evaluate, spec_of, train
from tests.groundwork.memory import BackendRecords, images_of, streams_of

# Grain leaves the pipes of its workers to the garbage collector, which Python 3.13 tells of.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def _no_pipes_for_the_next_module():
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


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


def test_an_error_of_a_thread_is_no_workers(monkeypatch):
    def fails(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Source, "examples", fails)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        train(streams_of(images_of(5)), 1)


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
