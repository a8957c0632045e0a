import functools

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from msdnet import calibration

RNG = np.random.default_rng(0)


def surprise(temperature, logits, labels):
    log_p = scipy.special.log_softmax(logits / temperature, -1)
    return -np.mean(log_p[np.arange(len(labels)), labels])


def drawn(count=3, classes=4, examples=200):
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(examples, count, classes)) * np.array([0.5, 2, 10])[:, None]
    labels = np.argmax(logits[:, 1] + rng.gumbel(size=(examples, classes)), -1)
    return logits, labels


def test_temperatures_minimise_the_mean_cross_entropy():
    logits, labels = drawn()
    found = calibration.temperatures(logits.astype(np.float32), labels)
    assert found.shape == (3,)
    for k in (1, 2):
        own = functools.partial(surprise, logits=logits[:, k], labels=labels)
        expected = scipy.optimize.minimize_scalar(
            own, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-9}
        )
        if expected.x < 99:
            assert found[k] == pytest.approx(expected.x, rel=1e-4)
        assert own(found[k]) <= expected.fun + 1e-9
    assert found[1] == pytest.approx(1, abs=0.3)  # labels were drawn from these logits


def test_temperatures_of_shifted_and_scaled_logits():
    logits, labels = drawn()
    base = calibration.temperatures(logits[:, 1:2], labels)
    np.testing.assert_allclose(
        calibration.temperatures(logits[:, 1:2] + 1e4, labels), base, rtol=1e-6
    )
    np.testing.assert_allclose(
        calibration.temperatures(3 * logits[:, 1:2], labels), 3 * base, rtol=1e-6
    )


def test_temperatures_stay_between_a_hundredth_and_a_hundred():
    logits = np.eye(3)[:, None] * np.array([1.0, -1.0])[:, None]  # right each time; wrong each time
    np.testing.assert_allclose(
        calibration.temperatures(logits, np.arange(3)), [0.01, 100], rtol=1e-6
    )


def test_reliability_by_hand():
    """Five bins: 0.1 and 0.15; 0.5; 0.95, 0.99 and 1."""
    found = calibration.reliability(
        np.array([0.1, 0.15, 0.5, 0.95, 0.99, 1.0]),
        np.array([False, True, True, True, False, True]),
        bins=5,
    )
    assert found.examples.tolist() == [2, 0, 1, 0, 3]
    np.testing.assert_allclose(found.confidence, [0.125, np.nan, 0.5, np.nan, 0.98])
    np.testing.assert_allclose(found.accuracy, [0.5, np.nan, 1, np.nan, 2 / 3])
    gaps = [2 * (0.5 - 0.125), 1 * (1 - 0.5), 3 * (0.98 - 2 / 3)]
    assert found.error == pytest.approx(sum(gaps) / 6)


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=50),
    st.integers(1, 20),
)
def test_every_example_is_in_a_bin_and_the_error_is_a_mean_of_gaps(pairs, bins):
    confidences, correct = (np.array(column) for column in zip(*pairs, strict=True))
    found = calibration.reliability(confidences, correct, bins)
    assert found.examples.sum() == len(pairs)
    seen = found.examples > 0
    np.testing.assert_array_equal(np.isnan(found.confidence), ~seen)
    gaps = np.abs(found.confidence - found.accuracy)[seen]
    assert found.error == pytest.approx(np.average(gaps, weights=found.examples[seen]))
    edges = np.arange(bins) / bins
    assert (found.confidence[seen] >= edges[seen] - 1e-6).all()
    assert (found.confidence[seen] <= edges[seen] + 1 / bins + 1e-6).all()


def test_a_perfectly_calibrated_exit_has_no_error():
    found = calibration.reliability(np.full(4, 0.75), np.array([True, True, True, False]))
    assert found.error == 0
