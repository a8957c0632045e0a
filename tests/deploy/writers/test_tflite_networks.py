"""Whole networks through LiteRT: floats beside JAX, integers beside integer-only inference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deploy import grids, integers
from deploy.graphs import trace
from groundwork.architectures import MODELS

pytest.importorskip("ai_edge_litert")
from ai_edge_litert import interpreter as interpreters

from deploy.runtimes import litert
from deploy.writers import tflite

NETWORKS = {
    "lenet_5": (0.5, (28, 28, 1)),
    "resnet_20": (0.25, (16, 16, 3)),
    "mobilenet_v2_small": (0.25, (32, 32, 3)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """A network, variables with plausible statistics, inputs, and its graph."""
    width, shape = NETWORKS[request.param]
    model = MODELS[request.param](classes=10, width=width, dtype=jnp.float32)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, *shape)).astype(np.float32)

    def drawn(path, leaf):
        name = path[-1].key
        fans = {"kernel": (2 / max(1, np.prod(leaf.shape[:-1]))) ** 0.5}
        value = rng.normal(size=leaf.shape) * fans.get(name, 0.1)
        return jnp.asarray(value + (name in ("var", "scale")), jnp.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = jax.tree_util.tree_map_with_path(drawn, shapes)
    return model, variables, x, trace.graph(model, variables, x)


@pytest.fixture(scope="module")
def whole(network):
    return grids.quantized(network[3], network[2])


def test_logits_are_those_of_jax(network, tmp_path):
    model, variables, x, graph = network
    (path,) = tflite.write(graph, tmp_path / "net.tflite")
    exact = np.asarray(jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, x))
    assert np.abs(litert.load(path)(x) - exact).max() <= 1e-5 * np.abs(exact).max()


def test_reference_kernels_give_the_codes_of_integer_only_inference(network, whole, tmp_path):
    """Bit for bit through all layers; everything but the ends is integers."""
    x = network[2]
    (path,) = tflite.write(whole, tmp_path / "net.tflite")
    kernels = interpreters.OpResolverType.BUILTIN_REF
    engine = interpreters.Interpreter(str(path), experimental_op_resolver_type=kernels)
    engine.allocate_tensors()
    on_grid = integers.fixed.quantized(x, whole.grids["input"])
    x = integers.fixed.dequantized(on_grid, whole.grids["input"])  # so that no end is a tie
    engine.set_tensor(engine.get_input_details()[0]["index"], x)
    engine.invoke()
    found = engine.get_tensor(engine.get_output_details()[0]["index"])
    np.testing.assert_array_equal(found, integers.run(whole, x, rounding="twice"))
    floats = [row[1] for row in litert.operations(path) if row[2] == "float32"]
    assert floats == ["QUANTIZE", "DEQUANTIZE"]


def test_default_kernels_give_codes_within_one(network, whole, tmp_path):
    x = network[2]
    (path,) = tflite.write(whole, tmp_path / "net.tflite")
    steps = np.abs(litert.load(path)(x) - integers.run(whole, x)) / whole.grids["logits"].scale
    assert np.mean(steps < 1.01) >= 0.99
