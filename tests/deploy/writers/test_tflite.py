"""Files of LiteRT: operations beside numpy, as integers beside integer-only inference."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import special

from deploy import integers
from deploy.graphs.graph import OPERATIONS, Graph, Grid, Node, Stored, Value
from deploy.grids import CodesLost
from tests.deploy.operations_by_hand import (
    CASES,
    arguments,
    expected,
    floats,
    graph_of,
    integer_graph_of,
)

pytest.importorskip("ai_edge_litert")
from ai_edge_litert import schema_py_generated as schema

from deploy.runtimes import litert
from deploy.writers import tflite
from deploy.writers.tflite import file as files

FLOATS_ALONE = ("div", "pow", "log", "sqrt", "rsqrt", "neg", "abs", "sign", "sum")
NO_INTEGERS = ("div", "pow")


def run(graph, path, *inputs):
    tflite.write(graph, path)
    return litert.load(path)(*inputs)


def model_of(path):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))


def one(operation, inputs, values, output, attributes=None, constants=None, grids=None):
    """A graph of one node whose values are written out."""
    node = Node(
        operation=operation,
        inputs=inputs,
        output="logits",
        attributes=attributes or {},
        layer="layer",
    )
    constants = constants or {}
    known = {name: Value(array.shape, str(array.dtype)) for name, array in constants.items()}
    return Graph(
        inputs=tuple(values),
        outputs=("logits",),
        nodes=(node,),
        values=known | values | {"logits": output},
        constants=constants,
        grids=grids or {},
    )


@pytest.mark.parametrize("name", CASES)
def test_floats_are_those_of_numpy(name, tmp_path):
    case = CASES[name]
    exact = expected(case, arguments(case))
    found = run(graph_of(case), tmp_path / "net.tflite", *arguments(case))
    assert found.shape == exact.shape
    assert np.abs(found - exact).max() <= 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("name", [name for name in CASES if name.split("/")[0] not in NO_INTEGERS])
def test_integers_are_those_of_integer_only_inference(name, tmp_path):
    case, path = CASES[name], tmp_path / "net.tflite"
    graph = integer_graph_of(case)
    found = run(graph, path, *arguments(case))
    steps = np.abs(found - integers.run(graph, *arguments(case))) / graph.grids["logits"].scale
    assert np.mean(steps < 1.01) >= 0.99
    ends = ("QUANTIZE", "float32"), ("DEQUANTIZE", "float32")
    kinds = {row[2] for row in litert.operations(path) if row[1:] not in ends}
    assert kinds == ({"float32"} if case.operation in FLOATS_ALONE else {"int8"})


@pytest.mark.parametrize("name", ["conv", "conv/depth", "dense", "add", "mul", "average_pool"])
def test_reference_kernels_round_as_integer_only_inference_does(name, tmp_path):
    """Bit for bit: LiteRT's own kernels are gemmlowp's arithmetic, those of XNNPACK float32's."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    case = CASES[name]
    graph = integer_graph_of(case)
    (path,) = tflite.write(graph, tmp_path / "net.tflite")
    kernels = OpResolverType.BUILTIN_REF
    engine = Interpreter(model_path=str(path), experimental_op_resolver_type=kernels)
    engine.allocate_tensors()
    for detail, array in zip(engine.get_input_details(), arguments(case), strict=True):
        engine.set_tensor(detail["index"], array)
    engine.invoke()
    found = engine.get_tensor(engine.get_output_details()[0]["index"])
    exact = integers.run(graph, *arguments(case), rounding="twice")
    np.testing.assert_array_equal(found, exact)


def test_every_operation_has_a_rule_or_is_refused():
    assert set(tflite.RULES) == set(OPERATIONS)


def test_choices_and_comparisons(tmp_path):
    pair = {"a": Value((2, 3)), "b": Value((2, 3))}
    a, b = floats(2, 3), floats(2, 3, seed=1)
    b[0] = a[0]
    for operation, reference in (("less", np.less), ("greater", np.greater), ("equal", np.equal)):
        graph = one(operation, ("a", "b"), pair, Value((2, 3), "bool"))
        np.testing.assert_array_equal(run(graph, tmp_path / "net", a, b), reference(a, b))
    values = {"which": Value((2, 1), "bool")} | pair
    which = np.array([[True], [False]])
    graph = one("where", ("which", "a", "b"), values, Value((2, 3)))
    np.testing.assert_array_equal(run(graph, tmp_path / "net", which, a, b), np.where(which, a, b))
    grids = {"a": Grid(0.03, 3), "b": Grid(0.05, -9), "logits": Grid(0.04, 0)}
    graph = dataclasses.replace(graph, grids=grids)
    found = run(graph, tmp_path / "net", which, a, b)
    assert np.abs(found - integers.run(graph, which, a, b)).max() <= 0.041


