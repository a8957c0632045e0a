"""`deploy.measure` with engines that work, refuse, crash and hang, each in its process."""

import os
import sys
import textwrap

import numpy as np
import pytest

from deploy import answers, child, measure
from deploy.measure import Answered, Settings, Subject

SETTINGS = Settings(rounds=3, seconds=0.01, warmup_seconds=0.0, limit_seconds=20.0)
ENGINE = """
    import os, signal, sys, time

    def load(path, threads):
        kind = path.read_text()
        if kind == "refuses":
            raise ValueError("the file is of another kind")
        print("engines print what they like")
        calls = []

        def call(x):
            calls.append(None)
            if kind == "crashes" and len(calls) > 4:
                print("last words", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGSEGV)
            if kind == "hangs" and len(calls) > 4:
                time.sleep(100)
            if kind == "large":
                bytearray(b"1" * 50_000_000)
            time.sleep({"slow": 0.01}.get(kind, 0.001))
            loaded = [name for name in ("jax", "flax", "optax") if name in sys.modules]
            return x * 2 + len(loaded) + 100 * (len(os.sched_getaffinity(0)) - threads)

        return call

    def operations(path):
        if path.read_text() == "slow":
            raise RuntimeError("no graph")
        return [("a", "conv", "int8")]
"""


@pytest.fixture
def subject(tmp_path, monkeypatch):
    """A function that makes a subject of an engine that behaves as it is told."""
    (tmp_path / "stub_engine.py").write_text(textwrap.dedent(ENGINE))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(kind, threads=1):
        path = tmp_path / f"{kind}.txt"
        path.write_text(kind)
        return Subject(
            engine="stub",
            kind=kind,
            threads=threads,
            batch=2,
            path=path,
            runtime="stub_engine",
            package="json",
        )

    return make


@pytest.mark.skipif(sys.platform != "linux", reason="pins processes to processors")
def test_each_process_is_measured_and_answers_alone(subject):
    quick, slow, refuses = subject("quick"), subject("slow"), subject("refuses")
    crashes, large = subject("crashes"), subject("large")
    subjects, batch = [quick, slow, refuses, crashes, large], np.ones((2, 3), "f4")
    examples = np.arange(15, dtype="f4").reshape(5, 3)
    found, answers, load = measure.measure(subjects, {2: [batch]}, SETTINGS, examples=[examples])
    low, median, high = found[quick].milliseconds
    assert 1 <= low <= median <= high
    assert 10 <= found[slow].milliseconds[1] < 100
    assert found[slow].calls == 3 * measure.LEAST_CALLS
    assert found[quick].processors == 1
    assert found[quick].peak_bytes < 40e6 < 49e6 < found[large].peak_bytes
    assert found[refuses] == measure.Measured(failure="the file is of another kind", refused=True)
    assert found[crashes].failure == "the process ended at 'block' by signal SIGSEGV: last words"
    assert not found[crashes].milliseconds
    # JAX was not there, and there was one processor.
    np.testing.assert_array_equal(answers[quick].outputs[0], 2 * examples)
    assert answers[quick].operations == [("a", "conv", "int8")]
    assert answers[slow].operations is None
    assert answers[slow].failure == "RuntimeError: no graph"
    assert set(answers) == {quick, slow, large}
    assert len(load) == SETTINGS.rounds + 1


def test_an_engine_that_hangs_has_a_limit_of_time(subject):
    settings = Settings(rounds=2, seconds=0.01, warmup_seconds=0.0, limit_seconds=1.0)
    hangs = subject("hangs")
    found, answers, _ = measure.measure([hangs], {2: [np.ones((2, 3), "f4")]}, settings)
    assert found[hangs].failure == "no answer to 'block' within 1 s"
    assert not found[hangs].refused
    assert answers == {}


def test_what_stops_a_measurement_ends_its_processes(subject, monkeypatch):
    started = []
    begin = child.subprocess.Popen

    def popen(*args, **options):
        started.append(begin(*args, **options))
        return started[-1]

    monkeypatch.setattr(child.subprocess, "Popen", popen)
    turns = iter([None, None])

    def pause():
        if next(turns, "over") == "over":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure.measure([subject("quick")], {2: [np.ones((2, 3), "f4")]}, SETTINGS, pause)
    assert [process.poll() is not None for process in started] == [True]


def test_turns_and_processors():
    assert measure._turned([1, 2, 3], 4) == [2, 3, 1]
    there = sorted(os.sched_getaffinity(0))
    assert measure.processors(1) == there[:1]
    assert measure.processors(10_000) == there


def test_outputs_of_other_calls_are_compared_with_the_last():
    right = np.arange(12.0).reshape(6, 2)
    last = Answered(outputs=(right,))
    assert answers.difference("float", Answered(outputs=(right[:4] + 1e-4,)), last) == ""
    assert answers.difference("float", Answered(), last) == ""
    assert answers.difference("int8", Answered(outputs=(right[:4] * 1.2,)), last) == ""
    wrong = answers.difference("int8", Answered(outputs=(right[:4] + 14.3,)), last)
    assert wrong == "its outputs are not those that it gives in the last calls (error 2.0e+00)"
    assert "other shapes" in answers.difference("int8", Answered(outputs=(right[:, :1],)), last)
