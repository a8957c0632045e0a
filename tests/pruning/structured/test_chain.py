"""Narrower networks hold a wide one's surviving units, carried through the whole chain."""

import functools
import itertools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from groundwork import architectures
from pruning import masks
from pruning.structured.chain import Link


class Dense(nn.Module):
    hidden: tuple[int, ...] = (3,)
    classes: int = 2

    @nn.compact
    def __call__(self, inputs, train=False):
        for number, units in enumerate(self.hidden):
            inputs = nn.relu(nn.Dense(units, name=f"fc{number}")(inputs))
        return nn.Dense(self.classes, name="output")(inputs)


def shapes(model, shape):
    return architectures.shapes(model, shape)


def drawn(tree, rng):
    """None of them 0 or 1."""

    def draw(path, leaf):
        if path[-1].key == "var":
            return rng.uniform(0.5, 2, leaf.shape).astype("f4")
        return (rng.normal(size=leaf.shape) / np.prod(leaf.shape[:-1]) ** 0.5).astype("f4")

    return jax.tree_util.tree_map_with_path(draw, tree)


def quickly(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


# by hand


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
LINKS = (Link("fc0", 4, False), Link("output", 2, False))  # scores 5, 20, √40, 0.9


def taken(units):
    """What is left of `WIDE`."""
    params = WIDE["params"]
    first = {name: leaf[..., units] for name, leaf in params["fc0"].items()}
    last = {"kernel": params["output"]["kernel"][units], "bias": params["output"]["bias"]}
    return {"params": {"fc0": first, "output": last}}


@pytest.mark.parametrize(("keep", "units"), [(1, [1]), (2, [1, 2]), (3, [0, 1, 2])])
def test_units_of_the_largest_surviving_norms_stay_in_their_order(keep, units):
    assert distill.chain(Dense((4,)), (2,)) == LINKS
    found = distill.shrink(WIDE, None, LINKS, shapes(Dense((keep,)), (2,)))
    jax.tree.map(np.testing.assert_array_equal, found, taken(units))


def test_what_is_pruned_counts_for_nothing_and_is_zero():
    mask = {  # scores 5, 0 (nothing goes out), √40, 0 (nothing comes in)
        "fc0/kernel": np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool),
        "output/kernel": np.array([[1, 1], [0, 0], [1, 1], [1, 1]], bool),
    }
    mask["fc0/kernel"][0, 3] = False
    found = distill.shrink(WIDE, mask, LINKS, shapes(Dense((2,)), (2,)))
    expected = taken([0, 2])
    expected["params"]["fc0"]["kernel"] = np.float32([[3, 2], [4, 0]])
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    # of equal ones, here 0 and 0, the lower index
    found = distill.shrink(WIDE, mask, LINKS, shapes(Dense((3,)), (2,)))
    np.testing.assert_array_equal(found["params"]["fc0"]["bias"], np.float32([0.1, 0.2, 0.3]))


def test_replicates_map_and_choose_for_themselves():
    other = jax.tree.map(lambda leaf: leaf[..., ::-1].copy(), WIDE)
    both = jax.tree.map(lambda *leaves: np.stack(leaves), WIDE, other)
    mask = masks.ones(WIDE["params"])
    narrow = shapes(Dense((2,)), (2,))
    mapped = jax.vmap(lambda v, m: distill.shrink(v, m, LINKS, narrow), (0, None))(both, mask)
    for replicate, tree in enumerate((WIDE, other)):
        own = jax.tree.map(lambda leaf, r=replicate: leaf[r], mapped)
        jax.tree.map(np.testing.assert_array_equal, own, distill.shrink(tree, mask, LINKS, narrow))


# whole networks


FAMILIES = {  # wide, narrow, image
    "lenet_300_100": (0.1, 0.05, (4, 4, 1)),
    "lenet_5": (0.4, 0.2, (20, 20, 1)),  # pooled to 2×2, then flattened
    "vgg_11": (1 / 32, 1 / 64, (16, 16, 3)),  # BatchNorm
    "student_net": (0.25, 0.125, (16, 16, 3)),  # depthwise convolutions
}


