"""A unit that is a multiple of another loses nothing; others hand over what least squares says."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import trees
from pruning import structured
from tests.pruning.structured.zoo import Net, drawn, images, quickly


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (2, 2), name="conv")(x))
        return nn.Dense(2, name="head")(x.reshape(len(x), -1))


def test_a_unit_that_is_a_multiple_of_its_partner_loses_nothing():
    model, x = Flat(), images()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), x))
    conv = variables["params"]["conv"]
    conv["kernel"] = conv["kernel"].at[..., 2].set(3 * conv["kernel"][..., 0])
    conv["bias"] = conv["bias"].at[2].set(3 * conv["bias"][0])
    graph = structured.groups(model, variables, x)
    keep = {"conv": np.array([True, True, False])}
    merged, missed = structured.merge(graph, variables, keep, x)
    assert missed == {}
    network, small = structured.narrow(graph, merged, keep)
    got, expected, lost = quickly(
        lambda small, whole, masked: (
            network.apply(small, x),
            model.apply(whole, x),
            model.apply(masked, x),
        )
    )(small, variables, structured.mask(graph, variables, keep))
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert np.abs(lost - expected).max() > 0.1
    assert not np.any(merged["params"]["conv"]["kernel"][..., 2])


def test_a_unit_that_is_always_zero_hands_over_nothing_and_breaks_nothing():
    model, x = Flat(), images()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), x))
    conv = variables["params"]["conv"]
    conv["kernel"] = conv["kernel"].at[..., 1:].set(0)
    conv["bias"] = conv["bias"].at[1:].set(-1)
    graph = structured.groups(model, variables, x)
    keep = {"conv": np.array([True, True, False])}
    merged, _ = structured.merge(graph, variables, keep, x)
    same = structured.mask(graph, variables, keep)
    np.testing.assert_array_equal(
        merged["params"]["head"]["kernel"], same["params"]["head"]["kernel"]
    )


def test_the_partner_is_the_most_alike_and_the_factor_is_of_least_squares():
    class Dense(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="head")(jnp.tanh(nn.Dense(4, name="hidden")(x)))

    x = jnp.asarray(np.random.default_rng(0).normal(size=(30, 5)), jnp.float32)
    variables = drawn(jax.eval_shape(Dense().init, jax.random.key(0), x))
    graph = structured.groups(Dense(), variables, x)
    kept = np.array([True, False, True, True])
    merged, _ = structured.merge(graph, variables, {"hidden": kept}, x)
    hidden, head = variables["params"]["hidden"], np.asarray(variables["params"]["head"]["kernel"])
    values = np.tanh(np.asarray(x) @ np.asarray(hidden["kernel"]) + np.asarray(hidden["bias"]))
    cosines = [values[:, 1] @ v / np.linalg.norm(v) for v in values.T]
    partner = max((0, 2, 3), key=lambda n: abs(cosines[n]))
    (factor,), *_ = np.linalg.lstsq(values[:, [partner]], values[:, 1], rcond=None)
    expected = head * kept[:, None]
    expected[partner] += factor * head[1]
    np.testing.assert_allclose(merged["params"]["head"]["kernel"], expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["scanned", "transposed"])
def test_what_cannot_be_merged_is_named_and_stays(kind):
    model, x = Net(kind), images()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), x))
    graph = structured.groups(model, variables, x)
    keep = {g.name: np.arange(g.units) % 2 == 0 for g in graph.groups}
    merged, missed = structured.merge(graph, variables, keep, x)
    assert missed
    flat, same = (trees.flatten(t) for t in (merged, structured.mask(graph, variables, keep)))
    for path, why in missed.items():
        assert why.startswith("no layer whose inputs can be had")
        np.testing.assert_array_equal(flat[path], same[path])
