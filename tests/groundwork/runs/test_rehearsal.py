"""What a dry run says, and that it ends when steps have been timed."""

import json

import pytest

from groundwork.devices.interruption import Interrupted
from groundwork.runs import rehearsal
from groundwork.runs.run import Run


def row(unit, first, last, each, compiling=0.0):
    return {
        "unit": unit, "kind": "operations", "process": 0, "first_step": first, "step": last,
        "step_seconds": each, "compile_seconds": compiling, "time": 1.0,
    }  # fmt: skip


@pytest.fixture
def seen(tmp_path):
    """Of two units, one of which was timed twice; 30,000 bytes of checkpoints."""
    rows = [row("a", 0, 10, 0.1, 2.0), row("a", 10, 40, 0.3), row("b", 0, 10, 0.5, 1.0)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for unit, size in (("a", 20_000), ("b", 10_000)):
        (tmp_path / "checkpoints" / unit).mkdir(parents=True)
        (tmp_path / "checkpoints" / unit / "data").write_bytes(bytes(size))
    return rehearsal.outlook(Run(tmp_path), ["a", "b", "c"])


def test_the_outlook_is_that_of_the_rows_and_of_the_disk(seen):
    assert (seen.unit, seen.steps, seen.seconds, seen.compiling) == ("b", 50, 0.5, 3.0)
    assert seen.by_unit == {"a": pytest.approx(0.25), "b": 0.5}  # (10·0.1 + 30·0.3) / 40
    assert seen.bytes == {"a": 20_000, "b": 10_000}


def test_each_unit_takes_its_own_time_and_others_that_of_the_last_one(seen):
    said = rehearsal.lines(seen, {"a": 400, "b": 100, "c": 1000, "d": 0}, ["b"], 3)
    text = "\n".join(said)
    assert "3 to do, 1 done: a, c, d" in text
    assert "1,400 in 2 units, 3 replicates at once" in text
    assert "about 10 min of training" in text  # 400 · 0.25 + 1,000 · 0.5 = 600 s
    assert "at most about 60 kB of checkpoints, 20 kB as for a" in text


def test_units_whose_steps_are_not_known_make_it_the_least(seen):
    text = "\n".join(rehearsal.lines(seen, {"a": 400, "x": None}, [], 1))
    assert "those of x, not known before" in text
    assert "at least 2 min of training" in text  # 400 · 0.25 s
    assert "400 in 2 units, of one replicate" in text


def test_of_a_finished_run_nothing_is_to_be_done():
    assert rehearsal.lines(rehearsal.NOTHING, {"a": 1}, ["a"], 1) == [
        "nothing is to be done: all units are done"
    ]


def test_it_is_enough_after_some_seconds_of_steps(monkeypatch):
    clock = iter([0.0, 1.0, 6.0, 9.0])
    monkeypatch.setattr(rehearsal.time, "monotonic", lambda: next(clock))
    enough = rehearsal.Enough()
    assert [enough.reached() for _ in range(4)] == [False, False, False, True]
    assert isinstance(enough.stop("a, step 3"), rehearsal.Timed)


def test_a_signal_still_stops_at_once_with_its_own_code():
    enough = rehearsal.Enough()
    enough._ask(15, None)
    assert enough.reached()
    stop = enough.stop("a, step 3")
    assert not isinstance(stop, rehearsal.Timed)
    assert isinstance(stop, Interrupted)
    assert stop.code == 75
