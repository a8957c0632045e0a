"""The graph of every architecture computes what the network does, by few kinds of operations."""

import json
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deploy
from groundwork.architectures import build
from msdnet.model import MSDNet
from tests.deploy.graphs import by_numpy
from tests.groundwork.architectures.small import drawn_by_numpy, quickly
from tests.groundwork.architectures.test_contract import BATCH, FORMS, shallow

PLAIN = {"conv", "dense", "add", "max_pool", "average_pool", "mean", "reshape", "concat", "clip"}
FURTHER = {  # what else a family has
    "crelu": {"neg"},
    "densenet": {"mul"},
    "efficientnet": {"sigmoid", "mul"},
    "nin": {"mul"},  # the last windows of its pooling are smaller
    "shufflenet v1": {"channel_shuffle"},
    "shufflenet v2": {"channel_shuffle", "slice"},
}

SEVERAL = ("shufflenet v1", "cyclic", "nin")  # whose graphs are made for more images than one, too


def assert_near(graph, theirs, *inputs):
    ours = by_numpy.outputs(graph, *inputs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


def drawn(module, shape, seed=1):
    """Variables of which some scales and means are negative."""
    rng = np.random.default_rng(seed)

    def signed(path, leaf):
        sign = rng.choice([-1, 1], leaf.shape) if path[-1].key == "scale" else 1
        return np.float32(leaf * sign)

    return jax.tree_util.tree_map_with_path(signed, drawn_by_numpy(module, shape))


@pytest.mark.parametrize("form", FORMS)
def test_every_architecture(form):
    module, shape = FORMS[form].make(), FORMS[form].shape

    def both():
        variables = drawn(module, shape)
        inputs = np.random.default_rng(0).normal(size=(BATCH, *shape)).astype(np.float32)
        theirs = quickly(module.apply)(variables, inputs)
        graph = deploy.graph(module, variables, inputs[:1])
        assert_near(graph, [theirs[:1]], inputs[:1])
        if form in SEVERAL:
            more = deploy.graph(module, variables, inputs)
            assert_near(more, [theirs], inputs)
            assert [n.operation for n in more.nodes] == [n.operation for n in graph.nodes]
        return graph

    graph = shallow(form, both)
    assert graph.inputs == ("input",)
    assert graph.outputs == ("logits",)
    assert graph.structure == "single"
    json.dumps([dict(node.attributes) for node in graph.nodes])  # has no numbers of numpy
    kinds = {node.operation for node in graph.nodes}
    assert kinds <= PLAIN | FURTHER.get(form, set())
    kernels = {node.inputs[1] for node in graph.nodes if node.operation in ("conv", "dense")}
    assert all(name.endswith("/kernel") for name in kernels)
    assert len(kernels) == sum(node.operation in ("conv", "dense") for node in graph.nodes)


def counted(name, shape, width):
    module = build({"name": name, "width": width}, 10)
    graph = deploy.graph(
        module, drawn(module, shape), jax.ShapeDtypeStruct((1, *shape), np.float32)
    )
    return graph, Counter(node.operation for node in graph.nodes)


def test_resnet_20_has_19_convolutions_and_9_sums():
    graph, counts = counted("resnet_20", (8, 8, 3), 0.25)
    two = {"slice": 2, "pad": 2}  # the shortcuts of the second and third stage
    assert counts == {"conv": 19, "add": 9, "mean": 1, "dense": 1, **two}
    names = [node.output for node in graph.nodes]
    assert names[:4] == ["conv1", "block1_1/conv1", "block1_1/conv2", "block1_1/add"]
    bounds = [node.attributes["bounds"] for node in graph.nodes[:4]]
    assert bounds == [(0, np.inf), (0, np.inf), (-np.inf, np.inf), (0, np.inf)]
    assert graph.nodes[1].inputs == ("conv1", "block1_1/conv1/kernel", "block1_1/conv1/bias")
    assert all(array.dtype == np.float32 for array in graph.constants.values())


def test_lenet_5_has_7_operations():
    graph, _ = counted("lenet_5", (28, 28, 1), 0.2)
    kinds = [node.operation for node in graph.nodes]
    assert kinds == ["conv", "max_pool", "conv", "max_pool", "reshape", "dense", "dense"]
    assert graph.nodes[1].attributes == {
        "window": (2, 2),
        "strides": (2, 2),
        "padding": ((0, 0), (0, 0)),
    }
    assert [node.output for node in graph.nodes[-2:]] == ["fc1", "logits"]
    assert "output/kernel" in graph.constants


def test_bfloat16_networks_compute_in_float32():
    module = build({"name": "lenet_300_100", "width": 0.1, "dtype": "bfloat16"}, 3)
    variables = drawn(module, (4, 4, 1))
    plain = build({"name": "lenet_300_100", "width": 0.1}, 3)
    inputs = np.ones((1, 4, 4, 1), np.float32)
    ours, theirs = (deploy.graph(m, variables, inputs) for m in (module, plain))
    np.testing.assert_array_equal(by_numpy.outputs(ours, inputs), by_numpy.outputs(theirs, inputs))


@pytest.fixture(scope="module")
def exits():
    module = MSDNet(3, blocks=2, base=1, step=1, channels=4, growth=2, head=4, stem="imagenet")
    inputs = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    variables = drawn(module, (32, 32, 3))
    return module, variables, inputs, quickly(module.apply)(variables, inputs)


def test_all_exits_of_msdnet(exits):
    module, variables, inputs, theirs = exits
    graph = deploy.graph(module, variables, inputs)
    assert graph.outputs == ("logits_0", "logits_1")
    assert graph.structure == "tuple"
    assert_near(graph, theirs, inputs)
    assert {node.operation for node in graph.nodes} <= PLAIN


@pytest.mark.parametrize("batch", [1, 2])  # 2 is the number of exits as well
def test_a_stack_of_results_is_taken_apart(exits, batch):
    module, variables, inputs, theirs = exits
    graph = deploy.graph(
        lambda variables, x: jnp.stack(module.apply(variables, x)), variables, inputs[:batch]
    )
    assert graph.structure == "stacked"
    assert_near(graph, [one[:batch] for one in theirs], inputs[:batch])
    assert {node.operation for node in graph.nodes} <= PLAIN
