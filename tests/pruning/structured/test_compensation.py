"""Least squares against numpy's own, for a dense layer and for a convolution's patches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pruning import structured
from pruning.structured import compensation
from tests.pruning.structured.zoo import Net, drawn, images


class Dense(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="head")(nn.relu(nn.Dense(6, name="hidden")(x)))


class Convs(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name="one")(x))
        return nn.Conv(2, (3, 3), (2, 2), padding="VALID", name="two")(x)


def made(model, x):
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), x))
    return variables, structured.groups(model, variables, x)


@pytest.fixture(params=["at once", "in parts"])
def parts(request, monkeypatch):
    """How many examples are looked at at once: all, or seven and then what is left."""
    if request.param == "in parts":
        monkeypatch.setattr(compensation, "AT_ONCE", 7 * 8 * 8 * 2)


@pytest.mark.usefixtures("parts")
def test_a_dense_layer_is_nearest_to_the_whole_one():
    model = Dense()
    x = np.random.default_rng(0).normal(size=(50, 4)).astype("f4")
    variables, graph = made(model, x)
    keep = {"hidden": np.arange(6) % 2 == 0}
    solved, missed = structured.least_squares(graph, variables, keep, x, ridge=0)
    hidden = variables["params"]["hidden"]
    values = np.maximum(x @ np.asarray(hidden["kernel"]) + np.asarray(hidden["bias"]), 0).astype(
        float
    )
    head = np.asarray(variables["params"]["head"]["kernel"], float)
    expected = np.linalg.lstsq(values[:, ::2], values @ head, rcond=None)[0]
    np.testing.assert_allclose(solved["params"]["head"]["kernel"][::2], expected, rtol=1e-3)
    assert not np.any(solved["params"]["head"]["kernel"][1::2])
    assert not np.any(solved["params"]["hidden"]["kernel"][:, 1::2])
    assert missed == {}


@pytest.mark.usefixtures("parts")
def test_a_convolution_is_nearest_on_its_patches():
    model = Convs()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, 8, 8, 2)), jnp.float32)
    variables, graph = made(model, x)
    keep = {"one": np.array([True, False, True, True])}
    solved, _ = structured.least_squares(graph, variables, keep, x, ridge=0)
    one = nn.relu(nn.Conv(4, (3, 3)).apply({"params": variables["params"]["one"]}, x))
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(one, float), (3, 3), (1, 2))
    rows = windows[:, ::2, ::2].transpose(0, 1, 2, 4, 5, 3).reshape(-1, 9, 4)
    kernel = np.asarray(variables["params"]["two"]["kernel"], float).reshape(9, 4, 2)
    left = rows[..., keep["one"]].reshape(len(rows), -1)
    wanted = rows.reshape(len(rows), -1) @ kernel.reshape(-1, 2)
    expected = np.linalg.lstsq(left, wanted, rcond=None)[0].reshape(3, 3, 3, 2)
    found = solved["params"]["two"]["kernel"][:, :, keep["one"]]
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)


def test_a_kernel_that_is_used_twice_is_nearest_in_both_calls():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype("f4")
    variables = {"in": rng.normal(size=(4, 6)), "other": rng.normal(size=(4, 6))}
    variables |= {"out": rng.normal(size=(6, 2))}

    def apply(variables, x):
        made = [jnp.maximum(x @ variables[name], 0) for name in ("in", "other")]
        made[1] = made[1] * 5
        return jnp.concatenate([hidden @ variables["out"] for hidden in made], -1)

    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables)
    graph = structured.groups(apply, variables, x)
    (group,) = graph.groups
    keep = {group.name: np.arange(6) % 2 == 0}
    solved, _ = structured.least_squares(graph, variables, keep, x, ridge=0)
    one, other = (np.maximum(x @ np.asarray(variables[name]), 0) for name in ("in", "other"))
    rows = np.concatenate([one, 5 * other]).astype(float)
    wanted = rows @ np.asarray(variables["out"], float)
    expected = np.linalg.lstsq(rows[:, ::2], wanted, rcond=None)[0]
    np.testing.assert_allclose(solved["out"][::2], expected, rtol=1e-3, atol=1e-4)


def test_a_batch_of_one_example_hides_no_layer():
    model = Dense()
    x = np.random.default_rng(0).normal(size=(50, 4)).astype("f4")
    variables, whole = made(model, x)
    graph = structured.groups(model, variables, x[:1])
    assert graph.summed == whole.summed
    keep = {"hidden": np.arange(6) % 2 == 0}
    solved, missed = structured.least_squares(graph, variables, keep, x)
    assert missed == {}
    kept = np.asarray(variables["params"]["head"]["kernel"])[::2]
    assert not np.allclose(solved["params"]["head"]["kernel"][::2], kept)


@pytest.mark.parametrize("kind", ["grouped", "scanned", "transposed"])
def test_what_cannot_be_compensated_is_named(kind):
    model, x = Net(kind), images()
    variables, graph = made(model, x)
    keep = {"stem": np.arange(graph.groups[0].units) % 2 == 0}
    solved, missed = structured.least_squares(graph, variables, keep, x)
    assert missed
    assert all(path.startswith("params/") and why for path, why in missed.items())
    same = structured.mask(graph, variables, keep)
    for path in missed:
        leaves = [solved, same]
        for part in path.split("/"):
            leaves = [leaf[part] for leaf in leaves]
        np.testing.assert_array_equal(*leaves)
