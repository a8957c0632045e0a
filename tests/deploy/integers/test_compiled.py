"""Compiled networks of integers beside the reference interpreter, integer for integer."""

import dataclasses

import jax
import numpy as np
import pytest

from deploy import integers
from deploy.graphs.graph import FREE, Graph, Grid, Node, Stored, Unsupported, Value
from deploy.integers.compiled import compiled
from deploy.layer_grids import with_layer_grids
from tests.deploy import operations_by_hand
from tests.deploy.networks import one_by_one, quantized

NETWORKS = ("resnet_20", "lenet", "lenet dense", "mobilenet v1", "mobilenet v2", "vgg")
KINDS = (
    *("conv", "dense", "add", "sub", "clip", "sigmoid", "tanh", "max_pool", "average_pool"),
    *("mean", "sum", "reshape", "concat", "pad", "slice", "channel_shuffle"),
)
OPERATIONS = [name for name in operations_by_hand.CASES if name.split("/")[0] in KINDS]


def assert_same(found, expected):
    for one, other in zip(jax.tree.leaves(found), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_integers_of_the_reference(name):
    graph, inputs = quantized(name)
    expected = one_by_one(lambda one: integers.run(graph, one), inputs[:5])
    apply, arrays = compiled(graph)
    for count in (1, 5):
        assert_same(jax.jit(apply)(arrays, inputs[:count]), [one[:count] for one in expected])


def test_without_compiled_code_the_integers_are_the_same():
    graph, inputs = quantized("lenet")
    expected = one_by_one(lambda one: integers.run(graph, one), inputs[:2])
    apply, arrays = compiled(graph, form=0)
    assert_same(jax.jit(apply)(arrays, inputs[:2]), expected)


def test_operations_have_the_codes_of_the_reference():
    refused = []
    for name in OPERATIONS:
        case = operations_by_hand.CASES[name]
        graph, given = operations_by_hand.integer_graph_of(case), operations_by_hand.arguments(case)
        try:
            apply, arrays = compiled(graph)
        except Unsupported:
            refused.append(name)
            continue
        found = jax.jit(apply)(arrays, *given)
        np.testing.assert_array_equal(found, integers.run(graph, *given), name)
    assert len(refused) < len(OPERATIONS) / 3, refused


def test_an_operation_without_compiled_form_is_named():
    graph = operations_by_hand.integer_graph_of(operations_by_hand.CASES["softmax"])
    with pytest.raises(Unsupported, match="int8 has no softmax of 'layer'"):
        compiled(graph)


def test_a_layer_of_wide_integers_is_refused():
    graph, _ = quantized("lenet")
    place = next(n for n in graph.nodes if n.operation == "dense").inputs[0]
    wide = dict(graph.grids) | {place: graph.grids[place]._replace(bits=16)}
    with pytest.raises(Unsupported, match="its input has 16 bits: give it a grid of 8"):
        compiled(dataclasses.replace(graph, grids=wide))


def test_inputs_of_other_shapes_are_refused():
    graph, inputs = quantized("lenet")
    apply, arrays = compiled(graph)
    with pytest.raises(ValueError, match="inputs must be of shapes"):
        apply(arrays, inputs[:, 1:])


OPTIONS = {
    "strides": (1, 1),
    "padding": ((1, 1), (1, 1)),
    "dilation": (1, 1),
    "groups": 1,
    "bounds": FREE,
}
GRIDS = {"one": Grid(0.02, 3), "two": Grid(0.05, -128)}
INPUTS = np.random.default_rng(1).normal(size=(2, 5, 6, 4)).astype(np.float32)


def conv(x, layer, output, **options):
    inputs = (x, f"{layer}/kernel", f"{layer}/bias")
    return Node(
        operation="conv", inputs=inputs, output=output, attributes=OPTIONS | options, layer=layer
    )


def add(*inputs):
    return Node(operation="add", inputs=inputs, output="c", attributes={"bounds": FREE})


def residual(nodes=None, size=(5, 6)):
    """By default two layers; the first one's input is added to the second's output."""
    rng = np.random.default_rng(0)
    constants, stored = {}, {}
    for layer in ("one", "two", "three"):
        codes, scales = (
            rng.integers(-127, 128, (3, 3, 4, 4)).astype(np.int8),
            np.full(4, 0.01, "f4"),
        )
        stored[f"{layer}/kernel"] = Stored(codes, scales)
        constants[f"{layer}/kernel"] = codes * scales
        constants[f"{layer}/bias"] = rng.normal(size=4).astype(np.float32)
    mean = {"axes": (1, 2), "keepdims": False}
    nodes = nodes or [
        conv("input", "one", "a", bounds=(0.0, np.inf)),
        conv("a", "two", "b"),
        add("b", "input"),
    ]
    values = {name: Value(array.shape) for name, array in constants.items()}
    values |= {name: Value((2, *size, 4)) for name in ("input", *(node.output for node in nodes))}
    values["logits"] = Value((2, 4))
    last = Node(operation="mean", inputs=("c",), output="logits", attributes=mean)
    return Graph(
        inputs=("input",),
        outputs=("logits",),
        nodes=(*nodes, last),
        values=values,
        constants=constants,
        stored=stored,
    )


def test_what_has_no_grid_is_an_integer_of_more_bits():
    graph = with_layer_grids(residual(), GRIDS)
    assert graph.grids["input"] == GRIDS["one"]
    assert graph.grids["a"] == GRIDS["two"]
    assert {graph.grids[name].bits for name in ("b", "c", "logits")} == {24}
    codes = integers.codes(graph, INPUTS)
    exact = {n: (codes[n] - np.float64(g.zero)) * g.scale for n, g in graph.grids.items()}
    step = graph.grids["c"].scale
    np.testing.assert_allclose(exact["c"], exact["b"] + exact["input"], atol=2 * step)
    np.testing.assert_allclose(exact["logits"], exact["c"].mean((1, 2)), atol=step)
    assert all(np.abs(codes[name]).max() < 2**23 - 1 for name in ("b", "c"))  # no grid's end
    apply, arrays = compiled(graph)
    assert_same(apply(arrays, INPUTS), [integers.run(graph, INPUTS)])


def test_sums_over_pixels_have_room():
    bits = with_layer_grids(residual(size=(100, 100)), GRIDS).grids["c"].bits
    assert 2 ** (bits - 1) * 10_000 <= 2**30 < 2**bits * 10_000


def test_a_value_on_two_grids_is_rounded_to_each():
    nodes = [conv("input", "one", "a"), conv("a", "two", "b"), conv("a", "three", "d")]
    other = Grid(0.2, -7)
    graph = with_layer_grids(residual([*nodes, add("b", "d")]), {**GRIDS, "three": other})
    assert graph.grids["a"].bits == 24
    assert [graph.grids[f"a/grid_{place}"] for place in (0, 1)] == [GRIDS["two"], other]
    apply, arrays = compiled(graph)
    assert_same(apply(arrays, INPUTS), [integers.run(graph, INPUTS)])


def test_layers_without_grids_are_named():
    with pytest.raises(ValueError, match="the inputs of layer 'two' have no grid"):
        with_layer_grids(residual(), {"one": GRIDS["one"]})


def test_operations_without_bounds_are_named():
    nodes = [conv("input", "one", "a"), dataclasses.replace(add("a", "a"), operation="mul")]
    with pytest.raises(Unsupported, match="int8 has no mul"):
        with_layer_grids(residual(nodes), GRIDS)
