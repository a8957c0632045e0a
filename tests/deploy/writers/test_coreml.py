"""Core ML's packages, read back and computed in numpy: here nothing can run them."""

import dataclasses
import itertools
import math
import sys
import types

import numpy as np
import pytest

from deploy.graphs.graph import Unsupported
from deploy.runtimes import coreml as runtime
from tests.deploy import in_numpy, onnx_graphs
from tests.deploy.networks import traced
from tests.deploy.writers.test_ncnn import normal, one, with_integers

ct = pytest.importorskip("coremltools")
load = pytest.importorskip("coremltools.converters.mil.frontend.milproto.load").load
writer = pytest.importorskip("deploy.writers.coreml")

# coremltools leaves temporary folders to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True, scope="module")
def _no_collection():
    """Each conversion ends with one, which takes seconds beside all that a suite has in memory."""
    with pytest.MonkeyPatch.context() as patch:
        nothing = types.SimpleNamespace(collect=lambda: 0)
        patch.setattr("coremltools.converters._converters_entry.gc", nothing)
        yield


# Operations of Core ML as their documents define them.
ENTRIES = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "pow": np.power,
    "less": np.less,
    "matmul": np.matmul,
}


def read(path):
    """The program of a package, and its inputs and outputs as the package describes them."""
    model = ct.models.MLModel(str(path), skip_model_load=True)
    spec = model.get_spec()
    program = load(spec, spec.specificationVersion, model.weights_dir)
    return program.functions["main"], spec.description


def written(graph, folder):
    writer.write(graph, folder / "net.mlpackage")
    return read(folder / "net.mlpackage")


def computed(function, *inputs):
    values = dict(zip(function.inputs, map(in_numpy.wide, inputs), strict=True))

    def known(value):
        if isinstance(value, tuple | list):
            return [known(one) for one in value]
        return values.get(value.name, value.val)

    for operation in function.operations:
        if operation.op_type != "const":
            given = {k: known(v) for k, v in operation.inputs.items() if v is not None}
            values[operation.outputs[0].name] = of(operation.op_type, given)
    return [values[output.name] for output in function.outputs]


def of(kind, given):
    x = given.get("x")
    match kind:
        case _ if kind in ENTRIES:
            return ENTRIES[kind](x, given["y"])
        case "transpose":
            return x.transpose(given["perm"])
        case "identity":
            return x
        case "relu":
            return np.maximum(x, 0)
        case "clip":
            return np.clip(x, given["alpha"], given["beta"])
        case "constexpr_affine_dequantize":
            assert given["axis"] == 0
            codes = given["quantized_data"].astype(np.float64) - given["zero_point"]
            return codes * given["scale"].reshape(-1, *[1] * (codes.ndim - 1))
        case "linear":
            return x @ given["weight"].T + given["bias"]
        case "conv":
            pad = [0, 0, 0, 0] if given["pad_type"] == "valid" else given["pad"]
            at = dict(strides=given.get("strides", (1, 1)), dilation=given.get("dilations", (1, 1)))
            at |= dict(padding=(tuple(pad[:2]), tuple(pad[2:])), groups=given.get("groups", 1))
            kernel = given["weight"].transpose(2, 3, 1, 0)
            return in_numpy.conv(last(x), kernel, given["bias"], at).transpose(0, 3, 1, 2)
        case "max_pool" | "avg_pool":
            pad, is_max = given["pad"], kind == "max_pool"
            at = dict(strides=given["strides"], window=given["kernel_sizes"])
            at |= dict(padding=(tuple(pad[:2]), tuple(pad[2:])))
            view = in_numpy.windows(last(x), at, -math.inf if is_max else 0)
            assert is_max or not given["exclude_padding_from_average"]
            return (view.max((-1, -2)) if is_max else view.mean((-1, -2))).transpose(0, 3, 1, 2)
        case "reduce_mean" | "reduce_sum" | "reduce_max":
            reduce = {"mean": np.mean, "sum": np.sum, "max": np.max}[kind.removeprefix("reduce_")]
            return reduce(x, axis=tuple(given["axes"]), keepdims=bool(given["keep_dims"]))
        case "softmax":
            return in_numpy.special.softmax(x, axis=given["axis"])
        case "reshape":
            return x.reshape(given["shape"])
        case "tile":
            return np.tile(x, given["reps"])
        case "concat":
            return np.concatenate(given["values"], given["axis"])
        case "pad":
            pairs = np.reshape(given["pad"], (-1, 2))
            return np.pad(x, pairs, constant_values=given["constant_val"])
        case "slice_by_index":
            cuts = zip(given["begin"], given["end"], given["stride"], strict=True)
            return x[tuple(itertools.starmap(slice, cuts))]
        case "gather":
            return np.take(x, given["indices"], given["axis"])
        case "select":
            return np.where(given["cond"], given["a"], given["b"])
        case "sigmoid":
            return in_numpy.special.expit(x)
        case "rsqrt":
            return 1 / np.sqrt(x + given["epsilon"])
    raise AssertionError(kind)


