"""Widths against numpy and against plain narrow networks."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures, trees
from groundwork.architectures.lenet import LeNet5
from groundwork.architectures.resnet import ResNet
from groundwork.architectures.vgg import VGG
from groundwork.traced.macs import multiply_adds
from msdnet import slimmable
from tests.conftest import ROOT
from tests.groundwork.architectures.small import quickly
from tests.msdnet.slimmable.networks import (
    CLASSES,
    SHAPE,
    UNITS,
    WIDTHS,
    Tiny,
    by_hand,
    drawn,
    inputs,
)

COUNTS = ({"first": 2, "second": 3}, UNITS)
SHARED = ["first/bias", "first/kernel", "output/bias", "output/kernel", "second/bias"]
TRAINED = {"train": True, "mutable": ["batch_stats"]}


@pytest.fixture(scope="module")
def network():
    return slimmable.make(Tiny(), SHAPE, WIDTHS)


@pytest.fixture(scope="module")
def variables(network):
    made = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    return drawn(made)


@pytest.fixture(scope="module")
def trained(network, variables):
    """Logits and changed collections of each width in training."""

    @quickly
    def both(variables, x):
        def one(width):
            call = jax.vmap(
                lambda x: network.apply(variables, x, width=width, **TRAINED), axis_name="data"
            )
            return jax.tree.map(lambda leaf: leaf[0], call(x[None]))

        return [one(width) for width in WIDTHS]

    return both(variables, inputs())


def test_weights_are_shared_and_norms_are_each_width_s_own(network, variables):
    sizes = jax.tree.map(np.shape, variables["params"])
    assert sizes["norm"] == {k: {"width_0": (2,), "width_1": (4,)} for k in ("scale", "bias")}
    assert sizes["first"] == {"kernel": (5, 4), "bias": (4,)}
    assert sizes["second"] == {"kernel": (4, 6), "bias": (6,)}
    assert sizes["output"] == {"kernel": (6, 3), "bias": (3,)}
    assert set(trees.flatten(variables["batch_stats"])) == {
        f"norm/{kind}/width_{number}" for kind in ("mean", "var") for number in range(2)
    }


@pytest.mark.parametrize("number", [0, 1])
def test_a_width_computes_what_its_first_units_do(network, variables, number):
    x, width = inputs(), WIDTHS[number]
    found = quickly(lambda v, x: network.apply(v, x, width=width))(variables, x)
    expected = by_hand(variables, np.asarray(x), number, COUNTS[number])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [0, 1])
def test_a_width_changes_its_own_statistics_alone(variables, trained, number):
    found, changed = trained[number]
    x, other = np.asarray(inputs()), f"width_{1 - number}"
    logits, new = by_hand(variables, x, number, COUNTS[number], train=True)
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
    assert jax.tree.structure(changed) == jax.tree.structure(
        {"batch_stats": variables["batch_stats"]}
    )
    for kind, leaf in changed["batch_stats"]["norm"].items():
        np.testing.assert_allclose(leaf[f"width_{number}"], new[kind], rtol=1e-5, atol=1e-6)
        before = variables["batch_stats"]["norm"][kind]
        np.testing.assert_array_equal(leaf[other], before[other])
        assert not np.allclose(leaf[f"width_{number}"], before[f"width_{number}"])


def test_gradients_of_shared_weights_add_up_over_widths_and_meet_finite_differences(
    network, variables
):
    """Of Σ sin(logits) over both widths; a width's own gradient is zero beyond its units."""
    x = inputs(3)

    def loss(params, weights):
        each = [network.apply({**variables, "params": params}, x, width=w) for w in WIDTHS]
        return sum(w * jnp.sum(jnp.sin(z)) for w, z in zip(weights, each, strict=True))

    gradient = quickly(jax.grad(loss))
    small, large, both = (
        gradient(variables["params"], jnp.asarray(w, jnp.float32)) for w in ((1, 0), (0, 1), (1, 1))
    )
    for path in SHARED:
        one, two, total = (trees.flatten(tree)[path] for tree in (small, large, both))
        np.testing.assert_allclose(total, one + two, rtol=1e-5, atol=1e-5)
    assert not small["second"]["kernel"][2:].any()
    assert not small["second"]["kernel"][:, 3:].any()
    assert small["second"]["kernel"][:2, :3].any()
    assert not any(leaf.any() for leaf in trees.flatten(small["norm"]).values() if len(leaf) == 4)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, float), variables)
    kernel, step = exact["params"]["first"]["kernel"], 1e-6

    def by_numpy(kernel):
        params = {**exact["params"], "first": {**exact["params"]["first"], "kernel": kernel}}
        changed = {**exact, "params": params}
        each = [by_hand(changed, np.asarray(x, float), n, c)[0] for n, c in enumerate(COUNTS)]
        return np.sin(each).sum()

    for place in ((0, 0), (3, 1), (4, 3)):
        moved = np.zeros_like(kernel)
        moved[place] = step
        difference = (by_numpy(kernel + moved) - by_numpy(kernel - moved)) / (2 * step)
        np.testing.assert_allclose(both["first"]["kernel"][place], difference, rtol=1e-3, atol=1e-4)


