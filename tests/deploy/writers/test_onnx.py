"""Each operation beside numpy, in both engines, with floats and with integers."""

import dataclasses
import importlib

import numpy as np
import pytest

from deploy.graphs.graph import OPERATIONS, Grid, Node, Unsupported, Value
from deploy.grids import quantized
from deploy.writers import onnx as writer
from deploy.writers import producer
from deploy.writers.onnx.operations import RULES
from tests.deploy import in_numpy
from tests.deploy.onnx_graphs import Hand, integers

onnx = pytest.importorskip("onnx")
ENGINES = ("onnxruntime", "openvino")
IMAGE = (2, 6, 5, 4)
NONE = ((0, 0), (0, 0))
INFINITY = np.inf


def image(h):
    """The input as an image: a window of one pixel moves nothing, and makes the writer use NCHW."""
    return h.node("max_pool", "input", window=(1, 1), strides=(1, 1), padding=NONE)


def on_images(operation, *constants, **attributes):
    def build(h):
        return h.node(operation, image(h), *(h.constant(c) for c in constants), **attributes)

    return build


def positive(operation, *constants, **attributes):
    def build(h):
        x = h.node("abs", image(h))
        return h.node(operation, x, *(h.constant(c) for c in constants), **attributes)

    return build


def two(operation, **attributes):
    """An operation of an image and its global average, which broadcasts."""

    def build(h):
        x = image(h)
        mean = h.node("mean", x, axes=(1, 2), keepdims=True)
        return h.node(operation, x, mean, **attributes)

    return build


def flattened(h):
    """A dense layer that reads an image as a vector: its rows must be moved."""
    return h.dense(h.node("reshape", image(h), shape=(2, 120)), 7)


def squeezed(h):
    """Squeeze and excitation."""
    x = image(h)
    s = h.node("mean", x, axes=(1, 2), keepdims=False)
    s = h.node("sigmoid", h.dense(h.dense(s, 3, relu=True), 4))
    return h.node("mul", x, h.node("reshape", s, shape=(2, 1, 1, 4)))


def masked(h):
    x = image(h)
    above = h.node("greater", x, h.constant(np.float32(0.3)))
    return h.node("where", above, x, h.constant(np.full(4, -1, np.float32)))


def compared(operation):
    """Comparisons of what ReLU leaves with 0."""

    def build(h):
        x = h.node("clip", image(h), bounds=(0.0, INFINITY))
        return h.node("cast", h.node(operation, x, h.constant(np.float32(0))), dtype="float32")

    return build


def attention(h):
    """Two heads of 60 tokens: transposes, products of three axes, softmax."""
    x = h.node("reshape", image(h), shape=(2, 15, 8))
    q, k = (h.node("reshape", h.dense(x, 8), shape=(2, 15, 2, 4)) for _ in range(2))
    q = h.node("transpose", q, permutation=(0, 2, 1, 3))
    k = h.node("transpose", k, permutation=(0, 2, 3, 1))
    weights = h.node("softmax", h.node("matmul", q, k), axis=-1)
    mixed = h.node("matmul", weights, q)
    mixed = h.node("transpose", mixed, permutation=(0, 2, 1, 3))
    return h.node("reshape", mixed, shape=(2, 15, 8))


def embedded(h):
    """Rows of a table for the signs of an image's mean."""
    mean = h.node("mean", image(h), axes=(1, 2), keepdims=False)
    index = h.node("cast", h.node("greater", mean, h.constant(np.float32(0))), dtype="int32")
    table = h.random.normal(size=(2, 3)).astype(np.float32)
    return h.node("gather", h.constant(table), index)


