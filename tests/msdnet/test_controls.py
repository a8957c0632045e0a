import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures
from groundwork.architectures.resnet import ResNet
from groundwork.errors import UserError
from groundwork.traced.macs import multiply_adds
from msdnet import cost
from msdnet.controls import ResNetExits, ResNets
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly

CIFAR = (32, 32, 3)
SMALL = (8, 8, 3)
MODELS = {
    "resnet_exits": ResNetExits(5, width=0.25, blocks=1),
    "resnets": ResNets(5, width=0.25, blocks=(1, 2)),
}


def plain(model, shape):
    """Parameters and multiply-adds of a network with one answer."""
    variables = architectures.shapes(model, shape)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return architectures.count(variables["params"]), multiply_adds(model.apply, variables, images)


@functools.cache
def drawn(name):
    """Variables, images, logits of all exits: compiled once for each network."""
    model, images = MODELS[name], np.random.default_rng(0).normal(size=(3, *SMALL))
    variables, images = as_float32((drawn_by_numpy(model, SMALL), images))
    return variables, images, quickly(model.apply)(variables, images)


# ResNetExits


def test_the_last_exit_alone_costs_what_the_resnet_does_and_exits_before_it_their_heads():
    """ResNet-20: 3 · 16 · 9 at 32², then 6 convolutions a stage at 32², 16², 8²; 9 exits."""
    by_hand = 3 * 16 * 9 * 32**2 + 6 * 16 * 16 * 9 * 32**2 + 64 * 10
    for channels, side in ((32, 16), (64, 8)):
        by_hand += (channels // 2 + 5 * channels) * channels * 9 * side**2
    assert by_hand == 40_551_040
    assert plain(ResNet(10), CIFAR) == (269_722, by_hand)
    found = cost.costs(ResNetExits(10), CIFAR)
    assert len(found) == 9
    heads = np.array([16] * 3 + [32] * 3 + [64] * 3) * 10
    assert (found[-1].params, found[-1].macs) == (269_722, by_hand)
    assert [c.macs_cumulative - c.macs for c in found] == [0, *np.cumsum(heads)[:-1].tolist()]
    first = 3 * 16 * 9 * 32**2 + 2 * 16 * 16 * 9 * 32**2
    assert found[0] == (3 * 16 * 9 + 32 + 2 * (16 * 16 * 9 + 32) + 170, first + 160, first + 160)
    assert found[1].macs - found[0].macs == 2 * 16 * 16 * 9 * 32**2
    total = 269_722 + sum(heads[:-1]) + 8 * 10
    assert cost.parameters(ResNetExits(10), CIFAR) == total


@pytest.mark.parametrize(("blocks", "every", "exits"), [(3, 3, 3), (2, 2, 3), (1, 3, 1), (2, 1, 6)])
def test_exits_come_after_every_so_many_blocks(blocks, every, exits):
    model = ResNetExits(10, width=0.25, blocks=blocks, every=every)
    found = cost.costs(model, SMALL)
    assert (model.exits, len(found)) == (exits, exits)
    assert found[-1][:2] == plain(ResNet(10, width=0.25, blocks=blocks), SMALL)


def test_the_last_exit_answers_as_the_resnet_of_the_same_parameters():
    variables, images, found = drawn("resnet_exits")

    def renamed(tree):
        segments = [tree[f"backbone_{k}"] for k in range(3)]
        named = {f"block{k + 1}_1": segment["block0"] for k, segment in enumerate(segments)}
        first = {key: value for key, value in segments[0].items() if key != "block0"}
        return {**first, **named, **tree.get("classifier_2", {})}

    same = {key: renamed(tree) for key, tree in variables.items()}
    expected = quickly(ResNet(5, width=0.25, blocks=1).apply)(same, images)
    np.testing.assert_allclose(found[-1], expected, rtol=1e-5, atol=1e-5)


# ResNets


def test_networks_alone_cost_what_plain_ones_do_and_all_before_them_add_up():
    found = cost.costs(ResNets(10, width=0.5, blocks=(1, 2, 4)), CIFAR)
    each = [plain(ResNet(10, width=0.5, blocks=blocks), CIFAR) for blocks in (1, 2, 4)]
    assert [c[:2] for c in found] == each
    sums = np.cumsum([macs for _, macs in each]).tolist()
    assert [c.macs_cumulative for c in found] == sums


def test_every_network_answers_as_a_plain_one():
    variables, images, found = drawn("resnets")
    own = {key: tree["classifier_1"] for key, tree in variables.items()}
    expected = quickly(ResNet(5, width=0.25, blocks=2).apply)(own, images)
    np.testing.assert_allclose(found[1], expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def gradients():
    """Of each exit's loss, a network each: the largest entry of each member's."""
    found = {}
    for name, model in MODELS.items():
        variables, images, _ = drawn(name)

        def loss(params, weights, model=model, variables=variables, images=images):
            logits = model.apply({**variables, "params": params}, images)
            return sum(w * jnp.sum(jnp.sin(x)) for w, x in zip(weights, logits, strict=True))

        gradient = quickly(jax.grad(loss))
        found[name] = [
            {
                part: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
                for part, tree in gradient(variables["params"], list(one)).items()
            }
            for one in np.eye(model.exits, dtype=np.float32)
        ]
    return found


def test_an_exit_s_loss_leaves_the_other_networks_alone(gradients):
    for k, own in enumerate(gradients["resnets"]):
        assert {part: size > 0 for part, size in own.items()} == {
            f"classifier_{other}": other == k for other in range(2)
        }


def test_an_exit_s_loss_moves_the_blocks_before_it_and_its_own_head(gradients):
    for k, own in enumerate(gradients["resnet_exits"]):
        assert {part for part, size in own.items() if size > 0} == {
            f"classifier_{k}",
            *(f"backbone_{before}" for before in range(k + 1)),
        }


# both


@pytest.mark.parametrize("name", MODELS)
def test_block_by_block_is_the_whole_network(name):
    model = MODELS[name]
    variables, images, expected = drawn(name)

    @quickly
    def walk(variables, features):
        found = []
        for k in range(model.exits):
            after, logits = model.apply(variables, k, features, method="block")
            advanced = model.apply(variables, k, features, method="advance")
            classified = model.apply(variables, k, advanced, method="classify")
            found.append((logits, classified))
            features = after
        return found

    for (logits, classified), whole in zip(walk(variables, images), expected, strict=True):
        assert whole.shape == (3, 5)
        np.testing.assert_allclose(logits, whole, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(classified, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_keeps_parameters_and_statistics_in_float32(name):
    model = MODELS[name].clone(dtype=jnp.bfloat16)
    variables = architectures.shapes(model, SMALL)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = jax.ShapeDtypeStruct((1, *SMALL), jnp.float32)
    logits = jax.eval_shape(model.apply, variables, images)
    assert {x.dtype for x in logits} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ResNetExits(10, every=2), r"resnet_exits\.every=2 must divide the 9 residual blocks"),
        (ResNetExits(10, every=0), r"resnet_exits\.every=0 must"),
        (ResNetExits(10, blocks=0), r"resnet_exits\.blocks=0 must"),
        (ResNetExits(10, blocks=1.5), r"resnet_exits\.blocks=1\.5 must"),
        (ResNetExits(10, every=1.5), r"resnet_exits\.every=1\.5 must"),
        (ResNetExits(10, width=0), r"resnet_exits\.width=0 must be positive"),
        (ResNetExits(10, width=math.nan), r"resnet_exits\.width=nan must be positive"),
        (ResNets(10, blocks=()), r"resnets\.blocks=\(\) must be"),
        (ResNets(10, blocks=(0, 1)), r"resnets\.blocks=\(0, 1\) must be"),
        (ResNets(10, blocks=(1, 1.5)), r"resnets\.blocks=\(1, 1\.5\) must be"),
        (ResNets(10, blocks=3), r"resnets\.blocks=3 must be"),
        (ResNets(10, width=-1.0), r"resnets\.width=-1\.0 must be positive"),
        (ResNets(10, width=math.inf), r"resnets\.width=inf must be positive"),
    ],
)
def test_what_cannot_be_built_is_refused_by_its_key_in_one_line(model, message):
    with pytest.raises(UserError, match=message) as caught:
        cost.costs(model, CIFAR)
    assert "\n" not in str(caught.value)
