"""Gradual pruning against Zhu & Gupta's formula, and magnitudes against a sort of numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pruning import densities, dynamic, masks
from tests.pruning.dynamic.problem import as_numpy, drawn, equal, gradients

BEGIN, END, EVERY = 2, 12, 4  # changes at 6, 10 and 12


def trained(optimizer, steps, first=0):
    """Masks after each step, as numpy, and the parameters."""
    params, _ = drawn(0, density=1.0)
    state, held, params_after, traces = optimizer.init(params), [], [], []

    @jax.jit
    def step(params, state, i):
        traces.append(i)
        updates, state = optimizer.update(gradients(params, i), state, params, step=i)
        return optax.apply_updates(params, updates), state

    for i in range(first, first + steps):
        params, state = step(params, state, jnp.int32(i))
        held.append(as_numpy(masks.mask_of(state)))
        params_after.append(as_numpy(params))
    assert len(traces) == 1
    return held, params_after


def test_counts_follow_the_cubic_curve_and_the_least_magnitudes_go():
    dense = drawn(0, density=1.0)[1]
    final = densities.counts(dense, densities.erdos_renyi_kernel(dense, 0.3))
    held, params = trained(
        dynamic.gradual(optax.sgd(0.1), dense, final, begin=BEGIN, end=END, every=EVERY), 15
    )
    for path, size in {"a/kernel": 20, "b/kernel": 12}.items():
        for step, mask in enumerate(held):
            last = max([t for t in (2, 6, 10, 12) if t <= step], default=2)
            share = (final[path] / size - 1) * (1 - (1 - (last - BEGIN) / (END - BEGIN)) ** 3)
            assert mask[path].sum() == round(size + share * size), (path, step)
        assert held[-1][path].sum() == final[path]
        for step in (6, 10, 12):
            old, new = held[step - 1][path], held[step][path]
            before = np.abs(masks.flatten(params[step - 1])[path])
            assert not np.any(new & ~old)
            assert before[new].min() >= before[old & ~new].max(initial=0)
            assert not np.any(masks.flatten(params[step])[path][~new])
    assert np.any(params[6]["a"]["bias"] != params[5]["a"]["bias"])  # the update follows a change


def test_groups_are_ranked_together_by_any_score():
    dense = drawn(0, density=1.0)[1]

    def by_index(params, mask):
        return {
            path: jnp.arange(leaf.size, dtype=float).reshape(leaf.shape)
            for path, leaf in mask.items()
        }

    paths = {"all": tuple(sorted(dense))}
    optimizer = dynamic.gradual(
        optax.adam(0.1), dense, {"all": 9}, begin=0, end=1, paths=paths, score=by_index
    )
    mask = trained(optimizer, 2)[0][-1]
    # of 0 … 19 and 0 … 11: 12 … 19 of the first, and among both 11s that of the first
    assert np.flatnonzero(mask["a/kernel"]).tolist() == list(range(11, 20))
    assert not mask["b/kernel"].any()


def test_a_state_that_begins_behind_the_end_is_pruned_at_once():
    dense = drawn(0, density=1.0)[1]
    optimizer = dynamic.gradual(optax.sgd(0.1), dense, 0.25, begin=BEGIN, end=END)
    mask = trained(optimizer, 1, first=40)[0][0]
    assert {path: leaf.sum() for path, leaf in mask.items()} == {"a/kernel": 5, "b/kernel": 3}


def test_static_is_enforced():
    params, mask = drawn(1)
    optimizer = dynamic.static(optax.sgd(0.1), mask)
    updates, state = optimizer.update(gradients(params, 0), optimizer.init(params), params)
    equal(masks.mask_of(state), mask)
    equal(masks.apply(mask, updates), updates)


def test_bad_settings_are_refused():
    params, mask = drawn(0)
    sgd = optax.sgd(0.1)
    for steps in (
        {"begin": 3, "end": 3},
        {"begin": -1, "end": 3},
        {"begin": 0, "end": 3, "every": 0},
    ):
        with pytest.raises(ValueError, match="0 ≤ begin < end and every ≥ 1"):
            dynamic.gradual(sgd, mask, 0.5, **steps)
    with pytest.raises(ValueError, match=r"density 1\.5 is outside"):
        dynamic.gradual(sgd, mask, 1.5, begin=0, end=1)
    for final, message in (
        ({"a/kernel": 1}, "differ in"),
        ({"a/kernel": 1, "b/kernel": 13}, "keep 13"),
    ):
        optimizer = dynamic.gradual(sgd, mask, final, begin=0, end=1)
        with pytest.raises(ValueError, match=message):
            optimizer.update(params, optimizer.init(params), params)
