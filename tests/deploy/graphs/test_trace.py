"""Graphs of what users bring: others' networks, compressed ones, several inputs, refusals."""

import re

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import compress
import deploy
from compress import form as forms
from deploy.graphs import evaluate, fold, trace
from deploy.graphs.constants import Constant
from deploy.graphs.graph import OPERATIONS, Stored
from groundwork.architectures import build
from lowrank import factorization
from pruning import structured
from tests.deploy import in_numpy
from tests.deploy.networks import assert_near, drawn
from tests.groundwork.architectures.small import quickly
from tests.own.networks import NETWORKS

KEY = jax.random.key(0)


def kinds(graph):
    return {node.operation for node in graph.nodes}


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_other_libraries(name):
    one = NETWORKS[name]()
    graph = deploy.graph(one.model, one.variables, one.inputs)
    apply = getattr(one.model, "apply", one.model)
    flags = one.flags["eval"]
    theirs = quickly(lambda v, x: apply(v, x, **flags))(one.variables, one.inputs)
    assert_near(graph, [theirs], one.inputs)
    assert kinds(graph) <= OPERATIONS.keys()
    if "Transformer" in name or "ViT" in name:
        assert {"softmax", "matmul"} <= kinds(graph)
        assert not {"exp", "reduce_max", "less"} & kinds(graph)
    if name == "Transformer LM, scanned and rematerialised (Linen)":
        assert {node.output for node in graph.nodes if node.operation == "gather"} == {"Embed_0"}
        assert graph.values["input"].dtype == "int32"


class ChannelsFirst(eqx.Module):
    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    last: eqx.nn.Linear

    def __init__(self):
        self.first = eqx.nn.Conv2d(3, 4, 3, padding=1, key=KEY)
        self.second = eqx.nn.Conv2d(4, 6, 3, 2, key=KEY)
        self.last = eqx.nn.Linear(24, 5, key=KEY)

    def __call__(self, x):
        x = eqx.nn.MaxPool2d(2, 2)(jax.nn.relu(self.first(x)))
        return self.last(eqx.nn.AvgPool2d(2, 1)(jax.nn.silu(self.second(x))).ravel())


def test_channels_first_become_channels_last_with_one_transpose():
    arrays, static = eqx.partition(ChannelsFirst(), eqx.is_array)
    inputs = images(2, 3, 16, 16)

    def apply(arrays, x):
        return jax.vmap(eqx.combine(arrays, static))(x)

    graph = deploy.graph(apply, arrays, inputs)
    assert_near(graph, [quickly(apply)(arrays, inputs)], inputs)
    before = ["transpose", "conv", "max_pool", "conv", "sigmoid", "mul", "average_pool"]
    assert [n.operation for n in graph.nodes] == [*before, "reshape", "dense"]
    assert [n.output for n in graph.nodes if n.operation == "conv"] == ["first", "second"]


def test_haiku_with_state():
    def network(train):
        def call(x):
            x = hk.BatchNorm(True, True, 0.9)(hk.Conv2D(4, 3)(x), is_training=train)
            x = hk.MaxPool((3, 3, 1), (2, 2, 1), "SAME")(jax.nn.relu(x))
            x = hk.AvgPool((2, 2, 1), (2, 2, 1), "VALID")(x)
            return hk.Linear(3)(hk.Flatten()(x))

        return hk.without_apply_rng(hk.transform_with_state(call))

    inputs = images(2, 8, 8, 3)
    shapes = jax.eval_shape(network(True).init, KEY, inputs)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1, leaf.shape).astype(leaf.dtype), shapes
    )

    def apply(variables, x):
        return network(False).apply(*variables, x)[0]

    graph = deploy.graph(apply, variables, inputs)
    assert_near(graph, [quickly(apply)(variables, inputs)], inputs)
    assert [n.operation for n in graph.nodes] == (
        ["conv", "max_pool", "average_pool", "reshape", "dense"]
    )


