"""Weight matching recovers hidden permutations, and leaves what cannot be permuted."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.optimize import linear_sum_assignment

from groundwork import architectures
from lottery import analysis
from lottery.analysis import matching
from pruning import structured

GENERATOR = np.random.default_rng(0)
SECTION = {"width": 1.0, "dtype": "float32", "kwargs": {}, "call": {}}


def drawn(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def assert_same(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_lenets_hidden_permutation_is_recovered_without_an_example():
    model = architectures.build({"name": "lenet_300_100", **SECTION}, 10)
    params = {
        name: {"kernel": drawn(*shape), "bias": drawn(shape[1])}
        for name, shape in {"fc1": (784, 300), "fc2": (300, 100), "output": (100, 10)}.items()
    }
    one, two = GENERATOR.permutation(300), GENERATOR.permutation(100)
    hidden = {  # by hand
        "fc1": {"kernel": params["fc1"]["kernel"][:, one], "bias": params["fc1"]["bias"][one]},
        "fc2": {
            "kernel": params["fc2"]["kernel"][one][:, two],
            "bias": params["fc2"]["bias"][two],
        },
        "output": {"kernel": params["output"]["kernel"][two], "bias": params["output"]["bias"]},
    }
    found = analysis.match(model, {"params": params}, {"params": hidden}, tries=1)
    assert_same(found, {"params": params})


class Residual(nn.Module):
    """Convolutions with BatchNorm on a residual stream, as ResNets and VGGs have them."""

    @nn.compact
    def __call__(self, x, train=False):
        def norm():
            return nn.BatchNorm(use_running_average=not train)

        x = nn.relu(norm()(nn.Conv(6, (3, 3))(x)))
        for _ in range(2):
            y = nn.relu(norm()(nn.Conv(8, (3, 3), use_bias=False)(x)))
            x = nn.relu(x + norm()(nn.Conv(6, (3, 3), use_bias=False)(y)))
        return nn.Dense(4)(x.reshape(len(x), -1))


def test_statistics_go_with_their_channels_over_a_residual_stream():
    model = Residual()
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 4, 2)))
    variables = jax.tree.map(lambda leaf: np.abs(drawn(*leaf.shape)) + 0.1, variables)
    variables["params"] = jax.tree.map(lambda leaf: leaf - 1, variables["params"])
    stream, inner = GENERATOR.permutation(6), GENERATOR.permutation(8)
    hidden = jax.tree.map(np.copy, variables)
    for number, order in enumerate((stream, inner, stream, inner, stream)):
        conv, norm = f"Conv_{number}", f"BatchNorm_{number}"
        for collection in ("params", "batch_stats"):
            part = hidden[collection][norm]
            hidden[collection][norm] = {name: leaf[order] for name, leaf in part.items()}
        layer = hidden["params"][conv]
        layer["kernel"] = layer["kernel"][..., order]
        if number == 0:
            layer["bias"] = layer["bias"][order]
        else:
            takes = inner if number in (2, 4) else stream
            layer["kernel"] = layer["kernel"][:, :, takes]
    dense = hidden["params"]["Dense_0"]
    dense["kernel"] = dense["kernel"].reshape(16, 6, 4)[:, stream].reshape(96, 4)
    x = drawn(2, 4, 4, 2)
    apply = jax.jit(model.apply)
    same = [apply(v, x) for v in (variables, hidden)]
    np.testing.assert_allclose(*same, rtol=1e-3, atol=1e-3)
    found = analysis.match(model, variables, hidden, example=(4, 4, 2), tries=2)
    assert_same(found, variables)


def test_a_foreign_network_moves_nearer_and_computes_the_same():
    def network(weights, x):  # in no framework; its last layer's units are outputs
        return jnp.tanh(x @ weights["in"]) @ weights["out"]

    first, second = ({"in": drawn(3, 7), "out": drawn(7, 2)} for _ in range(2))
    x = drawn(5, 3)
    found = analysis.match(network, first, second, example=(3,))
    np.testing.assert_allclose(network(found, x), network(second, x), rtol=1e-5, atol=1e-5)

    def likeness(tree):
        return sum(np.vdot(first[name], tree[name]) for name in first)

    assert likeness(found) > likeness(second)
    # one group of units: an assignment is the best of all orders; here against many drawn ones
    for _ in range(500):
        order = GENERATOR.permutation(7)
        other = {"in": second["in"][:, order], "out": second["out"][order]}
        assert likeness(found) >= likeness(other) - 1e-4


@pytest.mark.parametrize("seen", [slice(0, 1), slice(0, 2)])
def test_a_group_is_free_only_if_no_order_of_its_units_is_seen(seen):
    tree = {"in": drawn(3, 4), "out": drawn(4, 2)}
    graph = structured.groups(lambda tree, x: jnp.tanh(x @ tree["in"]) @ tree["out"], tree, (3,))
    (free,) = matching._free(graph, tree, lambda tree: [np.sort(tree["in"][0])])
    assert free.units == 4
    with pytest.raises(ValueError, match="no units whose order could be changed"):
        matching._free(graph, tree, lambda tree: [np.sort(tree["in"][0, seen])])


class Normalised(nn.Module):
    """Channels of each half are normalised together; and a constant knows the units' places."""

    @nn.compact
    def __call__(self, x):
        x = nn.GroupNorm(2)(nn.Dense(6)(x))
        x = nn.tanh(nn.Dense(4, name="placed")(x)) * jnp.arange(1.0, 5)[None]
        return nn.Dense(3, name="output")(nn.relu(nn.Dense(5, name="fc")(x)))


