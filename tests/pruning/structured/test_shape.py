"""Narrower networks of the same kind get the best units; other networks are refused."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures.lenet import LeNet5
from groundwork.architectures.mlp import ResidualMLP
from groundwork.architectures.resnet import ResNet
from pruning import masks, structured
from tests.pruning.structured.zoo import drawn, quickly


class Dense(nn.Module):
    hidden: tuple[int, ...] = (4,)
    classes: int = 2

    @nn.compact
    def __call__(self, x):
        for number, units in enumerate(self.hidden):
            x = nn.relu(nn.Dense(units, name=f"fc{number}")(x))
        return nn.Dense(self.classes, name="output")(x)


class Mixed(nn.Module):
    """BatchNorm, a padded shortcut, a depthwise convolution, a concatenation and a flattening."""

    width: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(self.width, (3, 3), name="stem")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, axis_name=None)(x))
        y = nn.Conv(2 * self.width, (3, 3), name="up")(x)
        y = nn.relu(y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.width))))
        y = nn.relu(nn.Conv(2 * self.width, (3, 3), feature_group_count=2 * self.width)(y))
        z = nn.relu(nn.Conv(self.width, (1, 1), name="side")(x))
        z = nn.Dense(2 * self.width, name="fc")(jnp.concatenate([z, y], -1)[:, 0])
        return nn.Dense(3, name="output")(nn.relu(z).reshape(len(x), -1))


def shapes(model, shape):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.ones((2, *shape)))


def graph(model, shape):
    return structured.groups(model, shapes(model, shape), shape)


WIDE = {
    "params": {
        "fc0": {
            "kernel": np.float32([[3, 1, 2, 0], [4, 0, 2, 9]]),  # norms 5, 1, √8, 9
            "bias": np.float32([0.1, 0.2, 0.3, 0.4]),
        },
        "output": {  # norms 1, 20, √5, 0.1
            "kernel": np.float32([[1, 0], [12, 16], [1, 2], [0.1, 0]]),
            "bias": np.float32([7, 8]),
        },
    }
}


def kept(variables, hidden):
    """Units that stay by the products of their norms, 5, 20, √40 and 0.9 of `WIDE`."""
    wide = graph(Dense(), (2,))
    scores = structured.scores(wide, variables, "product")
    return structured.to_shape(wide, scores, graph(Dense(hidden), (2,)))["fc0"].nonzero()[0]


def test_units_of_the_largest_products_of_norms_stay():
    np.testing.assert_array_equal(kept(WIDE, (2,)), [1, 2])
    np.testing.assert_array_equal(kept(WIDE, (3,)), [0, 1, 2])


def test_what_is_pruned_counts_for_nothing_and_ties_go_to_the_lower_index():
    mask = {  # scores 5, 0 (nothing goes out), √40, 0 (nothing comes in)
        "fc0/kernel": np.array([[1, 1, 1, 0], [1, 1, 1, 0]], bool),
        "output/kernel": np.array([[1, 1], [0, 0], [1, 1], [1, 1]], bool),
    }
    pruned = {"params": masks.apply(mask, WIDE["params"])}
    np.testing.assert_array_equal(kept(pruned, (2,)), [0, 2])
    np.testing.assert_array_equal(kept(pruned, (3,)), [0, 1, 2])


def test_one_unit_of_a_layer_may_be_left():
    """An axis of one entry is never a group's."""
    wide = graph(Dense((4, 6)), (2,))
    scores = {"fc0": np.array([1.0, 3, 2, 0]), "fc1": np.arange(6.0)}
    found = structured.to_shape(wide, scores, graph(Dense((1, 2)), (2,)))
    assert [units.nonzero()[0].tolist() for units in found.values()] == [[1], [4, 5]]


