"""What a run tells of its operation while it trains, and a trace of steps: no bit changes."""

import contextlib
import dataclasses
import gzip
import itertools
import json
from types import SimpleNamespace

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from groundwork.data.dataset import Dataset, Split
from groundwork.devices import mesh, processes
from groundwork.devices.interruption import Interrupted
from groundwork.devices.profile import Profile
from groundwork.runs import metrics, operations
from groundwork.train import loop, meter, networks, programs
from tests.groundwork.contexts import context_of

STEPS, BATCH = 40, 8


class Line(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        return nn.Dense(3, name="line")(inputs)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(24, 5)).astype(np.float32)
    split = Split(inputs, np.arange(24, dtype=np.int32) % 3)
    moments = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    dataset = Dataset("made", split, split, split, 3, *moments)
    folder, devices = tmp_path_factory.mktemp("meter"), mesh.make(2, BATCH, replicate=1, data=1)
    with context_of(folder, dataset, devices, replicates=2) as made:
        yield made


@pytest.fixture(scope="module")
def train(context):
    """Trains a unit to its end; returns the variables, on the host."""
    model, optimizer = Line(), optax.sgd(0.1)
    made = programs.make(model, optimizer, context.dataset, context.mesh, batch_size=BATCH)
    start = networks.make_start(context, networks.unmasked(optimizer))
    variables = networks.initial(context, model)

    def train(name, programs=lambda made: made, **changes):
        job = loop.Job(programs=programs(made), unit=context.run.unit(name), stop=STEPS, fields={})
        mine = dataclasses.replace(context, **changes)
        return mesh.fetch(loop.train(mine, job, start(variables))[0].variables)

    return train


@pytest.fixture(scope="module")
def plain(train):
    return train("plain")


def _of(context, unit):
    return [row for row in metrics.read(context.run.metrics, "operations") if row["unit"] == unit]


def test_a_unit_ends_with_a_row_of_its_steps(context, plain):
    (row,) = _of(context, "plain")
    assert (row["process"], row["first_step"], row["step"]) == (0, 0, STEPS)
    assert 0 < row["step_seconds"] < 60
    assert row["examples_per_second"] * row["step_seconds"] == pytest.approx(2 * BATCH, rel=1e-4)
    assert row["compile_seconds"] > 0
    assert (row["data_wait"], row["saving_seconds"], row["goodput_steps"]) == (0, 0, 1)
    assert 0 < row["goodput_time"] <= 1
    assert 10**7 < row["resident_bytes"] < 10**11
    assert "device_bytes" not in row  # the CPU's backend does not tell


def test_rows_are_written_when_they_are_due_and_cover_every_step_once(
    context, plain, train, monkeypatch
):
    monkeypatch.setattr(meter, "ROW_SECONDS", 0.0)
    train("often")
    spans = [(row["first_step"], row["step"]) for row in _of(context, "often")]
    assert spans == [(0, 10), (10, 20), (20, 30), (30, 40)]
    assert len(metrics.of_unit(context.run.metrics, "often")) == len(
        metrics.of_unit(context.run.metrics, "plain")
    )


def test_saving_is_no_step_and_steps_after_a_stop_are_not_computed_again(
    context, plain, train, monkeypatch
):
    looks = iter(range(100))
    asked = SimpleNamespace(reached=lambda: next(looks) == 2, stop=lambda at: Interrupted(at, 75))
    with monkeypatch.context() as changed:
        changed.setattr(meter, "ROW_SECONDS", 0.0)
        with pytest.raises(Interrupted, match="step 20"):
            train("stopped", interruption=asked, checkpoint_seconds=0)
    after = train("stopped", interruption=SimpleNamespace(reached=lambda: False))
    np.testing.assert_array_equal(
        after["params"]["line"]["kernel"], plain["params"]["line"]["kernel"]
    )
    rows = _of(context, "stopped")
    assert [(row["first_step"], row["step"]) for row in rows] == [
        (0, 10), (10, 20), (20, 20), (20, 40),
    ]  # fmt: skip
    assert rows[1]["saving_seconds"] > 0
    assert rows[2]["continues_at"] == 20
    found = operations.goodput(rows, None)
    assert found == (40, 40, None)


