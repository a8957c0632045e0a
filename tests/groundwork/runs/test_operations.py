"""Rows about a run's operation: readers leave them out, and they tell what was computed twice."""

import json

import pytest

from groundwork.runs import metrics, operations


def _evaluation(step, unit="a"):
    return {"unit": unit, "step": step, "replicate": 0, "split": "train", "loss": 1, "seconds": 1}


def _row(first, step, unit="a", **more):
    row = {"unit": unit, "kind": "operations", "process": 0, "first_step": first, "step": step}
    return {**row, "time": 100.0, **more}


def test_readers_of_evaluations_leave_them_out_and_a_repeated_unit_keeps_them(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [_evaluation(1), _row(0, 1), _evaluation(2), _row(1, 2), _evaluation(1, "b")]
    metrics.append(path, rows)
    assert metrics.read(path) == rows[::2]
    assert metrics.of_unit(path, "a") == [rows[0], rows[2]]
    assert metrics.read(path, "operations") == operations.read(path) == [rows[1], rows[3]]
    metrics.keep(path, "a", 1)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        *rows[:2],
        *rows[3:],
    ]


def test_lines_that_are_damaged_or_of_other_processes_do_not_count(tmp_path):
    path = tmp_path / "metrics.jsonl"
    good = _row(0, 5)
    damaged = [
        _row(0, 5, process=1),
        _row("0", 5),
        _row(0, True),
        _row(0, 5, time=None),
        _row(0, 5, step_seconds="x"),
        {"unit": "a", "kind": "operations", "process": 0},
    ]
    metrics.append(path, [*damaged, good])
    assert operations.read(path) == [good]


@pytest.mark.parametrize(
    ("rows", "computed", "useful"),
    [
        ([], 0, 0),
        ([_row(0, 10), _row(10, 30)], 30, 30),
        ([_row(0, 10), _row(5, 30)], 35, 30),  # five steps were lost
        ([_row(0, 10), _row(0, 10), _row(0, 10, "b")], 30, 20),
        ([_row(0, 30), _row(5, 10)], 35, 30),
        ([_row(100, 110), _row(0, 10)], 20, 20),  # a ticket begins at its rewind step
    ],
)
def test_goodput_is_the_share_of_steps_that_are_not_computed_again(rows, computed, useful):
    found = operations.goodput(rows, None)
    assert found == (computed, useful, None)
    assert found.steps == (useful / computed if computed else 1)


def test_goodput_in_time_is_the_share_since_the_first_start_that_is_spent_in_steps(tmp_path):
    rows = [_row(0, 10, step_seconds=2.0), _row(5, 10, step_seconds=4.0)]
    assert operations.goodput(rows, 20.0).time == pytest.approx((10 * 2 + 5 * 4) / 80)
    starts = tmp_path / "starts.jsonl"
    assert operations.first_start(tmp_path) is None
    starts.write_text('{"time": "1970-01-01T01:00:20+0100"}\n{"time": "later"}\n')
    assert operations.first_start(tmp_path) == 20
    starts.write_text("[1]\n")
    assert operations.first_start(tmp_path) is None


def test_what_a_killed_start_computed_is_noted_when_its_unit_continues(tmp_path):
    """Killed at 30 and, once it went on from 20, at 40; it then goes on from 20 once more."""
    path = tmp_path / "metrics.jsonl"
    operations.note_restart(path, "a", 0, 0)
    assert not path.exists()
    metrics.append(path, [_evaluation(step) for step in (10, 20, 30)])
    operations.note_restart(path, "a", 0, 20)
    metrics.keep(path, "a", 2)
    metrics.append(path, [_evaluation(step) for step in (30, 40)])
    operations.note_restart(path, "a", 0, 20)
    metrics.append(path, [_row(20, 50)])
    spans = [(row["first_step"], row["step"]) for row in operations.read(path)]
    assert spans == [(0, 30), (20, 40), (20, 50)]
    said = operations.summary(tmp_path, path)
    assert said == "goodput 0.625: 30 of 80 steps were computed again"


def test_a_run_that_lost_nothing_has_nothing_to_say(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, [_row(0, 10)])
    assert operations.summary(tmp_path, path) == ""
    metrics.append(path, [_row(5, 10, step_seconds=10.0)])
    (tmp_path / "starts.jsonl").write_text('{"time": "1970-01-01T00:00:00+0000"}\n')
    said = operations.summary(tmp_path, path)
    assert "5 of 15 steps were computed again; 50% of the time since the first start" in said
