"""Layers that share parameters store them once, and their gradients add up."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import share
from groundwork import architectures
from groundwork.train.step import Batch, TrainState, make_loss, make_train_step

RNG = np.random.default_rng(0)
LAYERS = [("two", "three")]
KERNELS = [("two/kernel", "three/kernel")]


class Deep(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        for name in ("one", "two", "three"):
            inputs = nn.relu(nn.Dense(6, name=name)(inputs))
        return nn.Dense(3, name="output")(inputs)


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(Deep().init, jax.random.key(0), jnp.zeros((1, 4)))["params"]
    return jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype("f4"), shapes)


@pytest.fixture(scope="module")
def batch():
    images = jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32)
    return Batch(images, jnp.asarray(RNG.integers(0, 3, 5)), jnp.ones(5, bool))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_group_is_stored_once_and_comes_back_everywhere(params):
    stored = share.tie(params, LAYERS)
    same(stored, {name: params[name] for name in ("one", "two", "output")})
    whole = jax.jit(lambda tree: share.materialize(tree, LAYERS))(stored)
    same(whole, {**params, "three": params["two"]})
    assert architectures.count(stored) == architectures.count(params) - 42


def test_leaves_can_be_tied_without_their_layers(params):
    stored = share.tie(params, KERNELS)
    assert set(stored["three"]) == {"bias"}
    expected = {"kernel": params["two"]["kernel"], "bias": params["three"]["bias"]}
    same(share.materialize(stored, KERNELS), {**params, "three": expected})


def test_values_are_the_firsts_or_the_mean():
    params = {"a": np.float32([1, 2]), "b": np.float32([3, 8]), "c": np.float32([5, 5])}
    same(share.tie(params, [("c", "a", "b")]), {"c": params["c"]})
    same(share.tie(params, [("c", "a", "b")], "mean"), {"c": np.float32([3, 5])})
    same(share.materialize({"c": 1.0}, [("c", "a", "b")]), {"a": 1.0, "b": 1.0, "c": 1.0})


def test_several_groups_at_once_and_within_blocks():
    leaf = [np.full(2, number, np.float32) for number in range(6)]
    params = {
        "block1": {"a": {"kernel": leaf[0]}, "b": {"kernel": leaf[1]}},
        "block2": {"a": {"kernel": leaf[2]}, "b": {"kernel": leaf[3]}},
        "a": leaf[4],
        "ab": leaf[5],  # a name that begins with another's
    }
    groups = [("block2", "block1"), ("ab", "a")]
    stored = share.tie(params, groups)
    same(stored, {"block2": params["block2"], "ab": leaf[5]})
    expected = {
        **dict.fromkeys(["block1", "block2"], params["block2"]),
        "a": leaf[5],
        "ab": leaf[5],
    }
    same(share.materialize(stored, groups), expected)


def test_replicates_are_one_more_axis(params):
    both = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), params)
    stored = share.tie(both, LAYERS)
    mapped = jax.vmap(lambda tree: share.materialize(tree, LAYERS))(stored)
    same(mapped, {**both, "three": both["two"]})


@pytest.mark.parametrize("groups", [LAYERS, KERNELS], ids=["layers", "kernels"])
def test_gradients_add_up_over_the_ties(params, batch, groups):
    """The tied gradient is the sum of the untied network's at the same point."""
    stored = share.tie(params, groups)

    def loss(tree):
        return make_loss(Deep())(jax.random.key(0), {"params": tree}, batch)[0]

    gradient = jax.jit(jax.grad(lambda tree: loss(share.materialize(tree, groups))))(stored)
    apart = jax.jit(jax.grad(loss))(share.materialize(stored, groups))
    for layer, leaves in stored.items():
        for name in leaves:
            expected = apart[layer][name]
            if layer == "two" and (name == "kernel" or groups is LAYERS):
                assert np.abs(apart["three"][name]).max() > 1e-3
                expected = expected + apart["three"][name]
            np.testing.assert_allclose(gradient[layer][name], expected, rtol=1e-5, atol=1e-6)


