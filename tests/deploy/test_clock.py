"""Milliseconds of functions on an engine."""

import jax.numpy as jnp
import numpy as np
import pytest

from compress.search.clocks import Call, clock
from deploy import clock as clock_lib
from deploy.measure import Settings

QUICK = Settings(rounds=1, seconds=0.01, warmup_seconds=0.0, limit_seconds=60.0)


def test_calls_of_other_shapes_are_measured_too_in_their_order(monkeypatch):
    pytest.importorskip("onnxruntime")
    asked = []
    measure = clock_lib.measure

    def noting(subjects, inputs, settings):
        asked.append((len(subjects), *inputs))
        return measure(subjects, inputs, settings)

    monkeypatch.setattr(clock_lib, "measure", noting)
    rng = np.random.default_rng(0)
    calls = []
    for size, batch in ((8, 1), (900, 2), (900, 1)):
        weights, inputs = rng.normal(size=(size, size)), rng.normal(size=(batch, size))
        calls.append(Call(lambda w, x: jnp.tanh(x @ w), weights.astype("f4"), inputs.astype("f4")))
    calls.append(calls[0])
    found = clock_lib.of("onnxruntime", settings=QUICK)(calls)
    assert asked == [(2, 1), (1, 2), (1, 1)]
    assert 0 < found[0] < found[1]
    assert found[3] < found[2]


def test_the_search_asks_for_it_by_name():
    pytest.importorskip("onnxruntime")
    assert callable(clock("onnxruntime", threads=2))
    with pytest.raises(ValueError, match="no engine 'abacus'"):
        clock_lib.of("abacus")
