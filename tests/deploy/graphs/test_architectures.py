"""The graph of every architecture computes what the network does, by few kinds of operations."""

import json
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deploy
from groundwork.architectures import build
from tests.deploy import in_numpy
from tests.deploy.networks import assert_near, drawn, traced
from tests.groundwork.architectures.test_contract import FORMS

PLAIN = {"conv", "dense", "add", "max_pool", "average_pool", "mean", "reshape", "concat", "clip"}
FURTHER = {  # what else a family has
    "crelu": {"neg"},
    "densenet": {"mul"},
    "efficientnet": {"sigmoid", "mul"},
    "nin": {"mul"},  # the last windows of its pooling are smaller
    "shufflenet v1": {"channel_shuffle"},
    "shufflenet v2": {"channel_shuffle", "slice"},
}


@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if not form.tokens])
def test_every_architecture_of_images(form):
    _, inputs, graph, theirs, more = traced(form)
    assert_near(graph, [theirs[0][:1]], inputs[:1])
    if more is not None:
        assert_near(more, theirs, inputs)
        assert [n.operation for n in more.nodes] == [n.operation for n in graph.nodes]
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
    np.testing.assert_array_equal(in_numpy.run(ours, inputs), in_numpy.run(theirs, inputs))


def test_all_exits_of_msdnet():
    _, inputs, graph, theirs, _ = traced("exits")
    assert graph.outputs == ("logits_0", "logits_1")
    assert graph.structure == "tuple"
    assert_near(graph, [one[:1] for one in theirs], inputs[:1])
    assert {node.operation for node in graph.nodes} <= PLAIN


@pytest.mark.parametrize("batch", [1, 2])  # 2 is the number of exits as well
def test_a_stack_of_results_is_taken_apart(batch):
    (module, variables), inputs, _, theirs, _ = traced("exits")
    graph = deploy.graph(
        lambda variables, x: jnp.stack(module.apply(variables, x)), variables, inputs[:batch]
    )
    assert graph.structure == "stacked"
    assert_near(graph, [one[:batch] for one in theirs], inputs[:batch])
    assert {node.operation for node in graph.nodes} <= PLAIN