def test_a_width_taken_out_is_the_plain_narrow_network_bit_for_bit(network, variables):
    x = inputs()
    model, own = slimmable.at(network, variables, 0.5)
    assert trees.count(own["params"]) == 5 * 2 + 2 + 2 * 2 + 2 * 3 + 3 + 3 * 3 + 3
    assert multiply_adds(model.apply, own, x[:1]) == 5 * 2 + 2 * 3 + 3 * 3
    inside = quickly(lambda v, x: network.apply(v, x, width=0.5))(variables, x)
    np.testing.assert_array_equal(quickly(model.apply)(own, x), inside)
    plain = quickly(Tiny(first=2, second=3).apply)(own, x)
    np.testing.assert_array_equal(plain, inside)
    whole, same = slimmable.at(network, variables, 1.0)
    assert whole is network.graph.model
    assert jax.tree.map(np.shape, same["params"]["norm"]) == {"scale": (4,), "bias": (4,)}


def test_new_variables_begin_at_every_width_with_the_whole_network_s(network):
    made = drawn(network.graph.shapes)
    begun = network.begin(made)
    np.testing.assert_array_equal(
        begun["params"]["first"]["kernel"], made["params"]["first"]["kernel"]
    )
    scale = made["params"]["norm"]["scale"][:2]
    np.testing.assert_array_equal(begun["params"]["norm"]["scale"]["width_0"], scale)
    assert begun["batch_stats"]["norm"]["var"]["width_0"].shape == (2,)
    same = slimmable.at(network, begun, 1.0)[1]
    jax.tree.map(np.testing.assert_array_equal, same, made)


@pytest.mark.parametrize(
    ("kind", "shape", "width"),
    [
        (LeNet5, (28, 28, 1), 0.2),
        (functools.partial(ResNet, blocks=1), (8, 8, 1), 0.25),
        (functools.partial(VGG, groups=(1, 2)), (8, 8, 1), 0.125),
    ],
    ids=["LeNet-5", "ResNet", "VGG"],
)
def test_widths_of_shipped_networks_are_those_that_are_built_narrow(kind, shape, width):
    wide, narrow = (kind(classes=10, width=one) for one in (width, width / 2))
    shapes = architectures.shapes(wide, shape)
    network = slimmable.make(wide, shape, WIDTHS, variables=shapes)
    begun = jax.eval_shape(network.begin, shapes)
    own = jax.eval_shape(lambda v: slimmable.at(network, v, 0.5)[1], begun)
    assert own == architectures.shapes(narrow, shape)
    norms = {path for path in trees.flatten(shapes) if "/bn" in path}
    assert network.switched == norms
    assert bool(norms) == (kind is not LeNet5)


def test_a_plain_function_of_parameters_is_slimmable():
    def apply(params, x):
        return jnp.tanh(x @ params["w"]) @ params["v"]

    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(5, 4)), "v": rng.normal(size=(4, 2))}
    params = jax.tree.map(np.float32, params)
    network = slimmable.make(apply, SHAPE, WIDTHS, variables=params)
    x = np.asarray(inputs())
    found = network.apply(network.begin(params), x, width=0.5)
    expected = np.tanh(x @ params["w"][:, :2]) @ params["v"][:2]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="is a function and has no init"):
        network.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="give its variables"):
        slimmable.make(apply, SHAPE, WIDTHS)


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ((), r"widths=\(\) must be numbers"),
        (0.5, "widths=0.5 must be numbers"),
        (("a", 1.0), "must be numbers"),
        ((True, 1.0), "must be numbers"),
        ((float("nan"), 1.0), "must be numbers"),
        ((0.5, 1.0, 1.5), r"1\.5 must be in \(0, 1\]"),
        ((0.0, 1.0), r"0\.0 must be in \(0, 1\]"),
        ((0.5, 0.5, 1.0), r"0\.5 must stand there once"),
        ((1.0, 0.5), r"must grow: \(0\.5, 1\.0\)"),
        ((0.25, 0.5), r"must end with 1\.0"),
        ((0.1, 1.0), "width 0.1 leaves none of the 4 units of first"),
    ],
)
def test_widths_that_cannot_be_are_refused_in_one_line(network, widths, said):
    with pytest.raises(ValueError, match=said) as caught:
        slimmable.keeps(network.graph, widths)
    assert "\n" not in str(caught.value)


def test_the_readme_s_lines_run():
    readme = (ROOT / "msdnet/README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", readme, flags=re.S)[1]
    assert "slimmable.make(model, (32, 32, 1), (0.25, 0.5, 1.0))" in code
    images = jnp.zeros((2, 32, 32, 1))
    names = {"model": Tiny(), "key": jax.random.key(0), "images": images}
    quickly(lambda: exec(code, names))()
    assert [one.shape for one in names["logits"]] == [(2, CLASSES)] * 3
    assert names["its_variables"]["params"]["first"]["kernel"].shape == (1024, 2)


def test_another_width_and_other_variables_are_refused(network, variables):
    with pytest.raises(ValueError, match=r"width=0\.3 must be one of 0\.5, 1\.0"):
        network.apply(variables, inputs(), width=0.3)
    with pytest.raises(ValueError, match="the variables are another network's"):
        slimmable.at(network, {"params": {}}, 0.5)
    plain = drawn(network.graph.shapes)
    with pytest.raises(ValueError, match=r"must have width_0, width_1: see Slimmable\.begin"):
        slimmable.at(network, plain, 0.5)
