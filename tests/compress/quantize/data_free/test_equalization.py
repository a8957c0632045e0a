"""Ranges of neighbouring layers, and outputs that stay; against numpy and by hand."""

import itertools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.quantize.data_free import correct, equalize, fold
from tests.compress.quantize.data_free import networks
from tests.compress.quantize.data_free.networks import Net, drawn, images


def close(model, variables, new):
    wanted = np.asarray(model(variables, images()))
    np.testing.assert_allclose(model(new, images()), wanted, atol=1e-5 * np.abs(wanted).max())


def test_two_dense_layers_get_the_ranges_of_the_paper():
    def two(variables, x):
        x = jnp.maximum(x.reshape(len(x), -1) @ variables["a"] + variables["b"][None], 0)
        return x @ variables["c"]

    rng = np.random.default_rng(0)
    shapes = {"a": (48, 5), "b": (5,), "c": (5, 3)}
    variables = {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    variables["a"][:, 1], variables["c"][2] = 0, 0  # as pruned channels are
    new, pairs, left = equalize(two, variables, images())
    assert (pairs, left) == ({"a": ("c",)}, {"c": "the network returns it"})
    one, other = np.abs(variables["a"]).max(0), np.abs(variables["c"]).max(1)
    alive = (one > 0) & (other > 0)
    s = np.where(alive, np.sqrt(one / np.where(alive, other, 1)), 1)  # equation 11
    np.testing.assert_allclose(new["a"], variables["a"] / s, rtol=1e-5)
    np.testing.assert_allclose(new["b"], variables["b"] / s, rtol=1e-5)
    np.testing.assert_allclose(new["c"], variables["c"] * s[:, None], rtol=1e-5)
    close(two, variables, new)


@pytest.fixture(scope="module")
def folded():
    return fold(Net(), drawn(Net()), images()).variables


def test_depthwise_layers_stand_on_both_sides(folded):
    new, pairs, left = equalize(Net(), folded, images())
    names = ["conv", "depth", "dense", "output"]
    paths = [f"params/{name}/kernel" for name in names]
    assert pairs == {one: (two,) for one, two in itertools.pairwise(paths)}
    assert left == {paths[-1]: "the network returns it"}
    kernels = {name: np.abs(new["params"][name]["kernel"]) for name in names}
    dense = kernels["dense"].reshape(4, 6, 5).max((0, 2))  # four pixels of six channels
    ranges = [
        (kernels["conv"].max((0, 1, 2)), kernels["depth"].max((0, 1, 2))),
        (kernels["depth"].max((0, 1, 2)), dense),
        (kernels["dense"].max(0), kernels["output"].max(1)),
    ]
    for one, two in ranges:
        np.testing.assert_allclose(one, two, rtol=5e-3)
    spread = kernels["conv"].max((0, 1, 2))
    before = np.abs(folded["params"]["conv"]["kernel"]).max((0, 1, 2))
    assert spread.max() / spread.min() < before.max() / before.min()
    close(Net().apply, folded, new)


@pytest.mark.parametrize(
    ("relu", "reason"),
    [
        ("relu6", "min with a number other than 0 is not homogeneous"),
        ("swish", "it goes through logistic"),
    ],
)
def test_other_functions_are_refused(folded, relu, reason):
    new, pairs, left = equalize(Net(relu), folded, images())
    assert not pairs
    assert [left[f"params/{name}/kernel"] for name in ("conv", "depth", "dense")] == [reason] * 3
    np.testing.assert_array_equal(
        new["params"]["conv"]["kernel"], folded["params"]["conv"]["kernel"]
    )


class Branches(nn.Module):
    """Channels that are joined, added, gated, split, and two layers of one kernel."""

    @nn.compact
    def __call__(self, x, train=False):
        stem = nn.relu(nn.Conv(4, (1, 1), name="stem")(x))
        one = nn.leaky_relu(nn.Conv(4, (1, 1), name="one")(stem))
        two = nn.relu(nn.Conv(4, (3, 3), feature_group_count=2, name="two")(stem))
        both = jnp.concatenate([one, two], -1)
        gate = nn.sigmoid(nn.Dense(8, name="gate")(both.mean((1, 2))))
        both = nn.avg_pool(both * gate[:, None, None], (2, 2), (2, 2))
        low, high = jnp.split(both, 2, -1)
        low = nn.Conv(4, (1, 1), name="low")(low) + nn.Conv(4, (1, 1), name="high")(high)
        tied = nn.Dense(4, name="tied")
        return tied(nn.relu(tied(nn.relu(low.mean((1, 2))))))


def test_channels_are_followed_through_branches():
    variables = drawn(Branches())
    new, pairs, left = equalize(Branches(), variables, images())
    path = "params/{}/kernel".format
    assert pairs == {
        path("stem"): (path("one"), path("two")),
        path("one"): (path("gate"), path("low")),
        path("two"): (path("gate"), path("high")),
    }
    added = "its channels are added to others"
    assert left == {
        path("gate"): "it goes through logistic",
        path("low"): added,
        path("high"): added,
        path("tied"): "it is used more than once",
    }
    assert not np.allclose(new["params"]["one"]["kernel"], variables["params"]["one"]["kernel"])
    close(Branches().apply, variables, new)


def test_plain_functions_have_pairs_along_any_axes():
    variables = networks.plain_variables()
    new, pairs, _ = equalize(networks.plain, variables, images())
    assert pairs == {"a": ("d",)}
    close(networks.plain, variables, new)


def test_axes_may_be_moved_between_products_and_biases():
    module = networks.Single()
    folded, taken, _ = fold(networks.batched, module, images())
    assert taken == {"one/weight": ("one/bias", "scale")}
    close(networks.batched, module, folded)
    new, pairs, left = equalize(networks.batched, folded, images())
    assert pairs == {"one/weight": ("two/weight",), "two/weight": ("last/weight",)}
    assert left == {"last/weight": "the network returns it"}
    close(networks.batched, module, new)
    rough = eqx.tree_at(lambda tree: tree.two.weight, new, jnp.round(new.two.weight, 1))
    corrected = correct(networks.batched, new, rough, images()).variables
    both = eqx.tree_at(lambda tree: tree.two.weight, corrected, rough.two.weight)
    wanted, got = (
        jax.vmap(lambda x, m=m: m.two(jax.nn.relu(m.one(x) * m.scale[:, None, None])))(
            jnp.transpose(images(), (0, 3, 1, 2))
        ).mean((0, 2, 3))
        for m in (new, both)
    )
    np.testing.assert_allclose(got, wanted, atol=1e-6)
