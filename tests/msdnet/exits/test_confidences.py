import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from groundwork.errors import UserError
from msdnet import exits

RNG = np.random.default_rng(0)

LOGITS = {
    "usual": RNG.normal(size=(4, 3, 7)),
    "two classes": RNG.normal(size=(5, 2)),
    "sure": np.array([[1000.0, 0, 0], [0, -1000, 500]]),
    "equal": np.zeros((2, 37)),
    "one example": RNG.normal(size=11),
}


def by_scipy(logits, kind):
    p = scipy.special.softmax(logits, -1)
    if kind == "entropy":
        return 1 - scipy.special.entr(p).sum(-1) / math.log(logits.shape[-1])
    ordered = np.sort(p, -1)
    return ordered[..., -1] - (ordered[..., -2] if kind == "margin" else 0)


@pytest.mark.parametrize("case", LOGITS)
@pytest.mark.parametrize("kind", exits.CONFIDENCES)
def test_confidences_are_scipy_s_and_in_0_1(kind, case):
    logits = LOGITS[case]
    found = exits.confidence(jnp.asarray(logits, jnp.float32), kind)
    assert (found.shape, found.dtype) == (logits.shape[:-1], jnp.float32)
    np.testing.assert_allclose(found, by_scipy(logits, kind), atol=2e-6)
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_the_softmax_confidence_is_the_default():
    logits = jnp.asarray(LOGITS["usual"], jnp.float32)
    np.testing.assert_array_equal(exits.confidence(logits), exits.confidence(logits, "softmax"))


@pytest.mark.parametrize("kind", exits.CONFIDENCES)
def test_the_least_confident_is_0_in_entropy_and_margin_and_chance_in_softmax(kind):
    for classes in (2, 12, 25):
        found = float(exits.confidence(jnp.zeros(classes), kind))
        expected = 1 / classes if kind == "softmax" else 0
        assert found >= 0
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", exits.CONFIDENCES)
def test_confidences_of_bfloat16_logits_are_float32(kind):
    logits = jnp.asarray(LOGITS["usual"], jnp.bfloat16)
    found = exits.confidence(logits, kind)
    assert found.dtype == jnp.float32
    expected = exits.confidence(logits.astype(jnp.float32), kind)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", exits.CONFIDENCES)
def test_of_one_class_alone_a_network_is_sure(kind):
    np.testing.assert_array_equal(exits.confidence(jnp.full((2, 1), 3.0), kind), [1, 1])


def test_unknown_confidences_are_refused():
    with pytest.raises(UserError, match=r"unknown exits\.confidence 'softmx'; did you mean"):
        exits.confidence(jnp.zeros(3), "softmx")