def test_a_narrower_network_computes_what_zeros_in_place_of_the_others_do():
    shape, draw = (4, 4, 2), np.random.default_rng(0)
    wide, narrow = Mixed(4), Mixed(2)
    variables, small = drawn(shapes(wide, shape)), shapes(narrow, shape)
    whole = graph(wide, shape)
    scores = {group.name: draw.random(group.units) for group in whole.groups}
    keep = structured.to_shape(whole, scores, graph(narrow, shape))
    start = structured.cut(whole, variables, keep)
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, small)
    x = jnp.asarray(draw.normal(size=(3, *shape)), jnp.float32)
    got = quickly(narrow.apply)(start, x)
    expected = quickly(wide.apply)(structured.mask(whole, variables, keep), x)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert np.std(expected) > 0.01


FAMILIES = {  # by their width, and an image
    "LeNet-5": (lambda width: LeNet5(5, 0.4 * width), (20, 20, 1)),
    "ResNet-8": (lambda width: ResNet(5, 0.25 * width, blocks=1), (8, 8, 3)),
    "residual MLP": (lambda width: ResidualMLP(5, 0.04 * width), (5,)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_have_the_shape_of_their_narrower_members(name):
    build, shape = FAMILIES[name]
    wide, narrow = build(1.0), build(0.5)
    whole = graph(wide, shape)
    scores = {group.name: np.arange(group.units) for group in whole.groups}
    keep = structured.to_shape(whole, scores, graph(narrow, shape))
    cut = jax.eval_shape(lambda tree: structured.cut(whole, tree, keep), whole.shapes)
    assert jax.tree.map(jnp.shape, cut) == jax.tree.map(jnp.shape, shapes(narrow, shape))
    assert not all(units.all() for units in keep.values())


class Paired(nn.Module):
    """Two hidden layers, of one group where they are added, and of two where not."""

    how: str
    width: int

    @nn.compact
    def __call__(self, x):
        one, two = (nn.Dense(self.width, name=name)(x) for name in ("one", "two"))
        if self.how != "apart":
            one = one + (two if self.how == "added" else two[:, ::-1])
        return nn.Dense(2, name="a")(nn.relu(one)) + nn.Dense(2, name="b")(nn.relu(two))


@pytest.mark.parametrize(
    ("narrow", "shape", "said"),
    [
        (Dense((5,)), (2,),
         "fc0 has 4 units and cannot shrink to 5: params/fc0/kernel of shape (2, 4) cannot "
         "become (2, 5)"),
        (Dense((3,), classes=3), (2,),
         "params/output/bias of shape (2,) cannot become (3,): of axis 0, it is an output"),
        (Dense((3,)), (6,), "params/fc0/kernel of shape (2, 4) cannot become (6, 3): of axis 0, "
         "it meets an axis of the inputs"),
        (Dense((3, 3)), (2,), "the networks differ in params/fc1/bias, params/fc1/kernel"),
    ],
)  # fmt: skip
def test_what_is_no_narrower_network_is_refused(narrow, shape, said):
    wide = graph(Dense(), (2,))
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        structured.to_shape(wide, {"fc0": np.ones(4)}, graph(narrow, shape))


def test_missing_scores_are_refused():
    with pytest.raises(ValueError, match="scores need 4 numbers for group fc0"):
        structured.to_shape(graph(Dense(), (2,)), {}, graph(Dense((2,)), (2,)))


@pytest.mark.parametrize(
    ("wide", "narrow", "said"),
    [
        ("apart", "added", "one are joined with others in the narrower network"),
        ("added", "apart", "one are joined with others in the narrower network"),
        ("flipped", "added", "narrower network joins the units of params/b/kernel, axis 0"),
        ("flipped", "flipped", None),
    ],
)
def test_a_network_that_joins_units_otherwise_is_refused(wide, narrow, said):
    whole, other = graph(Paired(wide, 4), (3,)), graph(Paired(narrow, 2), (3,))
    scores = {group.name: np.arange(group.units) for group in whole.groups}
    if said is None:
        keep = structured.to_shape(whole, scores, other)
        assert [units.sum() for units in keep.values()] == [2]
        return
    with pytest.raises(ValueError, match=said):
        structured.to_shape(whole, scores, other)
