"""Each operation in ncnn beside numpy, whole networks, integers, refusals, spoilt files."""

import dataclasses
import itertools
import math
from contextlib import nullcontext

import numpy as np
import pytest

from deploy.graphs.graph import FREE, Graph, Grid, Node, Stored, Unsupported, Value
from deploy.grids import CodesLost
from tests.deploy import in_numpy, onnx_graphs

pytest.importorskip("ncnn")

from deploy.runtimes import ncnn as runtime
from deploy.writers import ncnn as writer

RELU = (0, math.inf)
IMAGE, ROW, ROWS, FIVE = (2, 7, 6, 8), (2, 12), (2, 5, 12), (2, 3, 4, 5, 8)
SHAPES = (IMAGE, (2, 6, 5, 3), ROW, ROWS, FIVE)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def one(operation, *inputs, constants=(), shape=None, first=False, **attributes):
    """A graph of one node, of these inputs and then (or first) these constants."""
    names = [f"x{n}" for n in range(len(inputs))]
    fixed = [f"c{n}" for n in range(len(constants))]
    arrays = dict(zip(names + fixed, [*inputs, *constants], strict=True))
    order = tuple(fixed + names if first else names + fixed)
    node = Node(operation=operation, inputs=order, output="y", attributes=attributes, layer="net")
    found = in_numpy.one(node, [in_numpy.wide(arrays[name]) for name in order], shape)
    values = {name: Value(array.shape, str(array.dtype)) for name, array in arrays.items()}
    return Graph(
        inputs=tuple(names),
        outputs=("y",),
        nodes=(node,),
        values=values | {"y": Value(found.shape)},
        constants={name: arrays[name] for name in fixed},
    )


def ran(graph, folder, *inputs):
    writer.write(graph, folder / "net.param")
    return runtime.load(folder / "net.param", 1)(*inputs)


def agree(graph, folder, *inputs, rtol=2e-6):
    found = ran(graph, folder, *inputs)
    (expected,) = in_numpy.run(graph, *inputs)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize(
    ("size", "channels", "options"),
    [
        ((3, 3), (3, 16), {}),
        ((3, 3), (16, 16), dict(strides=(2, 2), bounds=RELU)),
        ((3, 3), (16, 8), dict(strides=(2, 2), padding=((0, 1), (0, 1)), bounds=(0, 6))),
        ((1, 1), (8, 5), dict(padding=((0, 0), (0, 0)), bounds=(-1, 1))),
        ((5, 3), (4, 7), dict(strides=(1, 2), padding=((2, 0), (1, 2)), bounds=(-math.inf, 0.5))),
        ((3, 3), (8, 8), dict(padding=((2, 2), (2, 2)), dilation=(2, 2))),
        ((3, 3), (8, 8), dict(groups=8, bounds=(0, 6))),
        ((3, 3), (8, 16), dict(groups=8, strides=(2, 2))),
        ((3, 3), (8, 16), dict(groups=2, bounds=RELU)),
        ((1, 7), (8, 8), dict(padding=((0, 0), (3, 3)))),
    ],
)
def test_convolutions(size, channels, options, tmp_path):
    inside, outside = channels
    settings = dict(strides=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1) | options
    bounds = settings.pop("bounds", (-math.inf, math.inf))
    x, bias = normal(2, 13, 11, inside), normal(outside)
    kernel = normal(*size, inside // settings["groups"], outside)
    agree(
        one("conv", x, constants=(kernel, bias), bounds=bounds, **settings), tmp_path, x, rtol=1e-5
    )


@pytest.mark.parametrize("shape", [ROW, ROWS, (2, 4, 5, 12)])
def test_dense_of_rows_and_of_pixels(shape, tmp_path):
    x, constants = normal(*shape), (normal(12, 16), normal(16))
    agree(one("dense", x, constants=constants, bounds=RELU), tmp_path, x)


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 3, 5, 6)])
def test_products_of_matrices(shape, tmp_path):
    x, y = normal(*shape), normal(*shape[:-2], shape[-1], 7)
    agree(one("matmul", x, y), tmp_path, x, y)


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div", "max", "min"])
def test_two_values_of_shapes_that_numpy_broadcasts(operation, tmp_path):
    for shape in SHAPES if operation == "sub" else SHAPES[:1]:
        x, number, of_channels = normal(*shape), np.float32(1.7), normal(shape[-1])
        agree(one(operation, x, x[::-1]), tmp_path, x, x[::-1])
        for constant, first in itertools.product((number, of_channels, x[:1]), (False, True)):
            agree(one(operation, x, constants=(constant,), first=first), tmp_path, x)
        for other in (x[..., :1], x[:, :1]):
            agree(one(operation, x, other), tmp_path, x, other)
            agree(one(operation, other, x), tmp_path, other, x)
    x, y = normal(2, 1, 1, 8), normal(2, 7, 6, 1)
    agree(one(operation, x, y), tmp_path, x, y)


