"""OBS and Wanda against NumPy's float64: explicit inputs, constrained least squares."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from groundwork import trees
from pruning import grams, masks, rounds
from pruning.criteria import CRITERIA, Criterion, Evidence
from pruning.criteria.second_order import RIDGE, correct, obs
from tests.pruning.criteria import networks as tiny

K, M, P = 5, 3, 12


def explicit(inputs):
    """H of rows [P, K], in float64."""
    gram = inputs.astype(np.float64).T @ inputs.astype(np.float64)
    return gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))


def solved(hessian, weight, keep):
    """v that minimises (v − w)ᵀ H (v − w) and is zero but for what is kept, column by column."""
    new = np.zeros(weight.shape)
    root = np.linalg.cholesky(hessian).T  # ‖root (v − w)‖²
    for column in range(weight.shape[1]):
        at = keep[:, column]
        target = root @ weight[:, column].astype(np.float64)
        new[at, column] = np.linalg.lstsq(root[:, at], target, rcond=None)[0]
    return new


def error(hessian, change):
    return np.einsum("km,kl,lm->", change, hessian, change)


def dense(weight, keep, inputs):
    return Evidence(
        params={"fc": {"kernel": jnp.asarray(weight * keep)}},
        mask={"fc/kernel": jnp.asarray(keep)},
        apply=lambda params, inputs: inputs @ params["fc"]["kernel"],
        examples=inputs,
        batch_size=5,
    )


@functools.cache
def compiled():
    def both(weight, keep, inputs, after):
        seen = dense(weight, keep, inputs)
        new = correct(seen, {"fc/kernel": after})
        return obs(seen)["fc/kernel"], new["fc"]["kernel"]

    return jax.jit(both)


@settings(max_examples=20)
@given(st.integers(0, 2**16), st.floats(0.1, 1.0))
def test_corrected_weights_are_the_constrained_least_squares_solution(seed, share):
    rng = np.random.default_rng(seed)
    inputs = (rng.normal(size=(P, K)) @ rng.normal(size=(K, K))).astype("f4")
    keep = rng.random((K, M)) < share
    after = keep & (rng.random((K, M)) < 0.7)
    weight = (rng.normal(size=(K, M)) * keep).astype("f4")
    scores, new = compiled()(weight, keep, inputs, after)
    hessian = explicit(inputs)
    expected = solved(hessian, weight, after)
    scale = abs(weight).max(initial=0) + 1e-6
    np.testing.assert_allclose(new, expected, rtol=2e-3, atol=2e-3 * scale)
    assert not np.any(np.asarray(new)[~after])
    least = np.zeros((K, M))
    for k, m in np.argwhere(keep):
        without = keep.copy()
        without[k, m] = False
        least[k, m] = error(hessian, solved(hessian, weight, without) - weight)
    np.testing.assert_allclose(scores, least, rtol=2e-3, atol=1e-4 * (1 + least.max()))


class Net(nn.Module):
    """Convolutions with strides, padding, dilation and groups, and a dense layer called twice."""

    @nn.compact
    def __call__(self, images):
        hidden = nn.relu(nn.Conv(4, (3, 2), strides=(2, 1), padding="SAME", name="a")(images))
        grouped = nn.Conv(6, (2, 2), feature_group_count=2, kernel_dilation=2, name="b")
        hidden = nn.relu(grouped(hidden))
        shared = nn.Dense(6, name="c")
        return shared(nn.relu(shared(hidden.mean((1, 2)))))


def patches(images, layer, window, groups, padding, **how):
    """Rows of each group [G, P, K] with the entries of a window in the kernel's order."""
    rows = lax.conv_general_dilated_patches(
        images, window, padding=padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **how
    )
    rows = np.asarray(rows, np.float64).reshape(-1, groups, images.shape[-1] // groups, *window)
    return rows.transpose(1, 0, 3, 4, 2).reshape(groups, len(rows), -1)


@pytest.fixture(scope="module")
def network():
    """The evidence of a network, and layer → explicit rows [G, P, K]."""
    model, images = Net(), jax.random.normal(tiny.KEY, (6, 7, 5, 2))
    variables = model.init(tiny.KEY, images)

    def watched(images):
        _, seen = model.apply(variables, images, capture_intermediates=True)
        return seen["intermediates"]

    made = jax.jit(watched)(images)
    hidden, outer = (np.maximum(made[name]["__call__"][0], 0) for name in ("a", "b"))
    mean = outer.mean((1, 2))
    twice = np.concatenate([mean, np.maximum(made["c"]["__call__"][0], 0)])
    rows = {
        "a/kernel": patches(images, "a", (3, 2), 1, "SAME", window_strides=(2, 1)),
        "b/kernel": patches(
            hidden, "b", (2, 2), 2, "SAME", window_strides=(1, 1), rhs_dilation=(2, 2)
        ),
        "c/kernel": twice[None].astype(np.float64),
    }
    params = variables["params"]
    seen = Evidence(
        params=params,
        mask=masks.ones(params),
        apply=lambda params, images: model.apply({"params": params}, images),
        examples=images,
        batch_size=4,
    )
    return seen, rows


def matrices(kernel, groups):
    """[G, K, M] of a kernel [..., C / G, O]."""
    flat = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
    return np.stack(np.split(flat, groups, axis=1))


def test_any_layer_is_scored_and_corrected_by_what_it_is_given(network):
    seen, rows = network
    rng = np.random.default_rng(0)
    after = {p: jnp.asarray(rng.random(leaf.shape) < 0.6) for p, leaf in seen.mask.items()}
    found = jax.jit(lambda: (grams.grams(seen), CRITERIA["wanda"](seen), correct(seen, after)))()
    gram, wanda, new = found
    for path, x in rows.items():
        expected = np.einsum("gpk,gpl->gkl", x, x)
        np.testing.assert_allclose(gram[path], expected, rtol=1e-4, atol=1e-3)
        weight = matrices(seen.weights[path], len(x))
        norms = np.sqrt(np.square(x).sum(1))[..., None]
        scores = matrices(wanda[path], len(x))
        np.testing.assert_allclose(scores, abs(weight) * norms, rtol=1e-4)
        made = matrices(trees.flatten(new)[path], len(x))
        keep = matrices(after[path], len(x)) > 0
        for g, inputs in enumerate(x):
            exact = solved(explicit(inputs), weight[g], keep[g])
            np.testing.assert_allclose(made[g], exact, rtol=5e-3, atol=5e-3)
    np.testing.assert_array_equal(new["a"]["bias"], seen.params["a"]["bias"])


def test_rounds_score_the_corrected_weights():
    rng = np.random.default_rng(1)
    inputs = (rng.normal(size=(P, K)) @ rng.normal(size=(K, K))).astype("f4")
    weight, keep = rng.normal(size=(K, M)).astype("f4"), np.ones((K, M), bool)
    criterion = Criterion(score=obs, correct=correct, rounds=K * M - 4)  # one weight a round
    seen, paths = dense(weight, keep, inputs), {"fc": ("fc/kernel",)}
    hessian, left = explicit(inputs), keep.copy()
    counts = [round(15 * (4 / 15) ** (r / 11)) for r in range(12)]
    for before, after in itertools.pairwise(counts):
        now = solved(hessian, weight, left)
        least = np.full((K, M), np.inf)
        for k, m in np.argwhere(left):
            without = left.copy()
            without[k, m] = False
            least[k, m] = error(hessian, solved(hessian, now, without) - now)
        for flat in np.argsort(least, axis=None)[: before - after]:
            left.flat[flat] = False
    mask, _ = jax.jit(lambda: rounds.prune(criterion, seen, {"fc": 4}, paths))()
    np.testing.assert_array_equal(mask["fc/kernel"], left)


@pytest.mark.parametrize("name", ["wanda", "obs"])
def test_layers_whose_inputs_cannot_be_had_are_refused_with_the_reason(name):
    params = {"fc": {"kernel": jnp.ones((3, 3))}, "w": {"kernel": jnp.ones((3, 3))}}

    def scanned(params, inputs):
        body = lambda carry, _: (carry @ params["fc"]["kernel"], None)  # noqa: E731
        return lax.scan(body, inputs, None, length=2)[0]

    def added(params, inputs):
        return inputs @ (params["fc"]["kernel"] + params["w"]["kernel"])

    for apply, reason in ((scanned, "stands in a scan"), (added, "goes through add")):
        seen = Evidence(
            params=params,
            mask={"fc/kernel": jnp.ones((3, 3), bool)},
            apply=apply,
            examples=jnp.ones((2, 3)),
        )
        said = f"inputs of 'fc/kernel' cannot be had: it {reason}.*; leave it out of what"
        with pytest.raises(ValueError, match=said):
            CRITERIA[name](seen)


def test_parameters_beside_other_collections_are_found_at_their_own_paths():
    seen = Evidence(
        params={"params": {"fc": {"kernel": jnp.ones((3, 2))}}, "batch_stats": {}},
        mask={"params/fc/kernel": jnp.ones((3, 2), bool)},
        apply=lambda variables, inputs: inputs @ variables["params"]["fc"]["kernel"],
        examples=jnp.eye(3) * 2,
    )
    np.testing.assert_array_equal(CRITERIA["wanda"](seen)["params/fc/kernel"], np.full((3, 2), 2))