def test_rows_of_a_table(tmp_path):
    table, rows = floats(5, 3), np.array([[4, 0], [-1, 2]], np.int32)
    graph = one(
        "gather",
        ("table", "rows"),
        {"rows": Value((2, 2), "int32")},
        Value((2, 2, 3)),
        constants={"table": table},
    )
    np.testing.assert_array_equal(run(graph, tmp_path / "net", rows), table[rows])
    whole = dataclasses.replace(graph, grids={"logits": Grid(0.02, 1)})
    found = run(whole, tmp_path / "net", rows)
    np.testing.assert_array_equal(found, integers.run(whole, rows))


def test_indices_are_clipped_as_integers(tmp_path):
    numbers = Value((4,), "int32")
    given = np.array([7, -9, 1, 3], np.int32)
    for bounds in ((-2, 3), (0.0, math.inf)):
        graph = one("clip", ("a",), {"a": numbers}, numbers, {"bounds": bounds})
        found = run(graph, tmp_path / "net", given)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, np.clip(given, *bounds))


def test_casts(tmp_path):
    graph = one("cast", ("a",), {"a": Value((4,), "int32")}, Value((4,)), {"dtype": "float32"})
    numbers = np.array([3, -2, 0, 7], np.int32)
    found = run(graph, tmp_path / "net", numbers)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, numbers)
    graph = one("cast", ("a",), {"a": Value((4,))}, Value((4,), "bfloat16"), {"dtype": "bfloat16"})
    with pytest.raises(ValueError, match="litert has no cast of 'layer': from float32 to bfloat16"):
        tflite.packed(graph)


def test_the_error_function_is_near_enough(tmp_path):
    tiny = np.logspace(-38, -3, 200)
    x = np.float32([*np.linspace(-6, 6, 4001), *tiny, *-tiny, 0, 1e4, -3e38])
    graph = one("erf", ("a",), {"a": Value(x.shape)}, Value(x.shape))
    found = run(graph, tmp_path / "net", x)
    np.testing.assert_allclose(found, special.erf(x.astype(float)), atol=6e-7)
    assert found[-3] == 0


def test_what_it_cannot_say_is_refused_by_name():
    shape = (1,) * 7
    graph = one("exp", ("a",), {"a": Value(shape)}, Value(shape))
    with pytest.raises(ValueError, match="litert has no exp of 'layer': over 7 axes"):
        tflite.packed(graph)


def test_outputs_keep_order_names_and_structure(tmp_path):
    nodes = (
        Node(operation="neg", inputs=("input",), output="logits"),
        Node(operation="exp", inputs=("input",), output="early"),
    )
    graph = Graph(
        inputs=("input",),
        outputs=("early", "logits"),
        nodes=nodes,
        values={name: Value((1, 2)) for name in ("input", "logits", "early")},
        constants={},
        structure="tuple",
    )
    x = floats(1, 2)
    early, logits = run(graph, tmp_path / "net.tflite", x)
    np.testing.assert_allclose(early, np.exp(x), rtol=1e-6)
    np.testing.assert_array_equal(logits, -x)
    (signature,) = model_of(tmp_path / "net.tflite").signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [entry.name for entry in signature.outputs] == [b"early", b"logits"]
    assert [entry.name for entry in signature.inputs] == [b"input"]