CASES = {
    "conv": lambda h: h.conv(image(h), 6, relu=False),
    "conv, strides and uneven padding": lambda h: h.conv(
        image(h), 6, stride=2, padding=((0, 1), (2, 1))
    ),
    "conv, dilated": lambda h: h.conv(image(h), 3, dilation=2, padding=((2, 2), (2, 2))),
    "conv, groups": lambda h: h.conv(image(h), 6, groups=2),
    "conv, depthwise": lambda h: h.conv(image(h), 8, groups=4, relu=False),
    "conv, ReLU6": lambda h: h.node("clip", h.conv(image(h), 5, relu=False), bounds=(0.0, 6.0)),
    "dense": lambda h: h.dense("input", 3, relu=True),
    "dense of an image": lambda h: h.dense(image(h), 3),
    "dense of a flattened image": flattened,
    "matmul": attention,
    "gather": embedded,
    "where": masked,
    "squeezed": squeezed,
    "add": two("add", bounds=(0.0, INFINITY)),
    "add, bounded": two("add", bounds=(-0.5, 1.2)),
    "add, constant": on_images("add", np.arange(4, dtype=np.float32)),
    "add, number": on_images("add", np.float32(3)),
    "mul, constant": on_images("mul", np.array([0.5, -1.5, 0, 2], np.float32)),
    "mul, number": on_images("mul", np.full((1, 4), -0.25, np.float32)),
    "mul": two("mul"),
    "sub": two("sub"),
    "max": two("max"),
    "min": two("min"),
    "div": on_images("div", np.array([1, 2, -3, 4], np.float32)),
    "pow": positive("pow", np.float32(1.5)),
    "clip": on_images("clip", bounds=(-0.4, 0.7)),
    "log": lambda h: h.node(
        "log", h.node("add", h.node("abs", image(h)), h.constant(np.float32(1)))
    ),
    "rsqrt": lambda h: h.node(
        "rsqrt", h.node("add", h.node("abs", image(h)), h.constant(np.float32(1)))
    ),
    "sqrt": positive("sqrt"),
    **{name: on_images(name) for name in ("sigmoid", "tanh", "exp", "erf", "neg", "abs", "sign")},
    **{name: compared(name) for name in ("equal", "greater")},
    "less": lambda h: h.node(
        "cast", h.node("less", image(h), h.constant(np.float32(0.2))), dtype="float32"
    ),
    "cast": lambda h: h.node("cast", h.node("cast", image(h), dtype="int32"), dtype="float32"),
    "max_pool": on_images("max_pool", window=(3, 2), strides=(2, 1), padding=((1, 1), (0, 1))),
    "average_pool": on_images(
        "average_pool", window=(3, 3), strides=(2, 2), padding=((1, 1), (0, 1))
    ),
    "mean": on_images("mean", axes=(1, 2), keepdims=False),
    "mean of channels": on_images("mean", axes=(3,), keepdims=True),
    "sum": on_images("sum", axes=(1, 3), keepdims=False),
    "reduce_max": on_images("reduce_max", axes=(1,), keepdims=False),
    "softmax": on_images("softmax", axis=-1),
    "reshape": on_images("reshape", shape=(2, 5, 24)),
    "broadcast": lambda h: h.node(
        "broadcast", h.node("mean", image(h), axes=(1, 2), keepdims=True), shape=IMAGE
    ),
    "transpose": on_images("transpose", permutation=(3, 0, 2, 1)),
    "concat": lambda h: h.node("concat", x := image(h), h.node("neg", x), axis=3),
    "concat, constant": lambda h: h.node(
        "concat", h.constant(np.ones((2, 6, 5, 2), np.float32)), image(h), axis=3
    ),
    "pad": on_images("pad", pads=((0, 0), (1, 0), (0, 2), (3, 1)), value=0.0),
    "pad with ones": on_images("pad", pads=((0, 0), (0, 0), (0, 0), (0, 1)), value=1.0),
    "slice": on_images("slice", begin=(0, 1, 0, 1), end=(2, 6, 5, 3), strides=(1, 2, 2, 1)),
    "slice of all": on_images("slice", begin=(0,) * 4, end=IMAGE, strides=(1,) * 4),
    "channel_shuffle": lambda h: h.conv(
        h.node("channel_shuffle", h.conv("input", 8), groups=2), 5, relu=False
    ),
    "concat, ReLU": lambda h: h.node(
        "clip",
        h.node("concat", x := h.conv("input", 3, relu=False), h.node("neg", x), axis=3),
        bounds=(0.0, 0.9),
    ),
}


def made(case):
    h = Hand(input=IMAGE)
    CASES[case](h)
    return h.graph()


def run(engine, graph, path, *inputs):
    (path,) = writer.write(graph, path)
    return importlib.import_module(f"deploy.runtimes.{engine}").load(path, 1)(*inputs)


def test_every_operation_has_a_rule_and_a_case():
    assert RULES.keys() == OPERATIONS.keys()
    assert {node.operation for case in CASES for node in made(case).nodes} == OPERATIONS.keys()


