"""Times by a clock that the test holds."""

import flax.linen as nn
import numpy as np
import pytest

from groundwork.traced.network import Network
from groundwork.train import latency


def test_calls_take_turns_and_the_median_of_each_counts(monkeypatch):
    order, warm = [], set()

    def seconds(call, count):
        assert call in warm  # its first call compiles
        order.append((call, count))
        return count * {"slow": 4.0, "quick": 1e-3}[call()] * (50 if len(order) == 5 else 1)

    monkeypatch.setattr(latency, "_seconds", seconds)
    slow = lambda: warm.add(slow) or "slow"  # noqa: E731
    quick = lambda: warm.add(quick) or "quick"  # noqa: E731
    assert latency.medians([slow, quick], repeats=3) == pytest.approx([4.0, 1e-3])
    assert order == [(slow, 1), (quick, 1), *[(slow, 1), (quick, 3)] * 3]


def test_times_are_of_the_original_then_the_network_in_both_sizes(monkeypatch):
    asked = []

    def samples(calls):
        found = [np.asarray(call()) for call in calls]
        asked.append([(own.shape, bool(np.any(own))) for own in found])
        return [(1.0, 1.0, 4.0), (2.0, 2.0, 2.0)][: len(calls)]

    monkeypatch.setattr(latency, "samples", samples)
    monkeypatch.setattr(latency, "_busy", lambda: None)
    model = nn.Dense(3)
    nothing = {"params": {"kernel": np.zeros((5, 3)), "bias": np.zeros(3)}}
    own = Network(model.init, lambda variables, inputs, train: model.apply(variables, inputs))
    original = _Trained(3)
    found = latency.milliseconds(original, own, nothing, (5,))
    wanted = [1e3, 2e3, 1e3, 2.5e3, 2e3, 2e3, None]
    assert found == {"1": wanted, "128": wanted}
    assert asked == [[((batch, 3), True), ((batch, 3), False)] for batch in (1, 128)]
    assert latency.milliseconds(original, original, None, (5,))["1"][:2] == [1e3, 1e3]


class _Trained(nn.Dense):
    """A layer that knows of training."""

    def __call__(self, inputs, train=False):
        return super().__call__(inputs)


class _Busy:
    """Asked for in a second, ready three seconds after it is waited for."""

    now = 0.0

    def __init__(self):
        _Busy.now += 1

    def block_until_ready(self):
        _Busy.now += 3


def test_the_clock_stops_when_the_last_call_is_done(monkeypatch):
    monkeypatch.setattr(latency.time, "perf_counter", lambda: _Busy.now)
    assert latency._seconds(_Busy, 2) == 2 + 3