def test_the_method_of_a_module_is_called_as_the_module():
    one = NETWORKS["ResNet-50 (Linen)"]()  # whose default is training
    graph, same = (deploy.graph(m, one.variables, one.inputs) for m in (one.model, one.model.apply))
    assert same.nodes == graph.nodes


def test_an_nnx_module_itself():
    module = nnx.Sequential(nnx.Linear(4, 5, rngs=nnx.Rngs(0)), nnx.relu, nnx.Dropout(0.5))
    inputs = images(2, 4)
    graph = deploy.graph(module, nnx.state(module), inputs)
    module.eval()
    assert_near(graph, [module(inputs)], inputs)
    assert len(graph.nodes) == 1


@pytest.fixture(scope="module")
def lenet():
    module = build({"name": "lenet_5", "width": 0.2}, 3)
    return module, drawn(module, (16, 16, 1)), images(2, 16, 16, 1)


def test_low_rank_layers(lenet):
    module, variables, inputs = lenet
    plan = {"conv2": {"method": "svd", "rank": 3}, "fc1": {"method": "svd", "rank": 2}}
    apply, factors = factorization.factorize(module, variables, plan, inputs[:1])
    graph = deploy.graph(apply, factors, inputs)
    assert_near(graph, [quickly(apply)(factors, inputs)], inputs)
    sizes = [
        graph.values[node.output].shape[-1] for node in graph.nodes if node.operation != "max_pool"
    ]
    assert sizes == [4, 3, 10, 10, 2, 100, 3]
    same = deploy.graph(forms.Form(module, plan), factors, inputs)
    assert [node.output for node in same.nodes] == [node.output for node in graph.nodes]


def test_a_narrow_network(lenet):
    module, variables, inputs = lenet
    whole = structured.groups(module, variables, inputs[:1])
    keep = {group.name: np.arange(group.units) < 2 for group in whole.groups}
    narrow, small = structured.narrow(whole, variables, keep)
    graph = deploy.graph(narrow, small, inputs)
    assert_near(graph, [quickly(narrow.apply)(small, inputs)], inputs)
    assert kinds(graph) == {"conv", "max_pool", "reshape", "dense"}
    assert [graph.values[n.output].shape[-1] for n in graph.nodes[:3]] == [2, 2, 2]


def test_a_file_of_compress(lenet, tmp_path):
    module, variables, inputs = lenet
    compress.save(tmp_path / "a.cna", module, variables, example=(16, 16, 1))
    apply, again = compress.load(tmp_path / "a.cna")
    graph = deploy.graph(apply, again, inputs)
    np.testing.assert_array_equal(
        in_numpy.run(graph, inputs),
        in_numpy.run(deploy.graph(module, variables, inputs), inputs),
    )


def test_activation_bits_are_refused_with_what_to_do(lenet):
    module, variables, inputs = lenet
    bits = {"fc1": 8}
    rounded = {
        **variables,
        "activations": forms.calibrated(forms.Form(module), variables, inputs, bits),
    }
    form = forms.Form(module, activations=bits)
    said = (
        "^no rule for round of '[a-z0-9]+': export without activation bits and give int8= instead$"
    )
    with pytest.raises(ValueError, match=said):
        deploy.graph(form, rounded, inputs)
    plain, whole = trace.without_activations(form, rounded)
    assert_near(
        deploy.graph(plain, whole, inputs), [quickly(module.apply)(variables, inputs)], inputs
    )


def linear(variables, inputs):
    return inputs["a"] @ variables["w"] + inputs["b"]


