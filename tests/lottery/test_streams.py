"""A run whose data is read from files as it is needed: interrupted, continued, on another mesh."""

import itertools
import os
import signal

import numpy as np
import pytest

from groundwork.devices.interruption import PREEMPTED, Interrupted, Interruption
from tests.conftest import ROOT
from tests.lottery import small

STREAM = [
    "--config.data.name=tiny_digits",
    "--config.data.source=tfds",
    f"--config.data.dir={ROOT / 'tests/fixtures/tfds'}",
    "--config.data.stream=true",
    "--config.data.augment=crop_flip",
    "--config.data.validation_examples=20",
    "--config.train.batch_size=16",
    "--config.levels=1",
    "--config.branches.small_dense=()",
    "--config.branches.random_mask=()",
]
UNITS = [(0, "ticket"), (1, "ticket"), (1, "random_reinit")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streamed") / "run"
    small.train(folder, *STREAM)
    return folder


def test_a_stream_trains_and_every_example_is_evaluated(undisturbed):
    rows = small.rows(undisturbed)
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    ends = [row for row in rows if row["unit"] == "levels/01/ticket" and row.get("at") == "end"]
    assert len(ends) == 2
    for row in ends:  # correct / examples: a whole number of the test examples
        whole = row["accuracy"] * 30
        assert abs(whole - round(whole)) < 1e-9


def test_asked_to_stop_in_the_middle_it_goes_on_bit_for_bit(undisturbed, tmp_path, monkeypatch):
    """The signal comes at step 37, in the middle of an epoch and between two evaluations."""
    checks, reached = itertools.count(), Interruption.reached

    def asked(interruption):
        if next(checks) == 37:  # one check for each step; `start` has those before 20
            os.kill(os.getpid(), signal.SIGTERM)
        return reached(interruption)

    monkeypatch.setattr(Interruption, "reached", asked)
    with pytest.raises(Interrupted, match=r"saved at levels/00/ticket, step 37") as stopped:
        small.train(tmp_path, *STREAM)
    assert stopped.value.code == PREEMPTED
    small.train(tmp_path, *STREAM)
    assert "continues from step 37" in (tmp_path / "run.log").read_text()
    small.assert_same_run(tmp_path, undisturbed, UNITS)


def test_on_four_devices_the_losses_are_the_same(undisturbed, tmp_path):
    small.train(tmp_path, *STREAM, "--config.mesh.replicate=2", "--config.mesh.data=2")
    for one, four in zip(small.rows(undisturbed), small.rows(tmp_path), strict=True):
        np.testing.assert_allclose(four["loss"], one["loss"], rtol=1e-4)
