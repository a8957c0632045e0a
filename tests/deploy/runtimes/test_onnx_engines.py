"""Whole networks in onnxruntime and OpenVINO, what runs as integers there, and bad files."""

import collections
import dataclasses
import importlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deploy import export, graph
from deploy.graphs.graph import Value
from deploy.writers import onnx as writer
from groundwork.architectures.models import MODELS
from msdnet.model import MSDNet
from tests.deploy import in_numpy
from tests.deploy.onnx_graphs import Hand, integers

onnx = pytest.importorskip("onnx")
ENGINES = ("onnxruntime", "openvino")


def load(engine, path, threads=1):
    return importlib.import_module(f"deploy.runtimes.{engine}").load(path, threads)


def operations(engine, path):
    return importlib.import_module(f"deploy.runtimes.{engine}").operations(path)


def variables(model, shape):
    """Numbers of the usual sizes, drawn without compiling anything."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))

    def draw(path, leaf):
        name = path[-1].key
        if name in ("var", "scale"):
            drawn = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            spread = np.sqrt(2 / max(1, np.prod(leaf.shape[:-1]))) if name == "kernel" else 0.1
            drawn = rng.normal(0, spread, leaf.shape)
        return drawn.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def shipped(name, side, channels=3):
    def build():
        shape = (2, side, side, channels)
        model = MODELS[name](classes=10)
        return model, variables(model, shape), shape

    return build


def exits():
    shape = (2, 16, 16, 3)
    model = MSDNet(
        classes=10,
        blocks=2,
        base=2,
        step=1,
        channels=6,
        growth=4,
        growth_factors=(1, 2),
        bottleneck_factors=(1, 2),
    )
    return model, variables(model, shape), shape


NETWORKS = {
    "lenet_5": shipped("lenet_5", 28, 1),
    "resnet_20": shipped("resnet_20", 16),
    "mobilenet_v2_small": shipped("mobilenet_v2_small", 16),
    "exits": exits,
}


@pytest.fixture(scope="module")
def traced():
    """Name → its graph, inputs and results in numpy, each made once."""
    made = {}

    def get(name):
        if name not in made:
            model, given, shape = NETWORKS[name]()
            x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
            floats = graph(model, given, x)
            made[name] = floats, x, in_numpy.run(floats, x)
        return made[name]

    return get


def results(found):
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_those_of_the_graph(name, traced, tmp_path):
    floats, x, wanted = traced(name)
    (path,) = writer.write(floats, tmp_path / "float.onnx")
    for engine in ENGINES:
        found = load(engine, path)(x)
        for array, reference in zip(results(found), wanted, strict=True):
            far = np.abs(array - reference).max() / np.abs(reference).max()
            assert far < 1e-5, engine


@pytest.mark.parametrize("name", NETWORKS)
def test_integers_are_those_of_the_fake_quantized_graph(name, traced, tmp_path):
    floats, x, reference = traced(name)
    graph = integers(floats, x)
    wanted = in_numpy.run(graph, x)
    (path,) = writer.write(graph, tmp_path / "int8.onnx")
    steps = [graph.grids[name].scale for name in graph.outputs]
    for array, fake, step in zip(results(load("onnxruntime", path)(x)), wanted, steps, strict=True):
        apart = np.abs(array - fake) / step
        assert np.mean(apart < 0.01) > 0.9
        assert apart.max() < 1.01
    # OpenVINO adds in floats what it fuses, with fewer roundings than the graph has.
    found = results(load("openvino", path)(x))
    for array, fake, exact in zip(found, wanted, reference, strict=True):
        lost = np.sqrt(np.mean((array - exact) ** 2) / np.mean((fake - exact) ** 2))
        assert lost < 1.6


def test_all_of_resnet_20_runs_as_integers(traced, tmp_path):
    floats, x, _ = traced("resnet_20")
    (path,) = writer.write(integers(floats, x), tmp_path / "int8.onnx")
    ran = operations("onnxruntime", path)
    counts = collections.Counter(operation for _, operation, kind in ran if kind == "int8")
    assert counts["QLinearConv"] == 19
    assert counts["QLinearAdd"] == 9
    assert counts["QGemm"] == counts["QLinearGlobalAveragePool"] == 1
    assert [operation for _, operation, kind in ran if kind != "int8"] == [
        "QuantizeLinear",
        "DequantizeLinear",
    ]
    ran = operations("openvino", path)
    kinds = [kind for _, operation, kind in ran if operation in ("Convolution", "FullyConnected")]
    assert kinds == ["int8"] * 20


@pytest.mark.parametrize(("name", "count"), [("resnet_20", 1), ("lenet_5", 0), ("exits", 1)])
def test_images_are_transposed_at_the_input_alone(name, count, traced, tmp_path):
    floats, x, _ = traced(name)
    for given in (floats, integers(floats, x)):
        nodes = writer.model(given).graph.node
        moved = [list(node.input) for node in nodes if node.op_type == "Transpose"]
        assert moved == [["input"]] * count


def test_threads_and_more_examples_change_nothing(traced, tmp_path):
    floats, x, _ = traced("lenet_5")
    (path,) = writer.write(floats, tmp_path / "a.onnx")
    for engine in ENGINES:
        one = load(engine, path)(np.concatenate([x, 2 * x]))
        np.testing.assert_allclose(load(engine, path, threads=2)(2 * x), one[2:], rtol=1e-5)


def tokens(h):
    table = h.random.normal(size=(5, 4)).astype(np.float32)
    h.node("gather", h.constant(table), "input", name="logits")
    return h.graph("logits")


@pytest.mark.parametrize("engine", ENGINES)
def test_inputs_are_taken_in_the_dtype_of_the_file(engine, tmp_path):
    graph = tokens(Hand(input=Value((2, 3), "int32")))
    (path,) = writer.write(graph, tmp_path / "a.onnx")
    run = load(engine, path)
    indices = np.array([[0, 1, 4], [-1, -5, 2]])
    (wanted,) = in_numpy.run(graph, indices)
    np.testing.assert_allclose(run(indices), wanted, rtol=1e-6)
    with pytest.raises(ValueError, match="the file takes int32, not float64"):
        run(indices.astype(float))
    with pytest.raises(ValueError, match=r"shapes \[N·2, 3\]"):
        run(indices[:1])


def test_what_onnxruntime_says_of_a_wrong_index_is_one_line(tmp_path):
    (path,) = writer.write(tokens(Hand(input=Value((1, 1), "int32"))), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"onnxruntime cannot run .*out of data bounds") as said:
        load("onnxruntime", path)(np.array([[9]]))
    assert "\n" not in str(said.value)


def open_shapes(whole):
    made = onnx.load_model_from_string(whole)
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return made.SerializeToString()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bad", ["empty", "garbage", "cut", "no operator", "open shapes"])
def test_a_bad_file_is_one_line(engine, bad, traced, tmp_path):
    made = writer.model(traced("lenet_5")[0])
    whole = made.SerializeToString()
    made.graph.node[0].op_type = "Nothing"
    contents = {
        "empty": b"",
        "garbage": b"garbage" * 9,
        "cut": whole[: len(whole) // 2],
        "no operator": made.SerializeToString(),
        "open shapes": open_shapes(whole),
    }
    path = tmp_path / "a.onnx"
    path.write_bytes(contents[bad])
    with pytest.raises(ValueError, match=r"cannot read .*a\.onnx: ") as said:
        load(engine, path)
    assert "\n" not in str(said.value)


def test_openvino_sends_no_message_home():
    code = (
        "import sys; from deploy.runtimes import openvino; openvino._openvino(); "
        "sys.exit('openvino_telemetry.main' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_results_keep_their_order_even_twice(tmp_path):
    h = Hand(input=(2, 4, 4, 3))
    x = h.conv("input", 2)
    y = h.node("neg", x)
    graph = dataclasses.replace(h.graph(y, x, y), structure="tuple")
    stacked = dataclasses.replace(graph, structure="stacked")
    given = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    wanted = in_numpy.run(graph, given)
    for engine in ENGINES:
        (path,) = writer.write(graph, tmp_path / "a.onnx")
        found = load(engine, path)(given)
        assert isinstance(found, tuple)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        (path,) = writer.write(stacked, tmp_path / "a.onnx")
        found = load(engine, path)(np.concatenate([given, given]))
        assert found.shape == (3, 4, 4, 4, 2)
        np.testing.assert_allclose(found[:, 2:], wanted, rtol=1e-5, atol=1e-6)


def test_channels_multiplied_between_products_of_integers(tmp_path):
    pytest.importorskip("openvino")
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=shape).astype("f4") for shape in ((8, 16), (16, 2)))
    factors = rng.uniform(0.8, 1.3, (1, 16)).astype("f4")

    def apply(variables, inputs):
        hidden = jax.nn.relu(inputs @ first) * factors - 0.1
        return hidden @ variables["kernel"]

    inputs = rng.normal(size=(20, 8)).astype("f4")
    (path,) = export(
        apply, {"kernel": second}, inputs[:1], "onnxruntime", tmp_path / "a", int8=inputs
    )
    wanted = load("onnxruntime", path)(inputs)
    assert np.ptp(wanted) > 1
    np.testing.assert_allclose(load("openvino", path)(inputs), wanted, atol=np.ptp(wanted) / 100)
