"""Files in onnxruntime and OpenVINO: threads, examples, dtypes, orders of results, bad files."""

import dataclasses
import importlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from deploy import export
from deploy.graphs.graph import Value
from deploy.writers import onnx as writer
from tests.deploy import in_numpy
from tests.deploy.onnx_graphs import Hand, lenet

onnx = pytest.importorskip("onnx")
ENGINES = ("onnxruntime", "openvino")


def load(engine, path, threads=1):
    return importlib.import_module(f"deploy.runtimes.{engine}").load(path, threads)


def test_threads_and_more_examples_change_nothing(tmp_path):
    x = np.random.default_rng(1).normal(size=(2, 12, 12, 1)).astype(np.float32)
    (path,) = writer.write(lenet(2), tmp_path / "a.onnx")
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
def test_a_bad_file_is_one_line(engine, bad, tmp_path):
    made = writer.model(lenet())
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


def test_chains_of_one_channel_run_in_openvino(tmp_path):
    """It generates code for them that it then refuses."""
    h = Hand(input=(1, 3, 8))
    graph = h.graph(h.dense(h.dense("input", 1), 1))
    x = np.random.default_rng(0).normal(size=(1, 3, 8)).astype(np.float32)
    (path,) = writer.write(graph, tmp_path / "a.onnx")
    np.testing.assert_allclose(load("openvino", path)(x), in_numpy.run(graph, x)[0], rtol=1e-5)