@pytest.mark.parametrize("case", CASES)
def test_floats_are_those_of_numpy(case, tmp_path):
    graph = made(case)
    x = np.random.default_rng(1).normal(size=IMAGE).astype(np.float32)
    (wanted,) = in_numpy.run(graph, x)
    (path,) = writer.write(graph, tmp_path / "a.onnx")
    onnx.checker.check_model(path, full_check=True)
    for engine in ENGINES:
        found = importlib.import_module(f"deploy.runtimes.{engine}").load(path, 1)(x)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6, err_msg=engine)


@pytest.mark.parametrize("case", CASES)
def test_integers_are_those_of_numpy_within_a_step(case, tmp_path):
    x = np.random.default_rng(1).normal(size=IMAGE).astype(np.float32)
    graph = integers(made(case), x)
    (wanted,) = in_numpy.run(graph, x)
    step = graph.grids[graph.outputs[0]].scale
    (path,) = writer.write(graph, tmp_path / "a.onnx")
    onnx.checker.check_model(path, full_check=True)
    for engine in ENGINES:
        found = importlib.import_module(f"deploy.runtimes.{engine}").load(path, 1)(x)
        apart = np.abs(found - wanted) / step
        assert apart.max() < 1.01, engine
        assert np.mean(apart > 0.01) <= 0.02, engine


@pytest.mark.parametrize("case", ["add, bounded", "conv, strides and uneven padding"])
def test_bounds_inside_a_grid_cut_its_codes(case, tmp_path):
    x = np.random.default_rng(1).normal(size=IMAGE).astype(np.float32)
    graph = integers(made(case), x)
    (name,) = graph.outputs
    graph = dataclasses.replace(graph, grids={**graph.grids, name: Grid(0.03, -20)})
    (wanted,) = in_numpy.run(graph, x)
    assert wanted.min() > 0.03 * -100  # the bound
    for engine in ENGINES:
        found = run(engine, graph, tmp_path / "a.onnx", x)
        np.testing.assert_allclose(found, wanted, atol=0.0301)
        assert np.mean(np.abs(found - wanted) > 0.01) < 0.02, engine


def test_a_constant_beside_codes_is_not_lost(tmp_path):
    hand = Hand(input=(2, 3, 4))
    other = hand.constant(np.full((2, 1, 4), 0.25, np.float32))
    hand.node("concat", other, "input", axis=1, shape=(2, 4, 4))
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    graph = integers(hand.graph(), x)
    grid = graph.grids["input"]
    assert set(graph.grids.values()) == {grid}
    wanted = np.concatenate([np.full((2, 1, 4), 0.25), x], 1)
    for engine in ENGINES:
        found = run(engine, graph, tmp_path / "a.onnx", x)
        np.testing.assert_allclose(found, wanted, atol=0.501 * grid.scale)


def test_choices_between_conditions(tmp_path):
    hand = Hand(input=(2, 3, 4))
    less, more = (
        hand.node(operation, "input", hand.constant(np.float32(number)))
        for operation, number in (("less", 0.5), ("greater", -0.5))
    )
    both = hand.node("where", less, more, hand.constant(np.asarray(False)))
    hand.node("where", both, "input", hand.constant(np.float32(2)))
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    for engine in ENGINES:
        found = run(engine, hand.graph(), tmp_path / "a.onnx", x)
        np.testing.assert_allclose(found, np.where(np.abs(x) < 0.5, x, 2))


@pytest.mark.parametrize("batch", [1, 3])
def test_dense_layers_after_a_sum_of_integers(batch, tmp_path):
    """OpenVINO joins such layers without biases into one, whose integers it computes wrongly."""
    hand = Hand(first=(batch, 5), second=(batch, 5))
    one, other = hand.dense("first", 8), hand.node("tanh", hand.dense("second", 8))
    hand.dense(hand.node("add", one, other, bounds=(-np.inf, np.inf)), 3)
    for name in [name for name in hand.constants if name.endswith("/bias")]:
        hand.constants[name] = np.zeros_like(hand.constants[name])  # with biases they are right
    given = np.random.default_rng(0).normal(size=(2, batch, 5)).astype(np.float32)
    graph = quantized(hand.graph(), tuple(given))
    (wanted,) = in_numpy.run(graph, *given)
    (path,) = writer.write(graph, tmp_path / "a.onnx")
    for engine in ENGINES:
        found = importlib.import_module(f"deploy.runtimes.{engine}").load(path, 1)(*given)
        np.testing.assert_allclose(found, wanted, atol=1.01 * graph.grids[graph.outputs[0]].scale)