def test_stored_codes_are_in_the_file_as_they_are(tmp_path):
    graph = integer_graph_of(CASES["conv"])
    (path,) = tflite.write(graph, tmp_path / "net.tflite")
    model = model_of(path)
    tensors = {tensor.name: tensor for tensor in model.subgraphs[0].tensors}
    kernel, bias = tensors[b"logits/kernel"], tensors[b"logits/bias"]
    codes = np.asarray(model.buffers[kernel.buffer].data, np.uint8).view(np.int8)
    stored = graph.stored["c0"]
    np.testing.assert_array_equal(codes.reshape(5, 3, 3, 4), stored.codes.transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(np.float32(kernel.quantization.scale), stored.scales)
    unit = np.float32(graph.grids["x0"].scale)
    np.testing.assert_allclose(bias.quantization.scale, stored.scales * unit, rtol=1e-6)


def test_the_file_is_the_same_each_time_and_aligned(tmp_path):
    graph = integer_graph_of(CASES["conv/groups"])
    data = tflite.packed(graph)
    assert data == tflite.packed(graph)
    model = schema.Model.GetRootAs(data)
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            field = buffer._tab.Vector(buffer._tab.Offset(4))
            assert field % 16 == 0


def test_groups_and_integers_ask_for_the_versions_that_know_them(tmp_path):
    def versions(name, make):
        (path,) = tflite.write(make(CASES[name]), tmp_path / "net")
        return {code.builtinCode: code.version for code in model_of(path).operatorCodes}

    codes = schema.BuiltinOperator
    assert versions("conv", graph_of) == {codes.CONV_2D: 1}
    assert versions("conv", integer_graph_of)[codes.CONV_2D] == 3
    assert versions("conv/groups", graph_of) == {codes.PAD: 1, codes.CONV_2D: 6}
    assert versions("conv/depth, dilated, twice", graph_of)[codes.DEPTHWISE_CONV_2D] == 2
    assert versions("dense/three axes", integer_graph_of)[codes.FULLY_CONNECTED] == 5
    assert versions("transpose", graph_of) == {codes.TRANSPOSE: 4}


def test_only_a_padding_that_is_same_needs_no_operator(tmp_path):
    def has_pad(name):
        (path,) = tflite.write(graph_of(CASES[name]), tmp_path / "net")
        return any(code.startswith("PAD") for _, code, _ in litert.operations(path))

    assert not has_pad("conv")
    assert not has_pad("conv/stride 2, same")
    assert has_pad("conv/stride 2, padding 1")
    assert has_pad("average_pool/padded")
    assert not has_pad("max_pool/same")


def test_a_result_finer_than_its_products_saturates(tmp_path):
    """XNNPACK refuses products whose steps are 256 of the result's, and adds them wrongly."""
    for name in ("conv", "add"):
        case = CASES[name]
        graph = integer_graph_of(case)
        fine = graph.grids["logits"]._replace(scale=graph.grids["logits"].scale / 1e7)
        graph = dataclasses.replace(graph, grids=dict(graph.grids) | {"logits": fine})
        found = run(graph, tmp_path / "net", *arguments(case))
        steps = np.abs(found - integers.run(graph, *arguments(case))) / fine.scale
        assert np.mean(steps < 1.01) >= 0.99


def test_a_sigmoid_on_another_grid_than_its_kernel_gives_is_one_of_floats(tmp_path):
    graph = integer_graph_of(CASES["sigmoid"])
    other = dict(graph.grids) | {"logits": Grid(0.002, -128)}
    graph = dataclasses.replace(graph, grids=other)
    x = arguments(CASES["sigmoid"])
    found = run(graph, tmp_path / "net", *x)
    assert np.abs(found - integers.run(graph, *x)).max() <= 0.00201
    assert ("logits", "LOGISTIC", "float32") in litert.operations(tmp_path / "net")


def test_codes_that_must_be_rounded_again_for_a_bias_are_said(tmp_path):
    graph = integer_graph_of(CASES["dense"])
    codes, scales = graph.stored["c0"].codes, graph.stored["c0"].scales.copy()
    scales[1] = 1e-12
    graph = dataclasses.replace(graph, stored={"c0": Stored(codes, scales)})
    with pytest.warns(CodesLost, match="litert: the stored integers of c0 are not in the file"):
        tflite.write(graph, tmp_path / "net")


def test_a_pruned_output_keeps_its_bias(tmp_path):
    case = CASES["dense"]
    graph = integer_graph_of(case)
    codes, scales = graph.stored["c0"].codes.copy(), graph.stored["c0"].scales.copy()
    codes[:, 0], scales[0] = 0, 0.0
    graph = dataclasses.replace(graph, stored={"c0": Stored(codes, scales)})
    found = run(graph, tmp_path / "net", *arguments(case))
    np.testing.assert_array_equal(found, integers.run(graph, *arguments(case)))


def test_two_gigabytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 100)
    with pytest.raises(ValueError, match="holds 2 GB; this network has"):
        tflite.write(graph_of(CASES["dense"]), tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_bounds_are_no_operators_where_a_grid_ends_there(tmp_path):
    bounds = {"bounds": (0.0, math.inf)}
    values = {"input": Value((1, 3))}
    graph = one("clip", ("input",), values, Value((1, 3)), bounds)
    grids = {"input": Grid(0.1, 0), "logits": Grid(0.05, -128)}
    (path,) = tflite.write(dataclasses.replace(graph, grids=grids), tmp_path / "net")
    codes = [code for _, code, _ in litert.operations(path)]
    assert codes == ["QUANTIZE", "QUANTIZE", "DEQUANTIZE"]
