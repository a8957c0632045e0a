"""Times say how sure they are: quartiles, and what else the machine did."""

import subprocess
import sys
import time
from types import SimpleNamespace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.numerics.times import Times
from groundwork.report import tables
from groundwork.train import latency


def measured(monkeypatch, before, after):
    """The times of a tiny network, and what /proc/stat says before and after."""
    module = nn.Dense(2)
    looks = iter([before, after])
    monkeypatch.setattr(latency, "_busy", lambda: next(looks))
    variables = {"params": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}

    def apply(variables, inputs, train):
        return module.apply(variables, inputs) * 2

    class Original(nn.Module):
        @nn.compact
        def __call__(self, inputs, train=False):
            return nn.Dense(2)(inputs)

    network = SimpleNamespace(apply=apply)
    return latency.milliseconds(Original(), network, variables, (3,))


def test_a_time_has_its_quartiles_and_who_else_worked(monkeypatch):
    found = measured(monkeypatch, (10.0, 4.0, 3.0), (14.0, 7.0, 5.0))
    for values in found.values():
        times = Times(*values)
        assert 0 < times.own_low <= times.own <= times.own_high
        assert times.others == 0.25  # of 4 seconds 3 were worked, 2 of them by this process
        assert times.is_doubtful
    said = tables.doubts([found])
    assert "during 2 of 2 measurements other processes took up to 25% of" in said


@pytest.mark.parametrize("after", [(14.0, 5.2, 4.0), None])
def test_a_quiet_machine_and_an_unknown_one_are_not_doubted(monkeypatch, after):
    found = measured(monkeypatch, (10.0, 4.0, 3.0), after)
    assert tables.doubts([found, {"1": [1.0, 2.0]}]) == ""


def test_another_process_is_seen():
    script = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"
    worker = subprocess.Popen([sys.executable, "-c", script])
    try:
        before = latency._busy()
        if before is None:
            pytest.skip("/proc/stat is Linux's")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            np.ones(10).sum()
        assert latency._others(before, latency._busy()) > 0.05
    finally:
        worker.kill()
        worker.wait()


def test_looks_that_are_too_near_say_nothing():
    assert latency._others((10.0, 4.0, 3.0), (10.4, 4.4, 3.0)) is None


def test_quartiles_stand_behind_medians_and_older_runs_have_none():
    times = {"1": [1.0, 2.0, 0.9, 1.1, 1.8, 2.25, 0.0], "128": [4.0, 2.0]}
    assert tables.time_cells(times, ["1", "128"]) == [
        "1.000 (0.900–1.100)", "2.000 (1.800–2.250)", "2.00", "4.000", "2.000", "0.50",
    ]  # fmt: skip