def test_a_file_says_what_it_is_and_has_the_same_bytes_each_time(tmp_path):
    graph = dataclasses.replace(made("concat"), structure="tuple")
    first, second = (
        writer.write(graph, tmp_path / name)[0].read_bytes() for name in ("a.onnx", "b.onnx")
    )
    assert first == second
    model = onnx.load_model_from_string(first)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "classes": "8",
        "kind": "float32",
        "layout": "NHWC",
        "outputs": '["concat2"]',
        "structure": "tuple",
    }
    assert model.producer_name == producer.NAME
    assert model.producer_version == producer.version()
    assert [(value.name, shape_of(value)) for value in model.graph.input] == [
        ("input", list(IMAGE))
    ]
    assert [value.name for value in model.graph.output] == ["concat2"]
    assert {node.output[0] for node in model.graph.node} >= {"max_pool0", "neg1"}


def shape_of(value):
    return [size.dim_value for size in value.type.tensor_type.shape.dim]


def test_codes_of_kernels_are_those_of_the_graph():
    graph = integers(made("conv"), np.ones(IMAGE, np.float32))
    constants = {
        c.name: onnx.numpy_helper.to_array(c) for c in writer.model(graph).graph.initializer
    }
    ((name, stored),) = graph.stored.items()
    written = constants[f"{name}.4d.codes"]
    assert written.dtype == np.int8
    np.testing.assert_array_equal(written, stored.codes.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(constants[f"{name}.4d.scales"], stored.scales)


def test_rows_of_a_kernel_move_instead_of_an_image():
    operations = [
        node.op_type for node in writer.model(made("dense of a flattened image")).graph.node
    ]
    assert operations == ["Transpose", "MaxPool", "Reshape", "Gemm"]


def test_a_flattened_image_that_others_read_is_transposed(tmp_path):
    h = Hand(input=IMAGE)
    flat = h.node("reshape", image(h), shape=(2, 120))
    h.node("sub", h.dense(flat, 120), flat)
    x = np.random.default_rng(1).normal(size=IMAGE).astype(np.float32)
    (wanted,) = in_numpy.run(h.graph(), x)
    for engine in ENGINES:
        found = run(engine, h.graph(), tmp_path / "a.onnx", x)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


def test_what_a_file_cannot_hold_is_one_line(tmp_path):
    h = Hand(input=(1, 2**15))
    graph = h.graph(h.node("neg", "input"))
    huge = np.broadcast_to(np.float32(0), (2**15, 2**15))
    node = Node(operation="matmul", inputs=("neg0", "huge"), output="much")
    values = {**graph.values, "huge": Value(huge.shape), "much": Value((1, 2**15))}
    graph = dataclasses.replace(
        graph,
        nodes=(*graph.nodes, node),
        values=values,
        constants={"huge": huge},
        outputs=("much",),
    )
    with pytest.raises(ValueError, match=r"a\.onnx: an ONNX file ends at 2 GB .* 4294967296 bytes"):
        writer.write(graph, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())

    h = Hand(input=IMAGE)
    h.node("max_pool", "input", window=(2, 2), strides=(2, 2), padding=((0, 2), (0, 0)))
    with pytest.raises(Unsupported, match="ONNX has no max_pool of 'max_pool0': its padding is"):
        writer.write(h.graph(), tmp_path / "a.onnx")

    strange = dataclasses.replace(h.graph().nodes[0], operation="fft")
    with pytest.raises(Unsupported, match="ONNX has no fft of 'max_pool0'"):
        writer.write(dataclasses.replace(h.graph(), nodes=(strange,)), tmp_path / "a.onnx")

    graph = integers(made("conv"), np.ones(IMAGE, np.float32))
    constants = {**graph.constants, graph.nodes[1].inputs[2]: np.full(6, 1e9, np.float32)}
    with pytest.raises(Unsupported, match="its bias exceeds 32 bits"):
        writer.write(dataclasses.replace(graph, constants=constants), tmp_path / "a.onnx")


def test_a_folder_that_is_not_there_is_an_oserror(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        writer.write(made("neg"), tmp_path / "nowhere" / "a.onnx")