def test_saving_at_a_stop_is_no_step_either(context, plain, train, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    real, looks = loop._save, iter(range(100))

    def slow(*args):
        clock.now += 1000.0
        real(*args)

    monkeypatch.setattr(loop, "_save", slow)
    fake = SimpleNamespace(monotonic=lambda: clock.now, time=lambda: 1e9)
    monkeypatch.setattr(meter, "time", fake)
    asked = SimpleNamespace(reached=lambda: next(looks) == 1, stop=lambda at: Interrupted(at, 75))
    with pytest.raises(Interrupted):
        train("asked", interruption=asked, checkpoint_seconds=3600.0)
    (row,) = _of(context, "asked")
    assert row["saving_seconds"] == 1000
    assert row["step_seconds"] < 1


def test_what_is_compiled_to_save_is_not_taken_off_twice(context, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    found = meter.Meter(context, "saved", 0, BATCH)
    with found.measuring(), found.saving():
        clock[0] += 7.0
        jax.monitoring.record_event_duration_secs(meter.COMPILING, 5.0)
    assert (found._saving, found._compiling) == (2, 5)


def test_evaluations_and_checkpoints_move_each_by_itself(context, plain, train, monkeypatch):
    """Each is followed by a move: none of them takes from the time that another may take."""
    happened = []

    def noted(name, function):
        return lambda *args: [function(*args), happened.append(name)][0]

    dog = SimpleNamespace(
        watching=lambda name: contextlib.nullcontext(), moved=lambda: happened.append("moved")
    )
    monkeypatch.setattr(loop, "_save", noted("save", loop._save))
    train(
        "slow",
        lambda made: made._replace(evaluate=noted("evaluate", made.evaluate)),
        interruption=SimpleNamespace(reached=lambda: False),
        watchdog=dog,
        checkpoint_seconds=0,
    )
    assert {name: happened.count(name) for name in set(happened)} == {
        "evaluate": 6, "save": 3, "moved": 1 + 4 + 6 + 3,
    }  # fmt: skip
    assert all("moved" in pair for pair in itertools.pairwise(happened))


def test_steps_that_a_killed_start_computed_count_as_computed_again(context, plain, train):
    def die():
        if next(looks) == 3:
            raise MemoryError  # as sudden as a kill
        return False

    looks = iter(range(100))
    with pytest.raises(MemoryError):
        train("killed", interruption=SimpleNamespace(reached=die), checkpoint_seconds=3600.0)
    train("killed", interruption=SimpleNamespace(reached=lambda: False))
    rows = _of(context, "killed")
    assert [(row["first_step"], row["step"]) for row in rows] == [(0, 20), (0, 40)]
    assert rows[-1]["goodput_steps"] < 1
    assert "20 of " in operations.summary(context.run.folder, context.run.metrics)


def test_the_trace_has_the_steps_and_no_bit_changes(context, plain, train, tmp_path):
    said = []
    profile = Profile((13, 15), tmp_path / "profile", said.append)
    assert "has computed step 13" in profile.missed
    traced = train("traced", profile=profile)
    again = train("later", profile=profile)
    for found in (traced, again):
        np.testing.assert_array_equal(
            found["params"]["line"]["kernel"], plain["params"]["line"]["kernel"]
        )
    folder = tmp_path / "profile/process-0"
    assert said == [f"traced  steps 13 to 14 are traced in {folder}"]
    assert profile.missed == ""
    (file,) = folder.rglob("*.trace.json.gz")  # of the first unit alone
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    calls = [event for event in events if event.get("name") == "PjitFunction(some_steps)"]
    first = min(calls, key=lambda call: call["ts"])  # a call of two steps; the others lie in it
    assert all(call["ts"] <= first["ts"] + first["dur"] for call in calls)
    assert any(folder.rglob("*.xplane.pb"))


def test_a_trace_ends_with_its_unit_and_is_missed_where_no_unit_comes_to_it(
    context, plain, train, tmp_path
):
    said = []
    train("short", profile=Profile((38, 99), tmp_path / "a", said.append))
    assert said == [f"short  steps 38 to 39 are traced in {tmp_path / 'a/process-0'}"]
    assert any((tmp_path / "a").rglob("*.xplane.pb"))
    far = Profile((40, 99), tmp_path / "b", said.append)
    train("far", profile=far)
    assert "no unit that was trained now has computed step 40" in far.missed
    assert not (tmp_path / "b").exists()


def test_a_trace_that_cannot_be_written_does_not_end_the_run(
    context, plain, train, tmp_path, monkeypatch
):
    def full():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: No space left on device")

    said = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: None)
    monkeypatch.setattr(jax.profiler, "stop_trace", full)
    train("full", profile=Profile((1, 3), tmp_path, said.append))
    (line,) = said
    assert line.startswith("warning: full: the trace of steps 1 to 2 is lost: JaxRuntimeError")
    assert line.endswith("No space left on device")


def test_an_iterator_knows_how_long_it_was_waited_for(monkeypatch):
    clock = [0.0]

    def slow():
        for item in (1, 2):
            clock[0] += 3.0
            yield item
        clock[0] += 1.0

    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    source = slow()
    timed = meter.Timed(source)
    clock[0] += 100.0
    assert list(timed) == [1, 2]
    assert timed.waited_seconds == 7
    timed.close()
    assert source.gi_frame is None


def test_the_fullest_device_counts_where_the_backend_tells():
    def device(**stats):
        return SimpleNamespace(memory_stats=lambda: stats)

    devices = [
        device(bytes_in_use=5, peak_bytes_in_use=9),
        device(bytes_in_use=7, peak_bytes_in_use=8),
    ]
    assert meter._on_devices(devices) == {"device_bytes": 7, "device_peak_bytes": 9}
    assert meter._on_devices([device(bytes_in_use=5)]) == {"device_bytes": 5}
    assert meter._on_devices([SimpleNamespace(memory_stats=lambda: None)]) == {}


def test_rows_of_other_processes_are_written_by_the_first(context, plain, monkeypatch):
    sent = [json.dumps({"unit": "plain", "kind": "operations", "process": 1})]
    monkeypatch.setattr(processes, "received", lambda name: sent if name == "operations" else [])
    meter.write(context.run, [])
    assert _of(context, "plain")[-1] == json.loads(sent[0])
