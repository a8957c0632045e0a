"""SynFlow: conservation, its rounds against a loop, and sums that float32 cannot hold."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pruning import masks, rounds, select
from pruning.criteria import CRITERIA, Criterion, Evidence
from pruning.criteria.flow import synflow
from tests.pruning.criteria import networks as tiny


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, images):
        hidden = nn.Conv(4, (3, 3), strides=2)(images)
        hidden = nn.BatchNorm(use_running_average=True)(hidden)
        hidden = nn.relu(nn.Conv(4, (3, 3))(nn.relu(hidden)))
        return nn.Dense(3)(nn.avg_pool(hidden, (2, 2)).reshape(len(images), -1))


def chain(depth, scale=1.0):
    """Layers of 8 units with ReLU and no bias: the evidence, and the kernels."""
    rng = np.random.default_rng(0)
    kernels = [scale * rng.normal(size=(8, 8)).astype("f4") for _ in range(depth)]
    params = {f"{n:03}": {"kernel": jnp.asarray(kernel)} for n, kernel in enumerate(kernels)}

    def apply(params, inputs):
        for name in sorted(params):
            inputs = jax.nn.relu(inputs @ params[name]["kernel"])
        return inputs

    mask = masks.ones(params)
    examples = np.zeros((5, 8), np.float32)
    return Evidence(params=params, mask=mask, apply=apply, examples=examples), kernels


def flows(kernels):
    """R and the scores of each layer, in NumPy's float64."""
    absolute = [abs(kernel.astype(np.float64)) for kernel in kernels]
    forward, backward = [np.ones(8)], [np.ones(8)]
    for kernel in absolute:
        forward.append(forward[-1] @ kernel)
    for kernel in reversed(absolute):
        backward.append(kernel @ backward[-1])
    backward.reverse()
    scores = [np.outer(forward[n], backward[n + 1]) * k for n, k in enumerate(absolute)]
    return forward[-1].sum(), scores


def test_scores_add_up_to_the_same_in_each_layer_of_a_network_at_step_0():
    model, images = Convolutions(), jax.random.normal(tiny.KEY, (3, 8, 8, 2))
    variables = model.init(tiny.KEY, images)
    params = variables["params"]
    seen = Evidence(
        params=params,
        mask=masks.ones(params),
        examples=images,
        apply=lambda params, images: model.apply({**variables, "params": params}, images),
    )
    scores = jax.jit(lambda: synflow(seen))()
    assert len(scores) == 3
    for score in scores.values():
        np.testing.assert_allclose(np.asarray(score, np.float64).sum(), 1, rtol=1e-4)
        assert np.all(score >= 0)


@pytest.mark.parametrize("scale", [1.0, 40.0, 1e-3])
def test_deep_sums_beyond_float32_keep_their_scores(scale):
    seen, kernels = chain(25, scale)
    total, expected = flows(kernels)
    assert scale != 40 or total > np.finfo(np.float32).max
    assert scale != 1e-3 or total < np.finfo(np.float32).tiny
    scores = jax.jit(lambda: synflow(seen))()
    for score, exact in zip(scores.values(), expected, strict=True):
        np.testing.assert_allclose(score, exact / total, rtol=1e-3)


def test_what_overflows_all_the_same_is_refused():
    seen, _ = chain(25, 1e6)
    paths = {"all": tuple(seen.mask)}
    one_round = Criterion(score=synflow)
    _, missing = jax.jit(lambda: rounds.prune(one_round, seen, {"all": 9}, paths))()
    with pytest.raises(ValueError, match="1600 scores are no numbers"):
        rounds.check(missing)


def test_rounds_are_those_of_a_loop_with_densities_that_fall_by_one_factor():
    seen, kernels = chain(3)
    paths = {"a": ("000/kernel", "001/kernel"), "b": ("002/kernel",)}
    counts, number = {"a": 11, "b": 20}, 3
    mask = {path: np.ones((8, 8), bool) for path in seen.mask}
    before = {"a": 128, "b": 64}
    for r in range(1, number + 1):
        kept = [k * np.asarray(mask[p]) for k, p in zip(kernels, sorted(mask), strict=True)]
        scores = dict(zip(sorted(mask), map(np.float32, flows(kept)[1]), strict=True))
        left = {g: round(before[g] * (counts[g] / before[g]) ** (r / number)) for g in paths}
        mask = select.prune_to(mask, scores, left, paths)
    criterion = Criterion(score=synflow, rounds=number)
    found, missing = jax.jit(lambda: rounds.prune(criterion, seen, counts, paths))()
    assert int(missing) == 0
    for path in mask:
        np.testing.assert_array_equal(found[path], mask[path])
    once = select.prune_to(seen.mask, synflow(seen), counts, paths)
    assert any(np.any(once[path] != mask[path]) for path in mask)
    assert CRITERIA["synflow"].rounds == 100


def test_biases_count_by_their_absolute_values():
    def apply(params, inputs):
        return jax.nn.relu(inputs @ params["fc"]["kernel"] + params["fc"]["bias"][None])

    params = {"fc": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([-9.0, 9.0])}}
    seen = Evidence(params=params, mask=masks.ones(params), apply=apply, examples=jnp.zeros((1, 1)))
    np.testing.assert_allclose(synflow(seen)["fc/kernel"], [[1 / 21, 2 / 21]], rtol=1e-6)
