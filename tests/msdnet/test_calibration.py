import functools
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from msdnet import calibration, work

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
    found = calibration.temperatures(logits[:, :2].astype(np.float32), labels)
    assert found.shape == (2,)
    for k in (0, 1):
        own = functools.partial(surprise, logits=logits[:, k], labels=labels)
        expected = scipy.optimize.minimize_scalar(
            own, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}
        )
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


def all_right_but(wrong, examples=300, margin=8.0):
    """An exit that is sure of its answers; `wrong` of them are wrong, by 1."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(examples, 1, 4))
    labels = rng.integers(0, 4, examples)
    logits[np.arange(examples), 0, labels] += margin + 4
    logits[np.arange(wrong), 0, (labels[:wrong] + 1) % 4] = logits[:wrong].max((1, 2)) + 1
    return logits, labels


def test_an_exit_that_is_all_right_keeps_its_confidences():
    found = calibration.fit(*all_right_but(0))
    assert found.temperatures.tolist() == [1]
    assert found.found.tolist() == [False]
    fitted = calibration.fit(*all_right_but(6))
    assert fitted.found.all()
    logits, labels = all_right_but(6)
    confidences = scipy.special.softmax(logits[:, 0] / fitted.temperatures, -1).max(-1)
    assert confidences.mean() == pytest.approx((labels == logits[:, 0].argmax(-1)).mean(), abs=0.02)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_exits_that_tell_no_temperature_keep_1_whatever_their_scale(scale):
    right, labels = all_right_but(0)
    guessed = np.random.default_rng(4).permutation(right)
    wrong = -right
    logits = scale * np.concatenate([right, wrong, guessed, np.zeros_like(right)], 1)
    with pytest.warns(UserWarning, match=r"^exits 0, 1, .*3: the validation split tells no"):
        found = calibration.temperatures(logits, labels)
    assert found[[0, 1, 3]].tolist() == [1, 1, 1]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_temperature_outside_the_bounds_is_not_taken(scale):
    logits, labels = all_right_but(6)
    assert calibration.fit(logits, labels).found.all()
    found = calibration.fit(scale * logits, labels)
    assert found.temperatures.tolist() == [1]
    assert not found.found.any()


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (np.zeros((5, 2)), np.zeros(5, int), "must be .N, exits, classes. and .N."),
        (np.zeros((5, 2, 3)), np.zeros(4, int), "must be .N, exits, classes. and .N."),
        (np.zeros((0, 2, 3)), np.zeros(0, int), "must be .N, exits, classes. and .N."),
        (np.full((5, 2, 3), np.nan), np.zeros(5, int), "30 of the logits are not finite"),
        (np.zeros((5, 2, 3)), np.zeros(5), "labels must be integers from 0 to 2"),
        (np.zeros((5, 2, 3)), np.full(5, 3), "labels must be integers from 0 to 2"),
        (np.zeros((5, 2, 3)), np.full(5, -1), "labels must be integers from 0 to 2"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(logits, labels, said):
    with pytest.raises(ValueError, match=said):
        calibration.fit(logits, labels)


def test_a_run_names_the_exits_that_keep_1(monkeypatch):
    """The outputs are made up, and nothing is trained: what a run does with them is its own."""
    (right, labels), (mixed, _) = all_right_but(0), all_right_but(9)
    logits = [np.stack([right[:, 0], mixed[:, 0]]), np.stack([mixed[:, 0], mixed[:, 0]])]
    monkeypatch.setattr(work.outputs, "make", lambda *given: lambda *split: (logits, labels))
    said = []
    context = SimpleNamespace(
        dataset=None, mesh=None, replicates=2, reporter=SimpleNamespace(say=said.append)
    )
    spec = SimpleNamespace(calibrate=True, confidence="softmax")
    answers, temperatures, found = work.answer(context, spec, SimpleNamespace(exits=2), None, None)
    work._say_unfound(context, "msdnet", found)
    assert (temperatures == 1).tolist() == [[True, False], [False, False]]
    assert answers["validation"]["confidences"][0, :, 0].max() < 1
    assert said == [f"warning: msdnet: exit 1 of replicate 0: {calibration.UNFOUND}"]


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