def test_bounds_of_a_sum_and_powers(tmp_path):
    x = normal(*IMAGE)
    agree(one("add", x, x), tmp_path, x, x)
    for bounds in (RELU, (0, 6), (-0.25, 0.5)):
        agree(one("clip", x, bounds=bounds), tmp_path, x)
    for base, exponent in ((x, 2), (abs(x), 0.5), (x, -1), (abs(x), -0.5)):
        agree(one("pow", base, constants=(np.float32(exponent),)), tmp_path, base)
    agree(one("pow", x, constants=(np.float32(2),), first=True), tmp_path, x)


@pytest.mark.parametrize(
    "operation", ["exp", "neg", "abs", "sign", "tanh", "sigmoid", "erf", "log", "sqrt", "rsqrt"]
)
def test_one_value(operation, tmp_path):
    for shape in (IMAGE, ROW, ROWS):
        x = 3 * normal(*shape)
        x = np.abs(x) + 1e-3 if operation in ("log", "sqrt", "rsqrt") else x
        agree(one(operation, x), tmp_path, x)


def test_choices_by_a_constant(tmp_path):
    for shape in (IMAGE, ROWS):
        x, y, mask = normal(*shape), normal(*shape), normal(*shape)[:1] > 0
        fill = np.where(mask[..., :1], np.float32(-1e30), np.float32(2))
        for constants, given in (((mask,), (x, y)), ((mask[..., :1], fill), (x,))):
            agree(one("where", *given, constants=constants, first=True), tmp_path, *given)


@pytest.mark.parametrize("operation", ["max_pool", "average_pool"])
def test_windows_whose_averages_count_zeros(operation, tmp_path):
    for channels, (window, strides, padding) in itertools.product(
        (3, 8),
        [
            ((2, 2), (2, 2), ((0, 0), (0, 0))),
            ((3, 3), (2, 2), ((1, 1), (1, 1))),
            ((3, 3), (2, 2), ((0, 1), (0, 1))),
            ((3, 2), (1, 3), ((1, 0), (0, 1))),
            ((5, 5), (1, 1), ((2, 2), (2, 2))),
            ((3, 3), (2, 2), ((0, 0), (0, 0))),
        ],
    ):
        x = normal(2, 9, 10, channels)
        agree(one(operation, x, window=window, strides=strides, padding=padding), tmp_path, x)


@pytest.mark.parametrize("operation", ["mean", "sum", "reduce_max"])
def test_reductions_over_all_sets_of_axes(operation, tmp_path):
    for shape in (ROW, ROWS, IMAGE, FIVE) if operation == "mean" else (IMAGE,):
        x = normal(*shape)
        for count in range(1, len(shape)):
            for axes in itertools.combinations(range(1, len(shape)), count):
                agree(one(operation, x, axes=axes, keepdims=True), tmp_path, x)
                if count < len(shape) - 1:
                    agree(one(operation, x, axes=axes, keepdims=False), tmp_path, x)


