"""Criteria of weights and of their changes, against NumPy."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pruning import enforce, masks
from pruning.criteria import CRITERIA, Evidence
from pruning.dynamic import movement

FINAL = np.array([[3.0, -1.0, 0.5], [-2.0, 0.0, 1.0]], np.float32)
INITIAL = np.array([[1.0, -2.0, -0.5], [2.0, 0.0, 0.5]], np.float32)


def score(name, **changed):
    params = {"fc": {"kernel": FINAL, "bias": np.zeros(3, np.float32)}}
    given = {"params": params, "mask": masks.ones(params), "initial": {"fc": {"kernel": INITIAL}}}
    return np.asarray(CRITERIA[name](Evidence(**{**given, **changed}))["fc/kernel"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l1", [[3, 1, 0.5], [2, 0, 1]]),
        ("l2", [[9, 1, 0.25], [4, 0, 1]]),
        ("magnitude_increase", [[2, -1, 0], [0, 0, 0.5]]),
        ("magnitude_increase_same_sign", [[2, 0, 0], [0, 0, 0.5]]),
        ("large_final_same_sign", [[3, 1, 0], [0, 0, 1]]),
        ("distance", [[2, 1, 1], [4, 0, 0.5]]),
    ],
)
def test_scores_by_hand(name, expected):
    np.testing.assert_array_equal(score(name), np.float32(expected))


def test_lamp_is_the_share_of_the_weights_that_are_as_large_or_more():
    squares = np.square(FINAL)
    mask = {"fc/kernel": np.array([[True, True, True], [False, True, True]])}
    found = score("lamp", mask=mask)
    kept = np.where(mask["fc/kernel"], squares, 0)
    order = np.argsort(-kept.ravel(), kind="stable")
    expected = np.zeros(6)
    expected[order] = kept.ravel()[order] / np.cumsum(kept.ravel()[order])
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)
    assert found[0, 0] == 1  # the largest of each array


def test_movement_sums_minus_gradient_times_weight_over_all_steps():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2, 3)).astype("f4")
    params = {"fc": {"kernel": jnp.asarray(start), "bias": jnp.zeros(3)}}
    mask = {"fc/kernel": jnp.asarray(rng.random((2, 3)) < 0.7)}
    optimizer = enforce.enforce(movement.accumulate(optax.sgd(0.1, momentum=0.9)), mask)
    plain = enforce.enforce(optax.sgd(0.1, momentum=0.9), mask)
    params = masks.apply(mask, params)
    state, other = optimizer.init(params), plain.init(params)
    total = np.zeros((2, 3))
    for _ in range(3):
        gradient = rng.normal(size=(2, 3)).astype("f4")
        kept = np.asarray(mask["fc/kernel"])
        total -= np.where(kept, gradient, 0) * np.asarray(params["fc"]["kernel"], np.float64)
        gradients = {"fc": {"kernel": jnp.asarray(gradient), "bias": jnp.ones(3)}}
        updates, state = optimizer.update(gradients, state, params)
        expected, other = plain.update(gradients, other, params)
        np.testing.assert_array_equal(updates["fc"]["kernel"], expected["fc"]["kernel"])
        params = optax.apply_updates(params, updates)
    found = movement.sums(state)
    assert list(found) == ["fc/kernel"]
    np.testing.assert_allclose(found["fc/kernel"], total, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(score("movement", movement=found), found["fc/kernel"])
    fewer = masks.replace(state, {"fc/kernel": jnp.zeros((2, 3), bool)})
    assert not np.any(movement.sums(fewer)["fc/kernel"])


def test_movement_says_what_it_lacks():
    with pytest.raises(ValueError, match="has no movement: wrap the optimiser by accumulate"):
        movement.sums(optax.sgd(0.1).init({}))
    optimizer = movement.accumulate(optax.sgd(0.1))
    state = optimizer.init({"kernel": jnp.ones(2)})
    with pytest.raises(ValueError, match="movement needs the parameters"):
        optimizer.update({"kernel": jnp.ones(2)}, state)