def test_several_inputs_have_the_names_of_their_paths():
    given = {"b": images(2, 3), "a": images(2, 4)}
    variables = {"w": images(4, 3)}
    graph = deploy.graph(linear, variables, given)
    assert graph.inputs == ("a", "b")
    assert_near(graph, [linear(variables, given)], given["a"], given["b"])

    def pair(variables, given):
        return (given[0] * 2, given[0])

    graph = deploy.graph(pair, {}, (given["a"], given["b"]))
    assert graph.inputs == ("input_0", "input_1")
    assert graph.structure == "tuple"
    assert_near(graph, [2 * given["a"], given["a"]], given["a"], given["b"])


def layer(function, weights=(3, 3)):
    """A network of a dense layer `fc` before a function."""
    variables = {"fc": {"kernel": images(*weights)}}
    return lambda v, x: function(x @ v["fc"]["kernel"]), variables


REFUSED = {
    "no rule for sort of 'fc'": lambda x: jnp.sort(x),
    "no rule for cumsum of 'fc'": lambda x: jnp.cumsum(x, 1),
    "no rule for argmax of 'fc'": lambda x: jnp.argmax(x, 1),
    "no rule for while of 'fc'": lambda x: jax.lax.while_loop(
        lambda y: y[0, 0] < 9, lambda y: y + 1, x
    ),
    "no rule for cos of 'fc'": jnp.cos,
    "no rule for integer_pow of 'fc': the exponent 40 is none of 1 … 16": lambda x: x**40,
    "result 0 depends on no input": lambda x: jnp.ones((2, 3)),
    r"result 0 is (): its first axis is not the batch 2": jnp.sum,
    "result 0 is (3,): its first axis is not the batch 2": lambda x: x.sum(0),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_has_no_rule_is_refused_by_name_with_its_layer(said):
    network, variables = layer(REFUSED[said])
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        deploy.graph(network, variables, images(2, 3))


def test_what_no_result_needs_is_not_refused():
    def network(variables, x):
        jnp.sort(x)
        return 2 * x

    assert len(deploy.graph(network, {}, images(2, 3)).nodes) == 1


def test_wrong_arguments_are_refused_in_one_line():
    network, variables = layer(lambda x: x)
    (size,) = jax.export.symbolic_shape("b")
    for example, said in (
        (jax.ShapeDtypeStruct((size, 3), np.float32), "example: the shape (b, 3) is not known"),
        ("x", "example is no array and no shape"),
        (
            {"a": images(2, 3), "b": images(3, 3)},
            "example: arrays (2, 3), (3, 3) have no first axis of one size",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(said)}.*$"):
            deploy.graph(network, variables, example)
    shapes = jax.eval_shape(lambda: variables)
    with pytest.raises(ValueError, match=r"^variables: 'fc/kernel' is a shape"):
        deploy.graph(network, shapes, images(2, 3))


class Stack(nn.Module):
    """A convolution and a dense layer, each with BatchNorm."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), name="conv")(x)
        x = nn.relu(nn.BatchNorm(not train, name="bn")(x))
        x = nn.Dense(3, name="fc")(x.reshape(len(x), -1))
        return nn.BatchNorm(not train, name="last")(x)


def coded(kernel):
    """A kernel as integers, and the kernel that they make."""
    scales = (np.abs(kernel).max(tuple(range(kernel.ndim - 1))) / 127).astype(np.float32)
    codes = np.round(kernel / scales).astype(np.int8)
    return Stored(codes, scales), codes * scales


@pytest.fixture(scope="module")
def integers():
    inputs = images(2, 6, 6, 3)
    variables = drawn(Stack(), inputs.shape[1:])
    stored = {}
    for name in ("conv", "fc"):
        kernel = variables["params"][name]["kernel"]
        stored[f"{name}/kernel"], variables["params"][name]["kernel"] = coded(kernel)
    return variables, inputs, stored


def test_integers_of_a_channel_whose_factor_is_next_to_nothing_are_0():
    stored, kernel = coded(images(4, 3))
    whole = Constant(kernel, "w", stored.codes, np.broadcast_to(stored.scales, kernel.shape))
    for factor in (0.0, 1e-45, -1e-50):
        found = fold.scaled(whole, np.array([1.0, factor, -2.0]))
        np.testing.assert_array_equal(found.codes, stored.codes * np.int8([1, 0, -1]))
        np.testing.assert_array_equal(found.array, found.codes * found.scales)
        np.testing.assert_allclose(found.array, kernel * np.float32([1, 0, -2]), rtol=1e-6)


def test_integers_stay_integers_through_folding(integers):
    variables, inputs, stored = integers
    graph = deploy.graph(Stack(), variables, inputs, stored)
    assert graph.stored.keys() == {"conv/kernel", "fc/kernel"}
    assert not graph.lost
    assert_near(graph, [quickly(Stack().apply)(variables, inputs)], inputs)
    for name, bn in (("conv/kernel", "bn"), ("fc/kernel", "last")):
        found, scale = graph.stored[name], variables["params"][bn]["scale"]
        assert (scale < 0).any()
        np.testing.assert_array_equal(found.codes, stored[name].codes * np.int8(np.sign(scale)))
        np.testing.assert_array_equal(graph.constants[name], found.codes * found.scales)
        deviation = np.sqrt(variables["batch_stats"][bn]["var"] + 1e-5)
        np.testing.assert_allclose(
            found.scales, stored[name].scales * np.abs(scale) / deviation, rtol=1e-6
        )


def test_integers_that_cannot_stay_are_listed(integers):
    variables, inputs, stored = integers

    def squared(variables, x):
        kernel = variables["fc"]["kernel"] ** 2
        return x.reshape(len(x), -1)[:, :1] @ kernel[:1] + jnp.sum(variables["conv"]["kernel"] * 0)

    graph = deploy.graph(squared, variables["params"], inputs, stored)
    assert not graph.stored
    assert graph.lost.keys() == stored.keys()


def test_integers_of_a_transposed_kernel_are_transposed():
    stored, _ = coded(images(4, 3))
    one_scale = Stored(stored.codes, np.full(3, 0.5, np.float32))

    def apply(variables, x):
        return x @ variables["w"].T

    for given, names in ((stored, set()), (one_scale, {"w"})):
        graph = deploy.graph(apply, {"w": given.codes * given.scales}, images(2, 3), {"w": given})
        assert graph.stored.keys() == names
        assert graph.lost.keys() == {"w"} - names
    np.testing.assert_array_equal(graph.stored["w"].codes, stored.codes.T)


def test_wrong_integers_are_refused(integers):
    variables, inputs, stored = integers
    right = stored["fc/kernel"]
    for path, given, said in (
        ("fc/weight", right, "stored: the network has no parameter 'fc/weight'"),
        (
            "fc/kernel",
            Stored(right.codes, 2 * right.scales),
            "codes × scales are not the parameter's",
        ),
        (
            "fc/kernel",
            Stored(right.codes, right.scales[:1]),
            "has codes int8 (144, 3) and scales (1,)",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            deploy.graph(Stack(), variables, inputs, {path: given})


def test_evaluation_in_jax_equals_numpy(integers):
    variables, inputs, _ = integers
    graph = deploy.graph(Stack(), variables, inputs)
    ours = quickly(lambda x: evaluate.outputs(graph, x))(inputs)
    np.testing.assert_allclose(ours, in_numpy.run(graph, inputs)[0], rtol=1e-5, atol=1e-6)


def test_an_nnx_module_brings_its_own_variables_and_what_is_no_network_is_refused():
    model, x = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), np.ones((1, 3), np.float32)
    np.testing.assert_allclose(in_numpy.run(trace.graph(model, None, x), x)[0], model(x), rtol=1e-6)
    for wrong, example, said in (
        (3, x, "^model: 3 is neither a module nor a function$"),
        (model, None, "^example: give inputs"),
    ):
        with pytest.raises(ValueError, match=said):
            trace.graph(wrong, {}, example)