@pytest.mark.parametrize("shape", [ROW, ROWS, IMAGE, FIVE])
def test_movements(shape, tmp_path):
    x, rest = normal(*shape), len(shape) - 1
    for axis in range(1, len(shape)):
        agree(one("softmax", x, axis=axis), tmp_path, x)
        part = np.take(x, range(2), axis)
        agree(one("concat", x, part, axis=axis), tmp_path, x, part)
        row = np.take(x, [0], axis)
        agree(one("broadcast", row, shape=shape), tmp_path, row)
    for permutation in itertools.permutations(range(1, len(shape))):
        agree(one("transpose", x, permutation=(0, *permutation)), tmp_path, x)
    pads = [(0, 0), (0, 0) if rest == 4 else (2, 1), *[(1, 2)] * (rest - 1)]
    agree(one("pad", x, pads=tuple(pads), value=-1.5), tmp_path, x)
    cut = dict(begin=(0, *[1] * rest), end=(2, *(size - 1 for size in shape[1:])))
    agree(one("slice", x, **cut, strides=(1,) * len(shape)), tmp_path, x)


def test_strides_shuffled_channels_and_rows_of_a_table(tmp_path):
    x = normal(2, 9, 10, 8)
    for begin, end in (((0,) * 4, x.shape), ((0, 1, 0, 2), (2, 8, 10, 7))):
        agree(one("slice", x, begin=begin, end=end, strides=(1, 2, 3, 1)), tmp_path, x)
    agree(one("channel_shuffle", x, shape=x.shape, groups=4), tmp_path, x)
    indices = np.array([[1, 2, 0], [4, 3, 1]], np.int32)
    table = normal(5, 8)
    agree(one("gather", indices, constants=(table,), first=True), tmp_path, indices)


def test_every_shape_as_every_other(tmp_path):
    shapes = (2, 120), (2, 3, 40), (2, 3, 5, 8), (2, 15, 1, 8), (2, 1, 1, 120), (2, 2, 3, 4, 5)
    for before, after in itertools.permutations((*shapes, (2, 3, 40, 1)), 2):
        x = normal(*before)
        agree(one("reshape", x, shape=after), tmp_path, x)


def test_networks_with_several_readers_and_results(tmp_path):
    for made in (onnx_graphs.lenet(), onnx_graphs.resnet(side=8, width=8, blocks=1)):
        x = normal(3, *made.values["input"].shape[1:])
        found = ran(made, tmp_path, x)
        expected = np.concatenate([in_numpy.run(made, image[None])[0] for image in x])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    hand = onnx_graphs.Hand(input=(1, 4, 4, 3))
    inner = hand.conv("input", 4)
    hand.node("abs", hand.node("neg", inner))
    graph = hand.graph(hand.nodes[-1].output, inner, "input", inner)
    x = normal(2, 4, 4, 3)
    found = ran(graph, tmp_path, x)
    expected = in_numpy.run(graph, x)
    assert isinstance(found, tuple)
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, atol=2e-6)


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (one("equal", normal(*ROW), normal(*ROW)), "ncnn has no equal of 'net'"),
        (one("mean", normal(*ROWS), axes=(0,), keepdims=True), "mixes the examples"),
        (one("transpose", normal(*ROWS), permutation=(1, 0, 2)), "mixes the examples"),
        (one("softmax", normal(*ROW), axis=0), "mixes the examples"),
        (one("reshape", normal(2, 6), shape=(4, 3)), "mixes the examples"),
        (one("add", normal(2, 6), normal(1, 6)), "mixes the examples"),
        (one("add", normal(*ROW), constants=(normal(2, 1),)), "a constant for each example"),
        (one("pow", abs(normal(*ROW)), constants=(np.float32(1.5),)), "with the exponent 1.5"),
        (
            one("slice", normal(2, 6), begin=(0, 0), end=(2, 6), strides=(1, 2)),
            "with strides along other axes",
        ),
    ],
)
def test_what_ncnn_has_not_is_refused_by_name(graph, why, tmp_path):
    with pytest.raises(Unsupported, match=why):
        writer.write(graph, tmp_path / "net.param")
    assert not list(tmp_path.iterdir())