def test_units_whose_order_matters_stay():
    model = Normalised()
    shapes = jax.eval_shape(model.init, jax.random.key(0), drawn(1, 4))
    first, second = (jax.tree.map(lambda leaf: drawn(*leaf.shape), shapes) for _ in range(2))
    found = analysis.match(model, first, second)
    x = drawn(8, 4)
    apply = jax.jit(model.apply)
    same = [apply(v, x) for v in (second, found)]
    np.testing.assert_allclose(*same, rtol=1e-4, atol=1e-4)
    halves = [v["params"]["GroupNorm_0"]["scale"].reshape(2, 3).tolist() for v in (found, second)]
    assert sorted(halves[0]) == sorted(halves[1])
    np.testing.assert_array_equal(
        found["params"]["placed"]["bias"], second["params"]["placed"]["bias"]
    )
    assert (found["params"]["fc"]["bias"] != second["params"]["fc"]["bias"]).any()


def test_an_equinox_module_and_an_nnx_state_are_matched_with_what_is_no_array_in_them():
    x, y = drawn(4, 8), drawn(4, 3)
    ends = [eqx.nn.MLP(8, 3, 6, 1, key=jax.random.key(seed)) for seed in (0, 1)]

    def batched(net, inputs):
        return jax.vmap(net)(inputs)

    found = analysis.match(batched, *ends)
    np.testing.assert_allclose(batched(found, x), batched(ends[1], x), atol=1e-5)
    assert (found.layers[0].bias != ends[1].layers[0].bias).any()
    errors = analysis.instability(lambda net: jnp.mean((batched(net, x) - y) ** 2), *ends, points=3)
    assert errors.errors.shape == (3,)

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.last = nnx.Linear(8, 6, rngs=rngs), nnx.Linear(6, 3, rngs=rngs)
            self.norm, self.drop = nnx.BatchNorm(6, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))

    nets = [Net(nnx.Rngs(seed)) for seed in (0, 1)]
    for seed, net in enumerate(nets):
        net.eval()
        net.norm.var[...] = jnp.arange(1.0, 7) ** (6 - 9 * seed)  # would rule the order
    found = analysis.match(nets[0], *map(nnx.state, nets), example=x)
    moved = nnx.merge(nnx.graphdef(nets[1]), found)
    np.testing.assert_allclose(moved(x), nets[1](x), atol=1e-4)
    products = np.asarray(nets[0].first.kernel).T @ np.asarray(nets[1].first.kernel)
    products += np.asarray(nets[0].last.kernel) @ np.asarray(nets[1].last.kernel).T
    order = linear_sum_assignment(products, maximize=True)[1]  # scales, shifts and biases: as made
    np.testing.assert_array_equal(moved.first.kernel, nets[1].first.kernel[:, order])
    with pytest.raises(ValueError, match="give their states"):
        analysis.match(nets[0], *nets, example=x)


def test_what_cannot_be_matched_is_said():
    def network(weights, x):
        return x @ weights["w"]

    tree = {"w": drawn(3, 2)}
    with pytest.raises(ValueError, match="these are parameters alone: give variables"):
        analysis.match(Normalised(), tree, tree)
    with pytest.raises(ValueError, match="nothing of this network can be removed"):
        analysis.match(network, tree, tree, example=(3,))
    with pytest.raises(ValueError, match="only one of them has v"):
        analysis.match(network, tree, {"v": drawn(3, 2)}, example=(3,))
    with pytest.raises(ValueError, match="tries=0 must be at least 1"):
        analysis.match(network, tree, tree, tries=0)
    with pytest.raises(ValueError, match="give an example=: the network takes none"):
        analysis.match(lambda w, x: x[..., :2, :, :, :] @ w["w"], tree, tree)
