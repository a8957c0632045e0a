"""What TensorBoard is given: each replicate, their mean, each process, and the config."""

import sys
import time

import pytest

from groundwork.errors import UserError
from groundwork.runs import tensorboard

CONFIG = {"seed": 0, "prune": {"rate": 0.2, "prunable": ("a|b", "*c")}}
ROW = {"unit": "start", "step": 7, "replicate": 1, "split": "train"}
ROW |= {"loss": 0.5, "accuracy": 0.25, "seconds": 1.0}


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Hands rows over; returns name of the line → tag → step and value, once all are written."""
    monkeypatch.setattr(tensorboard, "FLUSH_SECONDS", 0.02)

    def show(*calls):
        charts = tensorboard.charts(tmp_path, CONFIG)
        for rows in calls:
            charts.write(rows)
        charts.close()
        return lines(tmp_path)

    return show


def test_one_replicate_is_shown_alone(shown):
    line = {"train/loss": (7, 0.5), "train/accuracy": (7, 0.25)}
    expected = {"start/replicate-1": line}
    assert shown([ROW]) == expected


def test_rows_are_shown_within_seconds_while_the_run_goes_on(tmp_path):
    tensorboard.charts(tmp_path, CONFIG).write([ROW])
    end = time.monotonic() + 20  # its writer is a thread of its own
    while not lines(tmp_path).get("start/replicate-1") and time.monotonic() < end:
        time.sleep(0.05)
    assert "train/loss" in lines(tmp_path)["start/replicate-1"]


def test_several_have_a_mean(shown):
    other = {**ROW, "replicate": 0, "loss": 1.5, "at": "end", "step": 9}
    expected = {
        "start/replicate-0": {"train-end/loss": (9, 1.5), "train-end/accuracy": (9, 0.25)},
        "start/replicate-1": {"train-end/loss": (7, 0.5), "train-end/accuracy": (7, 0.25)},
        "start/mean": {"train-end/loss": (8, 1.0), "train-end/accuracy": (8, 0.25)},
    }
    assert shown([other, {**ROW, "at": "end"}]) == expected


def test_processes_have_charts_of_their_own_and_no_mean(shown):
    row = {"unit": "start", "kind": "operations", "first_step": 0, "step": 7, "time": 1.0}
    rows = [{**row, "process": process, "data_wait": process / 4} for process in (0, 1)]
    expected = {
        f"start/process-{process}": {"operations/data_wait": (7, process / 4)} for process in (0, 1)
    }
    assert shown(rows) == expected


def test_the_config_is_a_table_of_the_text_page(shown, tmp_path):
    shown([ROW], [])
    ((_, value),) = _values(tmp_path / "config")
    assert value.metadata.plugin_data.plugin_name == "text"
    assert value.tensor.string_val[0].decode().splitlines() == [
        "| key | value |",
        "|---|---|",
        "| seed | 0 |",
        "| prune.rate | 0.2 |",
        r"| prune.prunable | ['a\|b', '*c'] |",
    ]


def test_where_a_unit_continues_what_an_earlier_start_wrote_is_forgotten(shown, tmp_path):
    line = {"train/loss": (7, 0.5), "train/accuracy": (7, 0.25)}
    assert shown([ROW]) == {"start/replicate-1": line}
    events = _events(tmp_path / "start/replicate-1")
    assert [event.step for event in events if event.session_log.status == 1] == [7]  # START


def test_without_tensorboardx_one_line_says_what_to_do(monkeypatch):
    tensorboard.require()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r"log\.tensorboard=true needs tensorboardX .*pip install"):
        tensorboard.require()


def lines(folder):
    found = {}
    for file in folder.rglob("events*"):
        name = file.parent.relative_to(folder).as_posix()
        if name != "config":
            found[name] = {v.tag: (step, v.simple_value) for step, v in _values(file.parent)}
    return found


def _values(folder):
    """Step and value of all in a folder's file of records."""
    return [(event.step, value) for event in _events(folder) for value in event.summary.value]


def _events(folder):
    """All of a folder's file of records: length, checksum, data, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.iterdir()
    content, place, found = file.read_bytes(), 0, []
    while place < len(content):
        size = int.from_bytes(content[place : place + 8], "little")
        found.append(Event.FromString(content[place + 12 : place + 12 + size]))
        place += size + 16
    return found