def test_a_shared_network_trains_tied(batch):
    network = share.shared(Deep(), LAYERS)
    variables = jax.jit(network.init)(jax.random.key(0), batch.inputs)
    assert set(variables["params"]) == {"one", "two", "output"}
    plain = jax.jit(Deep().init)(jax.random.key(0), batch.inputs)["params"]
    same(variables["params"], {name: plain[name] for name in variables["params"]})

    apart = jax.jit(
        jax.grad(lambda tree: make_loss(Deep())(jax.random.key(0), {"params": tree}, batch)[0])
    )(share.materialize(variables["params"], LAYERS))
    moves = jax.tree.map(lambda a, b: -0.1 * (a + b), apart["two"], apart["three"])

    optimizer = optax.sgd(0.1)
    train = jax.jit(make_train_step(make_loss(network), optimizer))
    opt_state = optimizer.init(variables["params"])
    state, losses = TrainState(jnp.int32(0), jax.random.key(1), variables, opt_state), []
    for number in range(20):
        before = state.variables["params"]["two"]
        state, (loss, _) = train(state, batch)
        losses.append(float(loss))
        if not number:  # plain SGD on the sum of both layers' gradients
            change = jax.tree.map(jnp.subtract, state.variables["params"]["two"], before)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), change, moves)
    assert losses[-1] < 0.95 * losses[0]
    whole = share.materialize(state.variables["params"], LAYERS)
    same(whole["two"], whole["three"])
    assert (np.asarray(whole["two"]["kernel"]) != plain["two"]["kernel"]).any()
    outputs = network.apply(state.variables, batch.inputs)
    expected = Deep().apply({"params": whole}, batch.inputs, train=False)
    np.testing.assert_array_equal(outputs, expected)


def test_convolutions_share_and_statistics_stay_apart():
    model = architectures.build({"name": "resnet_20"}, 10)
    groups = [[f"block2_{block}/conv2" for block in (1, 2, 3)], ("block3_2", "block3_3")]
    whole, tied = (
        architectures.shapes(network, (8, 8, 1)) for network in (model, share.shared(model, groups))
    )
    saved = 2 * 9 * 32 * 32 + 2 * 9 * 64 * 64 + 4 * 64
    assert architectures.count(tied["params"]) == architectures.count(whole["params"]) - saved
    assert jax.tree.structure(tied["batch_stats"]) == jax.tree.structure(whole["batch_stats"])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([("one", "two")], "only equal shapes can be tied: one/kernel is float32[4, 6], "
         "two/kernel float32[6, 6]"),
        ([("two", "three/kernel")], "only layers of the same leaves can be tied: two/bias, "
         "two/kernel and three/kernel"),
        ([("two", "thre")], "no layer or leaf 'thre' (known: one/bias, one/kernel, output/bias, "
         "output/kernel, three/bias, three/kernel, two/bias, two/kernel)"),
        ([("two", "three"), ("one/bias", "two/bias")], "'two/bias' is tied twice, by 'two' and "
         "'two/bias'"),
        ([("two", "two")], "'two/bias' is tied twice, by 'two' and 'two'"),
        ([("two",)], "a group is two paths or more, not ('two',)"),
        (["two"], "a group is two paths or more, not 'two'"),
    ],
)  # fmt: skip
def test_what_cannot_be_tied_is_refused_in_one_line(params, groups, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        share.tie(params, groups)


def test_types_must_be_equal_too_and_values_known():
    params = {"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float16)}
    with pytest.raises(ValueError, match=r"a is float32\[2\], b float16\[2\]"):
        share.tie(params, [("a", "b")])
    with pytest.raises(ValueError, match=r"unknown values 'last' \(known: first, mean\)"):
        share.tie(params, [("a", "b")], "last")


def test_a_tree_that_was_not_tied_so_is_refused(params):
    with pytest.raises(ValueError, match="'three' is stored, and tied to 'two': tie the tree"):
        share.materialize(params, LAYERS)
    with pytest.raises(ValueError, match=r"nothing is stored at 'two' \(stored: output/bias"):
        share.materialize({"output": params["output"]}, LAYERS)