def test_names_that_the_file_cannot_hold_are_refused(tmp_path):
    for name in ("an input", "", "x" * 201):
        hand = onnx_graphs.Hand(**{name: (1, 3)})
        hand.node("neg", name)
        with pytest.raises(ValueError, match="ncnn's names have no spaces"):
            writer.write(hand.graph(), tmp_path / "net.param")


def symmetric(graph, *inputs, floats=()):
    """Results where inputs of products alone are rounded, to 255 points around zero."""
    values = {name: in_numpy.wide(array) for name, array in graph.constants.items()}
    values |= {name: in_numpy.wide(array) for name, array in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes:
        given = [values[name] for name in node.inputs]
        if node.operation in ("conv", "dense") and node.output not in floats:
            scale, zero, _ = graph.grids[node.inputs[0]]
            step = max(128 + zero, 127 - zero) * scale / 127
            codes = np.abs(given[0]) / step
            given[0] = np.sign(given[0]) * np.minimum(np.floor(codes + 0.5), 127) * step
        found = in_numpy.one(node, given, graph.values[node.output].shape)
        values[node.output] = np.clip(found, *node.attributes.get("bounds", FREE))
    return [values[name] for name in graph.outputs]


def separable():
    """A convolution, a depthwise one that reads its integers, a pointwise and a grouped one."""
    hand = onnx_graphs.Hand(input=(1, 8, 8, 3))
    x = hand.conv("input", 8)
    x = hand.conv(hand.conv(x, 8, groups=8), 16, size=1)
    x = hand.node("mean", hand.conv(x, 16, groups=2), axes=(1, 2), keepdims=False)
    return hand.graph(hand.dense(x, 5))


def with_integers(graph, x):
    """The graph with grids over what its values are for x, and with codes of its kernels."""
    found, stored, floats = in_numpy.values(graph, x), {}, {}
    of_nodes = [*graph.inputs, *(node.output for node in graph.nodes)]
    ends = {name: (min(found[name].min(), 0), max(found[name].max(), 0)) for name in of_nodes}
    steps = {name: (high - low) / 255 for name, (low, high) in ends.items()}
    for node in graph.nodes:
        if node.operation in ("conv", "dense"):
            kernel = graph.constants[node.inputs[1]]
            scales = np.abs(kernel).max(tuple(range(kernel.ndim - 1))) / np.float32(127)
            codes = np.rint(kernel / scales).astype(np.int8)
            stored[node.inputs[1]] = Stored(codes, scales)
            floats[node.inputs[1]] = codes * scales
    return dataclasses.replace(
        graph,
        constants={**graph.constants, **floats},
        grids={n: Grid(step, round(-128 - ends[n][0] / step)) for n, step in steps.items()},
        stored=stored,
    )


@pytest.fixture(scope="module", params=["resnet", "separable"])
def of_integers(request, tmp_path_factory):
    made = separable() if request.param == "separable" else onnx_graphs.resnet(1, 8, 8, 1)
    x = normal(4, 8, 8, 3)
    graph = with_integers(made, x)
    path = tmp_path_factory.mktemp("ncnn") / "net.param"
    is_grouped = request.param == "separable"
    with pytest.warns(CodesLost, match="conv3/kernel") if is_grouped else nullcontext():
        writer.write(graph, path)
    return graph, path, x


def test_integers_round_inputs_of_products_alone(of_integers):
    graph, path, x = of_integers
    found = runtime.load(path, 1)(x)
    grouped = {node.output for node in graph.nodes if node.attributes.get("groups", 1) == 2}
    expected = np.concatenate([symmetric(graph, image[None], floats=grouped)[0] for image in x])
    step = np.abs(expected).max() / 127
    # A float sum that lies between two points may round to the other one, as in one value of many.
    assert np.abs(found - expected).max() < step
    assert np.median(np.abs(found - expected)) < 1e-5 * np.abs(expected).max()


def test_codes_are_in_the_file_as_they_are_stored(of_integers):
    graph, path, _ = of_integers
    numbers = path.with_suffix(".bin").read_bytes()
    kinds = {name: kind for name, _, kind in runtime.operations(path)}
    for node in graph.nodes:
        if node.operation not in ("conv", "dense"):
            assert kinds[node.output] == "float32"
            continue
        codes = graph.stored[node.inputs[1]].codes
        order = (3, 2, 0, 1) if node.operation == "conv" else (1, 0)
        is_there = np.ascontiguousarray(codes.transpose(order)).tobytes() in numbers
        is_grouped = node.attributes.get("groups", 1) == 2
        assert is_there != is_grouped, node.output
        assert kinds[node.output] == ("float32" if is_grouped else "int8")


def test_a_convolution_that_only_convolutions_read_gives_integers_on(of_integers):
    graph, path, _ = of_integers
    lines = [line.split(" ") for line in path.read_text().splitlines()[2:]]
    gives = {words[1] for words in lines if {"8=101", "8=102"} & set(words)}
    floats = {node.output for node in graph.nodes if node.attributes.get("groups") == 2}
    wanted = set()
    for node in graph.nodes:
        after = [reader for reader in graph.nodes if node.output in reader.inputs]
        if all(r.operation == "conv" and r.output not in floats for r in (node, *after)):
            wanted.add(node.output)
    assert gives == wanted
    assert gives


@pytest.fixture
def files(tmp_path):
    writer.write(onnx_graphs.lenet(), tmp_path / "net.param")
    return tmp_path / "net.param", tmp_path / "net.bin"


def test_the_same_graph_makes_the_same_bytes(files, tmp_path):
    (tmp_path / "again").mkdir()
    again = writer.write(onnx_graphs.lenet(), tmp_path / "again" / "net.param")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in files]


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_cut_or_changed_is_refused(which, files):
    whole = files[which].read_bytes()
    middle = len(whole) // 2
    flipped = bytearray(whole)
    flipped[middle] ^= 1
    for content in (whole[:middle], whole[:-1], b"", flipped, whole + b"0", b"\xff\0" + whole):
        if content == whole[:-1] and not which:
            continue  # the last line's end
        files[which].write_bytes(content)
        with pytest.raises(ValueError, match=r"incomplete|changed since") as caught:
            runtime.load(files[0], 1)
        assert "\n" not in str(caught.value)


def test_files_of_others_and_missing_numbers_are_refused(files):
    files[1].unlink()
    with pytest.raises(ValueError, match=r"net\.bin, the file of its numbers, is not beside it"):
        runtime.load(files[0], 1)
    files[1].write_bytes(b"")
    files[0].write_text("7767517\n1 1\nInput data 0 1 data 0=4\n")
    with pytest.raises(ValueError, match="no file that"):
        runtime.load(files[0], 1)


def test_layers_that_ncnn_has_not_are_one_line(files):
    head = files[0].read_text().replace("Pooling", "Ballooning").splitlines()[:-1]
    sealed = f"Noop {writer.seal(head, files[1].read_bytes())} 0 0"
    files[0].write_text("\n".join([*head, sealed, ""]))
    with pytest.raises(ValueError, match="cannot read it"):
        runtime.load(files[0], 1)


def test_inputs_of_other_shapes_and_types_are_refused(files):
    run = runtime.load(files[0], 2)
    x = normal(1, 12, 12, 1)
    for wrong in (x[0], x[:, :11], x.astype(complex)):
        with pytest.raises(ValueError, match="the file takes"):
            run(wrong)