def last(x):
    return x.transpose(0, 2, 3, 1)


def agree(graph, folder, *inputs):
    function, _ = written(graph, folder)
    for found, expected in zip(
        computed(function, *inputs), in_numpy.run(graph, *inputs), strict=True
    ):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_a_network_read_back_computes_what_it_did(tmp_path):
    graph = onnx_graphs.lenet(2)
    function, description = written(graph, tmp_path)
    x = normal(2, 12, 12, 1)
    np.testing.assert_allclose(
        computed(function, x)[0], in_numpy.run(graph, x)[0], rtol=0, atol=1e-5
    )
    kinds = [one.op_type for one in function.operations if one.op_type != "const"]
    layers = ["conv", "relu", "max_pool", "conv", "relu", "avg_pool"]
    # The image's channels come first at the input, and last again before they are flattened.
    middle = ["transpose", "reshape", "linear", "relu", "linear", "identity"]
    assert kinds == ["transpose", *layers, *middle]
    (given,), (made,) = description.input, description.output
    assert (given.name, list(given.type.multiArrayType.shape)) == ("input", [2, 12, 12, 1])
    assert made.name == "logits"


@pytest.mark.parametrize("name", ["mobilenet v2", "shufflenet v2", "exits", "narrowed", ".cna"])
def test_architectures_read_back_give_what_jax_does(name, tmp_path):
    made = traced(name)
    found = computed(written(made.graph, tmp_path)[0], made.inputs[:1])
    for ours, theirs in zip(found, made.theirs, strict=True):
        np.testing.assert_allclose(ours, theirs[:1], rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_residual_blocks_and_several_results(tmp_path):
    graph = onnx_graphs.resnet(2, 8, 4, 1)
    agree(graph, tmp_path, normal(2, 8, 8, 3))
    hand = onnx_graphs.Hand(input=(1, 4, 4, 3))
    inner = hand.conv("input", 4)
    chosen = hand.node("where", hand.node("less", inner, inner), inner, hand.node("neg", inner))
    mask = hand.constant(normal(1, 4, 1) > 0)
    chosen = hand.node("where", mask, chosen, hand.constant(np.float32(-2)))
    most = hand.node("reduce_max", inner, axes=(3,), keepdims=True)
    chosen = hand.node("where", hand.node("less", inner, most), most, chosen)
    both = hand.graph(hand.node("sigmoid", inner), inner, chosen)
    agree(both, tmp_path, normal(1, 4, 4, 3))


OF_IMAGES = {
    "dense": dict(constants=(normal(8, 3), normal(3)), bounds=(0, 6)),
    "add": dict(constants=(normal(8),), bounds=(-0.5, math.inf)),
    "sub": dict(constants=(normal(6, 8),), first=True),
    "div": dict(constants=(np.float32(3),)),
    "average_pool": dict(window=(3, 2), strides=(2, 1), padding=((1, 1), (0, 1))),
    "mean": dict(axes=(1,), keepdims=False),
    "reduce_max": dict(axes=(3,), keepdims=True),
    "softmax": dict(axis=3),
    "reshape": dict(shape=(2, 42, 8)),
    "transpose": dict(permutation=(0, 2, 3, 1)),
    "pad": dict(pads=((0, 0), (1, 0), (0, 2), (3, 0)), value=-1.5),
    "slice": dict(begin=(0, 1, 0, 2), end=(2, 7, 6, 8), strides=(1, 2, 3, 1)),
    "channel_shuffle": dict(shape=(2, 7, 6, 8), groups=4),
    "neg": {},
}


@pytest.mark.parametrize("operation", OF_IMAGES)
def test_operations_whose_axes_move_with_the_channels(operation, tmp_path):
    x = normal(2, 7, 6, 8)
    agree(one(operation, x, **OF_IMAGES[operation]), tmp_path, x)


def test_matrices_rows_and_copies(tmp_path):
    x, y = normal(2, 3, 5, 6), normal(2, 3, 6, 4)
    agree(one("matmul", x, y), tmp_path, x, y)
    indices = np.array([[1, 2, 0], [4, 3, 1]], np.int32)
    agree(one("gather", indices, constants=(normal(5, 8),), first=True), tmp_path, indices)
    row = normal(2, 1, 6, 1)
    agree(one("broadcast", row, shape=(2, 7, 6, 8)), tmp_path, row)
    agree(one("concat", x, x[:, :, :, :2], axis=3), tmp_path, x, x[:, :, :, :2])
    positive = np.abs(x)
    agree(one("rsqrt", positive), tmp_path, positive)


def test_kernels_of_integers_are_held_as_codes_and_scales(tmp_path):
    x = normal(2, 12, 12, 1)
    graph = with_integers(onnx_graphs.lenet(2), x)
    function, _ = written(graph, tmp_path)
    held = [o for o in function.operations if o.op_type == "constexpr_affine_dequantize"]
    kernels = [node.inputs[1] for node in graph.nodes if node.operation in ("conv", "dense")]
    assert len(held) == len(kernels) == 4
    for operation, name in zip(held, kernels, strict=True):
        codes, scales = graph.stored[name]
        order = (3, 2, 0, 1) if codes.ndim == 4 else (1, 0)
        found = operation.inputs["quantized_data"].val
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, codes.transpose(order))
        np.testing.assert_array_equal(operation.inputs["scale"].val, scales)
    floats = in_numpy.run(dataclasses.replace(graph, grids={}), x)[0]
    np.testing.assert_allclose(computed(function, x)[0], floats, rtol=0, atol=1e-5)


def test_packages_have_the_same_bytes_each_time(tmp_path):
    packages = []
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        (path,) = writer.write(onnx_graphs.lenet(), tmp_path / name / "net.mlpackage")
        packages.append(
            {f.relative_to(path): f.read_bytes() for f in path.rglob("*") if f.is_file()}
        )
    assert packages[0] == packages[1] == packages[2]
    assert len(packages[0]) == 3


def test_what_core_ml_has_not_is_refused_by_name(tmp_path):
    x = normal(2, 2, 3, 4, 5)
    graph = one("dense", x, constants=(normal(5, 3), normal(3)))
    with pytest.raises(Unsupported, match="Core ML has no dense of 'net': of 5 axes"):
        writer.write(graph, tmp_path / "net.mlpackage")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML predicts here")
def test_packages_are_not_run_where_there_is_no_core_ml(tmp_path):
    with pytest.raises(ValueError, match="Core ML predicts on macOS only"):
        runtime.load(tmp_path / "net.mlpackage", 1)
