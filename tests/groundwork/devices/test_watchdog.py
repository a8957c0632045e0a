"""A process whose training does not move ends with its code, and says what it was doing."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from groundwork.devices import watchdog
from groundwork.devices.interruption import BY_HAND, PREEMPTED

LONG = 30.0  # seconds in which anything must have happened


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """The exit codes, instead of exits; standard error is a file."""
    codes, happened = [], threading.Event()

    def leave(code):
        codes.append(code)
        happened.set()

    error = os.open(tmp_path / "stderr", os.O_CREAT | os.O_WRONLY)
    monkeypatch.setattr(watchdog, "STDERR", error)
    monkeypatch.setattr(watchdog.os, "_exit", leave)
    yield SimpleNamespace(codes=codes, happened=happened)
    os.close(error)


def watching(before=()):
    """The threads that watch, but those of before."""
    named = {thread for thread in threading.enumerate() if thread.name == "watchdog"}
    return named.difference(before)


def a_hanging_call(happened):
    assert happened.wait(LONG)


def test_a_hang_ends_the_process_with_the_stacks_of_its_threads(tmp_path, ended):
    kept = []
    log = tmp_path / "run.log"
    dog = watchdog.Watchdog(0.2, log, keep=lambda: kept.append(log.read_text()))
    with dog.watching("levels/03/ticket"):
        a_hanging_call(ended.happened)
    assert ended.codes == [76]
    assert kept == [log.read_text()]  # with the stacks
    for name in ("stderr", "run.log"):
        said = (tmp_path / name).read_text()
        assert "error: levels/03/ticket has not moved for 0.2 s (checkpoint.hang_seconds)" in said
        assert "code 76, and the same command continues" in said
        assert "in a_hanging_call" in said
        assert f'File "{watchdog.__file__}", line' in said  # of another thread


def test_a_log_that_hangs_too_does_not_keep_the_process(tmp_path, ended, monkeypatch):
    monkeypatch.setattr(watchdog, "WRITE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "run.log")  # which nobody reads
    with watchdog.Watchdog(0.2, tmp_path / "run.log").watching("start"):
        a_hanging_call(ended.happened)
    assert ended.codes == [76]
    assert "start has not moved" in (tmp_path / "run.log").read_text()  # lets the writer go


def test_without_a_terminal_the_log_says_it_and_a_full_disk_hides_nothing(
    tmp_path, ended, monkeypatch
):
    dog = watchdog.Watchdog(1.0, tmp_path / "run.log")
    with monkeypatch.context() as gone:
        gone.setattr(watchdog, "STDERR", -1)
        dog._tell("start")
    assert "start has not moved" in (tmp_path / "run.log").read_text()
    watchdog.Watchdog(1.0, tmp_path)._tell("start")  # the log cannot be opened
    assert "start has not moved" in (tmp_path / "stderr").read_text()


def test_training_that_moves_goes_on_and_nothing_is_watched_outside(tmp_path, ended):
    dog = watchdog.Watchdog(1.0, tmp_path / "run.log")
    before = watching()
    with dog.watching("start"):
        assert len(watching(before)) == 1
        end = time.monotonic() + 1.3
        while time.monotonic() < end:
            dog.moved()
            time.sleep(0.05)
    assert not watching(before)
    assert not ended.codes


def test_zero_watches_nothing(tmp_path):
    before = watching()
    with watchdog.Watchdog(0, tmp_path / "run.log").watching("start"):
        assert not watching(before)


@pytest.mark.parametrize(("looks", "codes"), [(5, []), (200, [76])])
def test_time_in_which_the_process_was_stopped_does_not_count(
    tmp_path, ended, monkeypatch, looks, codes
):
    """Each look comes 1 s after the last one, but for the third: somebody stopped the process."""
    dog, clock = watchdog.Watchdog(100.0, tmp_path / "run.log"), [0.0]

    def wait(seconds):
        clock[0] += 10_000.0 if len(clock) == 3 else seconds
        clock.append(0)
        return len(clock) > looks

    fake = SimpleNamespace(monotonic=lambda: clock[0], strftime=time.strftime, sleep=time.sleep)
    monkeypatch.setattr(watchdog, "time", fake)
    dog._watch("start", SimpleNamespace(wait=wait))
    assert ended.codes == codes
    assert len(clock) - 1 == min(looks, 99)  # the third counts as two


def test_the_first_process_leaves_last_since_jax_ends_the_others_with_it(
    tmp_path, ended, monkeypatch
):
    waited = []
    fake = SimpleNamespace(sleep=waited.append, strftime=time.strftime)
    monkeypatch.setattr(watchdog, "time", fake)
    for count, first in ((1, True), (2, False), (2, True)):
        monkeypatch.setattr(watchdog.processes, "count", lambda count=count: count)
        monkeypatch.setattr(watchdog.processes, "first", lambda first=first: first)
        watchdog.Watchdog(100.0, tmp_path / "run.log")._end("start")
    assert waited == [0, 2, 4]  # looks of a second


def test_its_code_is_its_own():
    assert len({watchdog.HUNG, PREEMPTED, BY_HAND, 0, 1, 2}) == 6
