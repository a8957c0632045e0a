"""Times by a clock that the test holds."""

import numpy as np
import pytest

from lowrank import timing
from lowrank.candidates import DENSE
from tests.lowrank.test_candidates import conv, dense


def test_calls_take_turns_and_the_median_of_each_counts(monkeypatch):
    order = []

    def seconds(call, count):
        order.append((call, count))
        return count * {"slow": 4.0, "quick": 1e-3}[call()] * (50 if len(order) == 5 else 1)

    monkeypatch.setattr(timing, "_seconds", seconds)
    slow, quick = lambda: "slow", lambda: "quick"
    assert timing.medians([slow, quick], repeats=3) == pytest.approx([4.0, 1e-3])
    assert order == [(slow, 1), (quick, 1), *[(slow, 1), (quick, 3)] * 3]


def test_a_layers_call_is_of_so_many_examples():
    (found,) = timing.layer(conv(), "tucker", (2, 3))()
    assert found.shape == (timing.BATCH, 4, 7, 6)
    assert np.std(found) > 0
    assert [out.shape for out in timing.layer(dense(), DENSE, None)()] == [(timing.BATCH, 5)]
    assert len(timing.layer(conv(calls=2), DENSE, None)()) == 2


def test_costs_are_nanoseconds_and_layers_as_they_are_come_first(monkeypatch):
    made = []
    monkeypatch.setattr(timing, "layer", lambda reached, method, rank: made.append((method, rank)))
    monkeypatch.setattr(timing, "medians", lambda calls, repeats=7: [2e-6, 3e-6][: len(calls)])
    assert timing.cost(dense(), "svd", 2) == 2000
    assert timing.layers(dense(), "svd", 2) == (2e-6, 3e-6)
    assert made == [("svd", 2), (DENSE, None), ("svd", 2)]