@functools.cache
def links_of(name):
    width, _, shape = FAMILIES[name]
    return distill.chain(architectures.build({"name": name, "width": width}, 5), shape)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_whose_other_units_are_dead_shrinks_to_the_same_logits(name):
    """Units whose outgoing weights are pruned go; what is computed stays."""
    wide_by, narrow_by, shape = FAMILIES[name]
    wide, narrow = (
        architectures.build({"name": name, "width": width}, 5) for width in (wide_by, narrow_by)
    )
    small, rng = shapes(narrow, shape), np.random.default_rng(0)
    variables = drawn(shapes(wide, shape), rng)
    links = links_of(name)
    leaves = masks.flatten(variables["params"])
    mask = {path: np.ones(leaf.shape, bool) for path, leaf in leaves.items()}
    makers = [link for link in links if not link.follows]
    for link, following in itertools.pairwise(makers):
        keep = small["params"][link.path]["kernel"].shape[-1]
        dead = rng.permutation(link.units)[keep:]
        outgoing = mask[f"{following.path}/kernel"]
        apart = outgoing.reshape(-1, link.units, outgoing.shape[-1])  # window or pixels first
        apart[:, dead] = False
    shrink = quickly(lambda variables, mask: distill.shrink(variables, mask, links, small))
    found = shrink(variables, mask)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, small)
    images = jnp.asarray(rng.normal(size=(3, *shape)), jnp.float32)
    pruned = {**variables, "params": masks.apply(mask, variables["params"])}
    expected = quickly(wide.apply)(pruned, images)
    np.testing.assert_allclose(
        quickly(narrow.apply)(found, images), expected, rtol=1e-4, atol=1e-5 * abs(expected).max()
    )
    assert np.std(expected) > 0.01


def test_links_are_layers_in_the_order_of_their_calls():
    links = links_of("student_net")
    assert [tuple(link) for link in links[:5]] == [
        ("conv1", 4, False),
        ("bn1", 4, True),
        ("depthwise2", 4, True),
        ("bn2", 4, True),
        ("pointwise2", 8, False),
    ]
    assert links[-1] == Link("output", 5, False)


# what is refused


class Twice(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        layer = nn.Dense(4, name="fc")
        return layer(nn.relu(layer(inputs)))


class Odd(nn.Module):
    layer: nn.Module

    @nn.compact
    def __call__(self, inputs, train=False):
        x = nn.Conv(4, (3, 3), name="conv")(inputs)
        return nn.Dense(2, name="output")(self.layer(x).reshape((len(x), -1)))


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (Twice(), (4,), "fc is called twice: the network cannot be shrunk"),
        (Odd(nn.LayerNorm()), (4, 4, 1),
         "layer cannot be shrunk: it is no product or convolution with a kernel"),
        (Odd(nn.Conv(4, (3, 3), feature_group_count=2)), (4, 4, 1),
         "layer cannot be shrunk: it has 2 groups of channels"),
        (Odd(nn.Conv(8, (3, 3), feature_group_count=4)), (4, 4, 1),
         "layer cannot be shrunk: it has 4 groups of channels"),
        (architectures.build({"name": "residual_mlp", "width": 0.02}, 3), (5,),
         "the layers of ResidualMLP do not form a chain: it cannot be shrunk"),
        (architectures.build({"name": "resnet_20", "width": 0.125}, 3), (4, 4, 1),
         "the layers of ResNet20 do not form a chain: it cannot be shrunk"),
    ],
)  # fmt: skip
def test_what_is_no_chain_is_refused(model, shape, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        distill.chain(model, shape)


@pytest.mark.parametrize(
    ("narrow", "shape", "message"),
    [
        (Dense((5,)), (2,), "fc0 has 4 units and cannot shrink to 5"),
        (Dense((3,), classes=3), (2,), "the networks differ in more than their widths: "
         "params/output/bias (2,) for (3,), params/output/kernel (3, 2) for (3, 3)"),
        (Dense((3,)), (6,), "the networks differ in more than their widths: "
         "params/fc0/kernel (2, 3) for (6, 3)"),
        (Dense((3, 3)), (2,), "the networks differ in ['params/fc1/bias', 'params/fc1/kernel']"),
    ],
)  # fmt: skip
def test_what_is_no_narrower_network_is_refused(narrow, shape, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        distill.shrink(WIDE, None, LINKS, shapes(narrow, shape))


def test_masks_and_links_of_another_network_are_refused():
    narrow = shapes(Dense((2,)), (2,))
    with pytest.raises(ValueError, match=r"mask's 'fc9/kernel' is not among the parameters"):
        distill.shrink(WIDE, {"fc9/kernel": np.ones(2, bool)}, LINKS, narrow)
    links = distill.chain(Dense((4, 4)), (2,))
    with pytest.raises(ValueError, match=r"another network's: .* \['fc0', 'output'\]"):
        distill.shrink(WIDE, None, links, narrow)
