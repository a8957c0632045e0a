"""Every architecture through every engine: what the engine's own file gives is what JAX gives.

`python -m tests.deploy.test_agreement` prints the largest differences as a table.
"""

import collections
import functools
import importlib
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import pytest

import deploy
from deploy import engines, exports, integers
from deploy.graphs import evaluate
from deploy.graphs.graph import Unsupported
from deploy.runtimes import processor
from tests.deploy import in_numpy
from tests.deploy.networks import INTEGERS, NETWORKS, TOKENS, one_by_one, quantized, traced
from tests.groundwork.architectures.small import quickly

REFUSED = {("lstm", "ncnn"): "it mixes the examples of a batch"}  # the first axis is time
RUN = tuple(name for name in deploy.ENGINES if name != "coreml")


def is_installed(engine):
    return importlib.util.find_spec(engines.engine(engine).package) is not None


def difference(name, engine, folder):
    """The largest difference of an engine's outputs from JAX's, as a share of JAX's largest."""
    made = traced(name)
    path = exports.write(made.graph, engine, Path(folder) / "net")[0]
    found = deploy.load(path, engine)(made.inputs)
    found = found if isinstance(found, tuple) else (found,)
    return max(
        float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        for ours, theirs in zip(found, made.theirs, strict=True)
    )


def needs(engine):
    if not is_installed(engine):
        pytest.skip(f"{engine} is not installed")


@pytest.mark.parametrize("engine", RUN)
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_jax(name, engine, tmp_path):
    needs(engine)
    if (name, engine) in REFUSED:
        with pytest.raises(Unsupported, match=REFUSED[name, engine]):
            difference(name, engine, tmp_path)
    else:
        assert difference(name, engine, tmp_path) <= 1e-5


def transposed(graph):
    """The inputs of an ONNX file's transposes."""
    writer = pytest.importorskip("deploy.writers.onnx")
    return [list(n.input) for n in writer.model(graph).graph.node if n.op_type == "Transpose"]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in TOKENS])
def test_images_are_transposed_at_the_ends_alone(name):
    graph = traced(name).graph
    ends = [["output"]] if name == "squeezedet" else [["input"]]  # whose results are an image
    assert transposed(graph) in ([], ends)
    if name in INTEGERS:
        assert transposed(quantized(name)[0]) == transposed(graph)


@functools.cache
def rounded(name):
    """What a network of integers gives in numpy, where each value moves to its grid."""
    graph, inputs = quantized(name)
    return one_by_one(lambda x: in_numpy.run(graph, x), inputs)


def integral(name, engine, folder):
    graph, inputs = quantized(name)
    path = exports.write(graph, engine, folder / "net")[0]
    found = deploy.load(path, engine)(inputs)
    steps = [graph.grids[one].scale for one in graph.outputs]
    return found if isinstance(found, tuple) else (found,), steps


@pytest.mark.parametrize("name", INTEGERS)
def test_onnxruntime_gives_the_points_of_the_rounded_graph(name, tmp_path):
    needs("onnxruntime")
    found, steps = integral(name, "onnxruntime", tmp_path)
    for ours, theirs, step in zip(found, rounded(name), steps, strict=True):
        apart = np.abs(ours - theirs) / step
        assert np.mean(apart < 0.01) >= 0.97
        assert apart.max() < 1.01


@pytest.mark.parametrize("name", INTEGERS)
def test_litert_gives_the_points_of_integer_only_inference(name, tmp_path):
    needs("litert")
    graph, inputs = quantized(name)
    found, steps = integral(name, "litert", tmp_path)
    wanted = one_by_one(lambda x: integers.run(graph, x), inputs)
    for ours, theirs, step in zip(found, wanted, steps, strict=True):
        assert np.mean(np.abs(ours - theirs) < 1.01 * step) >= 0.99


@pytest.mark.parametrize("engine", ["ncnn", "openvino"])
@pytest.mark.parametrize("name", INTEGERS)
def test_other_integers_lose_as_much_as_rounding_does(name, engine, tmp_path):
    """OpenVINO adds in floats what it fuses; ncnn rounds the inputs of products alone, coarser."""
    needs(engine)
    exact = one_by_one(lambda x: in_numpy.run(traced(name).graph, x), quantized(name)[1])
    found, _ = integral(name, engine, tmp_path)
    for ours, fake, theirs in zip(found, rounded(name), exact, strict=True):
        lost = np.sqrt(np.mean((ours - theirs) ** 2) / np.mean((fake - theirs) ** 2))
        assert lost < {"ncnn": 2, "openvino": 1.6}[engine]


@pytest.mark.parametrize("engine", RUN)
def test_all_products_of_resnet_20_are_those_of_integers(engine, tmp_path):
    needs(engine)
    if engine == "openvino" and processor.saturates():
        pytest.skip("OpenVINO computes integers as floats where their sums would saturate")
    path = exports.write(quantized("resnet_20")[0], engine, tmp_path / "net")[0]
    ran = importlib.import_module(engines.engine(engine).runtime).operations(path)
    kinds = collections.Counter((operation, kind) for _, operation, kind in ran)
    convolutions, dense = PRODUCTS[engine]
    assert kinds[convolutions, "int8"] == 19
    assert kinds[dense, "int8"] == 1
    assert not kinds[convolutions, "float32"] + kinds[dense, "float32"]
    if engine == "onnxruntime":
        assert kinds["QLinearAdd", "int8"] == 9
        floats = [operation for _, operation, kind in ran if kind != "int8"]
        assert floats == ["QuantizeLinear", "DequantizeLinear"]


PRODUCTS = {
    "onnxruntime": ("QLinearConv", "QGemm"),
    "litert": ("CONV_2D", "FULLY_CONNECTED"),
    "ncnn": ("Convolution", "InnerProduct"),
    "openvino": ("Convolution", "FullyConnected"),
}


def test_the_rounded_graph_in_jax_is_that_in_numpy():
    graph, inputs = quantized("lenet")
    ours = quickly(lambda x: evaluate.outputs(graph, x))(inputs[:1])
    np.testing.assert_allclose(ours, rounded("lenet")[0][:1], rtol=1e-5)


def main():
    columns = [engine for engine in RUN if is_installed(engine)]
    print("| network | " + " | ".join(columns) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for name in NETWORKS:
        cells = []
        for engine in columns:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    cells.append(f"{difference(name, engine, folder):.1e}")
                except ValueError as error:
                    cells.append(f"refused: {error}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
