"""Scores against plain numpy, on two dense layers and on a small convolution with BatchNorm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pruning import structured
from tests.pruning.structured.zoo import drawn, quickly


class Dense(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="head")(nn.relu(nn.Dense(5, name="hidden")(x)))


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), use_bias=False, name="conv")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        return nn.Dense(2, name="head")(x.mean((1, 2)))


X = np.random.default_rng(0).normal(size=(7, 4)).astype("f4")


@pytest.fixture(scope="module")
def dense():
    model = Dense()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), X))
    return model, variables, structured.groups(model, variables, X)


def parts(variables):
    hidden, head = variables["params"]["hidden"], variables["params"]["head"]
    return tuple(np.asarray(a, float) for a in (hidden["kernel"], hidden["bias"], head["kernel"]))


def test_norms(dense):
    _, variables, graph = dense
    kernel, bias, after = parts(variables)
    l1 = structured.scores(graph, variables, "l1")["hidden"]
    np.testing.assert_allclose(l1, abs(kernel).sum(0) + abs(bias) + abs(after).sum(1), rtol=1e-6)
    l2 = structured.scores(graph, variables, "l2")["hidden"]
    squares = (kernel**2).sum(0) + bias**2 + (after**2).sum(1)
    np.testing.assert_allclose(l2, np.sqrt(squares), rtol=1e-6)
    first = structured.scores(graph, variables, "l1", members="first")["hidden"]
    np.testing.assert_allclose(first, abs(kernel).sum(0), rtol=1e-6)
    product = structured.scores(graph, variables, "product")["hidden"]
    norms = [np.linalg.norm(kernel, axis=0), np.linalg.norm(after, axis=1)]
    np.testing.assert_allclose(product, norms[0] * norms[1], rtol=1e-6)
    lamp = structured.scores(graph, variables, "lamp")["hidden"]
    expected = [s / squares[squares >= s].sum() for s in squares]
    np.testing.assert_allclose(lamp, expected, rtol=1e-5)


@pytest.mark.parametrize("criterion", ["l1", "l2", "lamp"])
def test_many_entries_of_half_floats_are_summed_in_full(criterion):
    """A sum of bfloat16 stops at 256, however many ones follow."""
    kernel = np.ones((300, 3), jnp.bfloat16)
    kernel[:, 1], kernel[:, 2] = 1.25, 1.5
    variables = {"hidden": kernel, "head": np.zeros((3, 2), jnp.bfloat16)}
    graph = structured.groups(
        lambda v, x: x @ v["hidden"] @ v["head"], variables, jnp.zeros((2, 300), jnp.bfloat16)
    )
    ((_, found),) = structured.scores(graph, variables, criterion).items()
    assert found.dtype == np.float64
    l1 = 300 * np.array([1, 1.25, 1.5])
    squares = 300 * np.array([1, 1.5625, 2.25])
    lamp = squares / np.cumsum(squares[::-1])[::-1]
    wanted = {"l1": l1, "l2": np.sqrt(squares), "lamp": lamp}
    np.testing.assert_allclose(found, wanted[criterion], rtol=1e-12)


def test_what_is_no_parameter_counts_for_nothing():
    """Statistics and the like, of whatever collection, are cut with a unit, but not judged."""
    variables = {
        "params": {"in": jnp.ones((3, 4)), "out": jnp.ones((4, 2))},
        "cache": {"seen": jnp.arange(4.0)},
    }

    def apply(v, x):
        return (x @ v["params"]["in"] + v["cache"]["seen"][None]) @ v["params"]["out"]

    graph = structured.groups(apply, variables, jnp.ones((2, 3)))
    (found,) = structured.scores(graph, variables, "l1").values()
    np.testing.assert_array_equal(found, [5, 5, 5, 5])
    assert structured.penalty(graph, variables, "units") == pytest.approx(4 * 5**0.5)


def test_the_geometric_median_is_the_sum_of_distances(dense):
    _, variables, graph = dense
    kernel, *_ = parts(variables)
    found = structured.scores(graph, variables, "geometric_median", members="first")["hidden"]
    expected = [sum(np.linalg.norm(one - other) for other in kernel.T) for one in kernel.T]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_taylor_is_what_the_loss_loses_to_first_order(dense):
    """By finite differences: all entries of a unit shrink by a small share."""
    model, variables, graph = dense

    def loss(variables):
        return jnp.mean(jnp.square(model.apply(variables, X)))

    found = structured.scores(graph, variables, "taylor", loss=loss)["hidden"]
    share, compiled = 1e-2, quickly(loss)
    for unit in range(5):
        keep = {"hidden": np.arange(5) != unit}
        without = structured.mask(graph, variables, keep)
        ends = [
            float(compiled(jax.tree.map(lambda a, b, s=s: a + s * (b - a), variables, without)))
            for s in (share, -share)
        ]
        np.testing.assert_allclose(found[unit], abs(ends[0] - ends[1]) / (2 * share), rtol=2e-2)


def test_what_units_compute(dense):
    _, variables, graph = dense
    kernel, bias, _ = parts(variables)
    values = np.maximum(X @ kernel + bias, 0)
    apoz = structured.scores(graph, variables, "apoz", inputs=X)["hidden"]
    np.testing.assert_allclose(apoz, (values > 0).mean(0))
    mean = structured.scores(graph, variables, "activation", inputs=X)["hidden"]
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-5)
    alike = structured.scores(graph, variables, "correlation", inputs=X)["hidden"]
    matrix = abs(np.corrcoef(values.T))
    expected = [1.0, *(1 - matrix[n, :n].max() for n in range(1, 5))]
    np.testing.assert_allclose(alike, expected, atol=1e-5)


def test_slimming_looks_at_the_scales_of_the_normalisation():
    model, x = Normalised(), np.ones((2, 6, 6, 3), "f4")
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), x))
    graph = structured.groups(model, variables, x)
    found = structured.scores(graph, variables, "scale")
    np.testing.assert_allclose(found["conv"], abs(variables["params"]["norm"]["scale"]))


def test_random_scores_depend_on_the_seed_alone(dense):
    _, variables, graph = dense
    one, same, other = (
        structured.scores(graph, variables, "random", seed=seed)["hidden"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        ("l3", "unknown criterion 'l3'"),
        ("taylor", "criterion taylor looks at gradients: give it a loss"),
        ("apoz", "looks at what units compute: give it inputs"),
        ("scale", "no normalisation scales the units of hidden"),
    ],
)
def test_what_a_criterion_lacks_is_said(dense, criterion, said):
    _, variables, graph = dense
    with pytest.raises(ValueError, match=said):
        structured.scores(graph, variables, criterion)
