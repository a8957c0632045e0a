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
    assert "about 60 kB of checkpoints, if all are as large as that of a" in text


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
    assert stop.code == 143  # not 75, for which schedulers would start it again
    assert "nothing is kept" in str(stop)


def test_what_trains_nothing_is_given_up_between_two_units(monkeypatch, tmp_path):
    clock = [0.0]
    monkeypatch.setattr(rehearsal.time, "monotonic", lambda: clock[0])
    enough = rehearsal.Enough()
    with rehearsal.Watched(tmp_path / "run.log", {"a": 0, "b": 0}, (), enough) as reporter:
        reporter.begin("a", 0, 1)
        clock[0] = rehearsal.PATIENCE + 1
        with pytest.raises(rehearsal.Timed):
            reporter.begin("b", 0, 1)


def test_where_nothing_trains_no_time_is_told(seen):
    text = "\n".join(rehearsal.lines(rehearsal.NOTHING, {"a": 0, "b": 0}, [], 1))
    assert "not known: nothing is trained" in text
    unknown = "\n".join(rehearsal.lines(seen, {"a": None}, [], 1))
    assert "not known before units are done" in unknown


def test_a_copy_of_a_run_links_what_is_read_and_copies_what_grows(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints/a").mkdir(parents=True)
    (run / "files").mkdir()
    for name in ("config.json", "metrics.jsonl", "run.log", "checkpoints/a/data", "files/0.cna"):
        (run / name).write_text(name)
    rehearsal.copy(run, tmp_path / "copy")
    copied = tmp_path / "copy"
    assert {p.relative_to(copied).as_posix() for p in copied.rglob("*") if p.is_file()} == {
        "config.json", "metrics.jsonl", "checkpoints/a/data", "files/0.cna",
    }  # fmt: skip
    assert (copied / "checkpoints/a/data").is_symlink()
    (copied / "metrics.jsonl").write_text("more")
    (copied / "files/0.cna").write_text("other")
    assert (run / "metrics.jsonl").read_text() == "metrics.jsonl"
    assert (run / "files/0.cna").read_text() == "files/0.cna"
