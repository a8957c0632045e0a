"""Whole networks of integers in LiteRT's reference kernels beside integer-only inference."""

import numpy as np
import pytest

from deploy import integers
from tests.deploy.networks import one_by_one, quantized

pytest.importorskip("ai_edge_litert")
from ai_edge_litert import interpreter as interpreters

from deploy.runtimes import litert
from deploy.writers import tflite


@pytest.mark.parametrize("name", [".cna", "resnet_20", "mobilenet v2"])
def test_reference_kernels_give_the_codes_of_integer_only_inference(name, tmp_path):
    """Bit for bit through all layers; everything but the ends is integers."""
    whole, x = quantized(name)
    (path,) = tflite.write(whole, tmp_path / "net.tflite")
    kernels = interpreters.OpResolverType.BUILTIN_REF
    engine = interpreters.Interpreter(str(path), experimental_op_resolver_type=kernels)
    engine.allocate_tensors()
    on_grid = integers.fixed.quantized(x[:4], whole.grids["input"])
    x = integers.fixed.dequantized(on_grid, whole.grids["input"])  # so that no end is a tie
    places = [one["index"] for one in engine.get_output_details()]

    def run(example):
        engine.set_tensor(engine.get_input_details()[0]["index"], example)
        engine.invoke()
        return [engine.get_tensor(place) for place in places]

    wanted = one_by_one(lambda example: integers.run(whole, example, rounding="twice"), x)
    for found, theirs in zip(one_by_one(run, x), wanted, strict=True):
        np.testing.assert_array_equal(found, theirs)
    floats = [row[1] for row in litert.operations(path) if row[2] == "float32"]
    assert set(floats) == {"QUANTIZE", "DEQUANTIZE"}
    assert len(floats) == 1 + len(whole.outputs)
