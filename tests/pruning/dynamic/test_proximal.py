"""Proximal steps against their closed forms, and straight-through masks against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pruning import dynamic, masks
from tests.pruning.dynamic.problem import drawn, equal


def lasso(strength):
    """min ½|w − c|² + λ|w|₁ by proximal gradient descent; its solution is known."""
    target = jnp.asarray([[3.0, -0.2, 0.5, -2.0, 0.30001]])
    params = {"kernel": jnp.zeros_like(target), "bias": jnp.ones(2)}
    optimizer = dynamic.proximal_l1(optax.sgd(0.5), strength)
    state = optimizer.init(params)
    for _ in range(40):
        gradient = {"kernel": params["kernel"] - target, "bias": jnp.zeros(2)}
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("strength", [0.15, lambda step: 0.15 + 0 * step])
def test_proximal_l1_solves_a_lasso(strength):
    params = lasso(strength)  # η λ = 0.5 × 0.3
    np.testing.assert_allclose(params["kernel"], [[2.7, 0, 0.2, -1.7, 0.00001]], atol=1e-5)
    np.testing.assert_array_equal(params["kernel"][0, 1], 0)
    np.testing.assert_array_equal(params["bias"], 1)
    equal(dynamic.nonzero(params), {"kernel": np.array([[True, False, True, True, True]])})


def test_proximal_l2_shrinks_and_cuts():
    params = {"kernel": jnp.asarray([[2.0, -0.33, 0.21, 1.0]])}
    optimizer = dynamic.proximal_l2(optax.sgd(1.0), 0.1, threshold=0.2)
    updates, state = optimizer.update(
        {"kernel": jnp.asarray([[0.0, 0.0, 0.0, -1.0]])}, optimizer.init(params), params, step=4
    )
    got = optax.apply_updates(params, updates)["kernel"]
    np.testing.assert_allclose(got, [[2 / 1.1, -0.3, 0, 2 / 1.1]], rtol=1e-6)
    assert got[0, 2] == 0
    assert state.step == 5


def test_bad_strengths_are_refused():
    for strength in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"strength .* must be finite"):
            dynamic.proximal_l1(optax.sgd(0.1), strength)
    with pytest.raises(ValueError, match="threshold -1 must be finite"):
        dynamic.proximal_l2(optax.sgd(0.1), 0.1, threshold=-1)
    with pytest.raises(ValueError, match="no leaf is prunable"):
        dynamic.proximal_l1(optax.sgd(0.1), 0.1).init({"bias": jnp.ones(2)})


def test_straight_through_is_masked_forward_and_dense_backward():
    params, _ = drawn(0, density=1.0)
    counts = {"a/kernel": 7, "b/kernel": 5}

    def loss(params):
        seen = dynamic.straight_through(params, counts)
        return sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves(seen)), seen

    gradient, seen = jax.jit(jax.grad(loss, has_aux=True))(params)
    for path, leaf in masks.flatten(params).items():
        order = np.argsort(-np.abs(leaf), axis=None, kind="stable")[: counts[path]]
        want = np.zeros(leaf.size, np.float32)
        want[order] = leaf.ravel()[order]
        np.testing.assert_array_equal(masks.flatten(seen)[path], want.reshape(leaf.shape))
        got = masks.flatten(gradient)[path]
        np.testing.assert_allclose(got, 3 * want.reshape(leaf.shape) ** 2, rtol=1e-6)
    ones = jax.grad(lambda p: jnp.sum(dynamic.straight_through(p, counts)["a"]["kernel"]))(params)
    np.testing.assert_array_equal(ones["a"]["kernel"], 1)
    np.testing.assert_array_equal(seen["a"]["bias"], params["a"]["bias"])
    with pytest.raises(ValueError, match=r"lack \['c'\]"):
        dynamic.straight_through(params, {"c": 1})
    key = jax.random.key(0)  # as NNX has it among a network's arrays
    assert dynamic.straight_through({**params, "dropout": key}, counts)["dropout"] is key
