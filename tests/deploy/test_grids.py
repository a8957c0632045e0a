"""`deploy.grids` against numpy over all calibration inputs."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from scipy import signal

from deploy import grids
from deploy.graphs.evaluate import evaluate
from deploy.graphs.graph import Grid, Stored
from tests.deploy.graphs_by_hand import chain, images, small

INPUTS = images(5)


@pytest.fixture(scope="module")
def graph():
    return small()


@pytest.fixture(scope="module")
def made(graph):
    return grids.quantized(graph, INPUTS)


def _affine(values):
    """scale and zero of codes −128 … 127 over the values' range and 0."""
    low, high = min(values.min(), 0), max(values.max(), 0)
    scale = (high - low) / 255
    return scale, round(-low / scale) - 128


def _conv(graph, kernel, x):
    """The convolution with ReLU, by scipy."""
    planes = [
        [signal.correlate(image[..., 0], kernel[..., 0, o], "same") for o in range(3)]
        for image in x
    ]
    return np.maximum(np.moveaxis(planes, 1, 3) + graph.constants["conv/bias"], 0)


def test_ranges_are_those_of_all_inputs(graph, made):
    kernel = made.constants["conv/kernel"]
    conv = _conv(graph, kernel, INPUTS)
    pooled = conv.reshape(5, 2, 2, 2, 2, 3).max((2, 4)).reshape(5, 12)
    dense = pooled @ made.constants["dense/kernel"] + graph.constants["dense/bias"]
    for name, values in {"input": INPUTS, "conv": conv, "dense": dense}.items():
        scale, zero = _affine(values)
        assert made.grids[name].scale == pytest.approx(scale, rel=1e-5), name
        assert made.grids[name].zero == zero, name
    assert made.grids["conv"].zero == -128  # the grid's end is the ReLU
    assert made.grids["pool"] == made.grids["flat"] == made.grids["conv"]
    assert made.grids["logits"] == Grid(1 / 256, -128)
    assert set(made.grids) == set(made.values) - set(made.constants)


def test_every_value_is_within_half_a_step(made):
    """The calibration inputs lie inside the grids: rounding is all that they lose."""
    from_floats = jax.jit(lambda x: evaluate(dataclasses.replace(made, grids={}), x))(INPUTS[:2])
    rounded = jax.jit(lambda x: evaluate(made, x))(INPUTS[:2])
    for name in ("input", "logits"):
        steps = np.asarray(rounded[name]) / made.grids[name].scale
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    error = np.abs(rounded["input"] - from_floats["input"])
    assert error.max() <= made.grids["input"].scale * 0.501


def test_kernels_get_codes_and_those_that_have_some_keep_them(graph, made):
    kernel, stored = graph.constants["conv/kernel"], made.stored["conv/kernel"]
    scales = np.abs(kernel).max((0, 1, 2)) / 127
    np.testing.assert_allclose(stored.scales, scales, rtol=1e-6)
    np.testing.assert_array_equal(stored.codes, np.rint(kernel / scales))
    assert (stored.codes.dtype, stored.scales.dtype) == (np.int8, np.float32)
    np.testing.assert_array_equal(
        made.constants["conv/kernel"], stored.codes * stored.scales.astype("f4")
    )
    four_bits = Stored(np.rint(kernel * 2).clip(-7, 7).astype("i1"), np.full(3, 0.5, "f4"))
    kept = grids.quantized(dataclasses.replace(graph, stored={"conv/kernel": four_bits}), INPUTS)
    assert kept.stored["conv/kernel"].codes is four_bits.codes
    np.testing.assert_array_equal(kept.stored["conv/kernel"].scales, four_bits.scales)
    np.testing.assert_array_equal(kept.constants["conv/kernel"], four_bits.codes * np.float32(0.5))


def test_codes_of_a_bias_are_the_products_of_scales(graph, made):
    node = made.nodes[0]
    codes, scales = grids.bias_codes(made, node)
    expected = made.grids["input"].scale * made.stored["conv/kernel"].scales
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
    np.testing.assert_allclose(codes * scales, graph.constants["conv/bias"], atol=scales.max())
    assert codes.dtype == np.int32


def test_biases_are_what_engines_add(graph, made):
    """Multiples of their products' scales; of a layer that is used twice, one for each use."""
    for node in made.nodes:
        if node.operation in ("conv", "dense"):
            codes, scales = grids.bias_codes(made, node)
            np.testing.assert_array_equal(
                made.constants[node.inputs[2]], np.float32(codes * scales)
            )
    assert np.any(made.constants["conv/bias"] != graph.constants["conv/bias"])
    steps = [
        ("dense", ("input", "k", "b"), "first", (1, 2), {}),
        ("dense", ("first", "k", "b"), "logits", (1, 2), {}),
    ]
    constants = {"k": np.array([[3, 1], [0, 2]], "f4"), "b": np.array([0.123, -1], "f4")}
    twice = grids.quantized(chain(steps, (1, 2), constants), np.array([[0.7, -1]], "f4"))
    first, second = (twice.constants[node.inputs[2]] for node in twice.nodes)
    for bias, value in ((first, "input"), (second, "first")):
        unit = twice.grids[value].scale * twice.stored["k"].scales
        np.testing.assert_allclose(bias, np.rint([0.123, -1] / unit) * unit, rtol=1e-6)
    assert np.any(first != second)


def _dense(kernel, bias, **options):
    constants = {"k": np.asarray(kernel, "f4"), "b": np.asarray(bias, "f4")}
    step = ("dense", ("input", "k", "b"), "logits", (1, 2), {})
    return chain([step], (1, 2), constants, **options)


def test_scales_leave_room_for_biases():
    inputs = np.array([[1.0, -1.0]], "f4")
    made = grids.quantized(_dense([[1e-9, 0], [0, 0]], [5.0, 3.0]), inputs)
    codes, scales = grids.bias_codes(made, made.nodes[0])
    np.testing.assert_allclose(codes * scales.astype("f8"), [5.0, 3.0], rtol=1e-6)
    np.testing.assert_array_equal(made.stored["k"].codes[:, 1], 0)  # pruned: any scale serves
    stored = {"k": Stored(np.array([[1, 2], [3, 4]], "i1"), np.full(2, 1e-9, "f4"))}
    kept = grids.quantized(_dense(np.zeros((2, 2)), [50.0, 0.0], stored=stored), inputs)
    with pytest.raises(ValueError, match=r"^the bias of 'logits' needs more than 32 bits beside"):
        grids.bias_codes(kept, kept.nodes[0])


def test_movements_keep_the_grid_except_padding_with_a_number():
    table = np.array([[-1.0, 0.0, 2.0]], "f4")
    steps = [
        ("pad", ("input",), "zeros", (1, 4), {"pads": ((0, 0), (1, 1)), "value": 0.0}),
        ("pad", ("input",), "nines", (1, 4), {"pads": ((0, 0), (1, 1)), "value": 9.0}),
        ("gather", ("table", "places"), "row", (1, 3), {}),
        ("tanh", ("zeros",), "squashed", (1, 4), {}),
    ]
    constants = {"table": table, "places": np.zeros(1, "i4")}
    made = grids.quantized(chain(steps, (1, 2), constants), np.ones((1, 2), "f4"))
    assert made.grids["zeros"] == made.grids["input"] == Grid(pytest.approx(1 / 255), -128)
    assert made.grids["nines"] == Grid(pytest.approx(9 / 255), -128)
    assert made.grids["row"] == grids.of_constant(table) == Grid(pytest.approx(3 / 255), -43)
    assert made.grids["squashed"] == Grid(1 / 128, 0)


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_what_a_mask_hides_takes_no_room(method):
    mask = np.array([[True, True, False]])
    steps = [
        ("where", ("mask", "input", "nothing"), "seen", (2, 3), {}),
        ("softmax", ("seen",), "logits", (2, 3), {"axis": 1}),
    ]
    constants = {"mask": mask, "nothing": np.full((1, 1), np.finfo("f4").min)}
    inputs = np.array([[1.0, 2.0, 5.0], [-3.0, 0.5, 5.0]], "f4")
    graph = chain(steps, (2, 3), constants)
    made = grids.quantized(graph, inputs, method)
    if method == "minmax":
        assert made.grids["seen"].scale == pytest.approx((2 + 3 + grids.BELOW) / 255)
    found = np.asarray(evaluate(made, inputs)["logits"])
    exact = np.asarray(evaluate(graph, inputs)["logits"])
    np.testing.assert_allclose(found, exact, atol=0.02)


@pytest.mark.parametrize("method", ["moving", "percentile", "mse"])
def test_other_ranges_are_those_of_activations(method):
    steps = [("neg", ("input",), "logits", (2, 3), {})]
    inputs = np.random.default_rng(0).gamma(1, 1, (4, 3)).astype("f4")
    made = grids.quantized(chain(steps, (2, 3)), inputs, method)
    expected = grids.activations.calibrate([-inputs[:2], -inputs[2:]], 8, range=method)
    assert made.grids["logits"].scale == pytest.approx(float(expected.scale), rel=1e-6)
    assert made.grids["logits"].zero == int(expected.zero_point) - 128 == 127


def test_wide_values_are_looked_at_in_part(monkeypatch):
    monkeypatch.setattr(grids, "ENTRIES", 8)
    steps = [("neg", ("input",), "logits", (1, 100), {})]
    inputs = np.linspace(0, 1, 200, dtype="f4").reshape(2, 100)
    sampled = grids._samples(chain(steps, (1, 100)), [(inputs[:1],), (inputs[1:],)], "mse")
    assert [len(batch) for batch in sampled["logits"]] == [4, 4]
    assert np.isin(-sampled["logits"][1], inputs[1]).all()


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        (np.ones((2, 4, 4)), {}, "must be of shapes [N, 4, 4, 1], N from 1, not [2, 4, 4]"),
        (np.ones((0, 4, 4, 1)), {}, "N from 1, not [0, 4, 4, 1]"),
        ((INPUTS, INPUTS), {}, "not [5, 4, 4, 1], [5, 4, 4, 1]"),
        (INPUTS, {"range": "widest"}, "unknown range 'widest'"),
        (
            np.full_like(INPUTS, np.inf),
            {},
            "value 'input' is not finite for the calibration inputs",
        ),
    ],
)
def test_mistakes_are_refused(graph, inputs, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        grids.quantized(graph, inputs, **options)


def test_what_has_grids_and_what_is_lost(made):
    with pytest.raises(ValueError, match="is one of integers already"):
        grids.quantized(made, INPUTS)
    with pytest.warns(grids.CodesLost, match=r"^ncnn: the stored integers of a, b are not in"):
        grids.say_lost("ncnn", ["a", "b"], "floats")
    grids.say_lost("ncnn", [], "floats")


def test_corrected_biases_take_mean_errors_away(graph):
    """By scipy on rounded inputs and kernels: before ReLU, means are those of the float layer."""
    seen = INPUTS[[0, 1, 2, 3, 4, 0]]  # batches of 2; the first one fills the last

    def means(kernel, x):
        flat = [
            [signal.correlate(image[..., 0], kernel[..., 0, o], "same") for o in range(3)]
            for image in x
        ]
        return np.mean(flat, (0, 2, 3))

    exact, bias = means(graph.constants["conv/kernel"], seen), graph.constants["conv/bias"]
    made = grids.quantized(graph, INPUTS, correct_biases=True)
    scale = made.grids["input"].scale
    change = exact - means(made.constants["conv/kernel"], np.rint(seen / scale) * scale)
    assert np.abs(change).min() > 1e-5
    steps = scale * made.stored["conv/kernel"].scales  # of biases, which are integers, too
    found = made.constants["conv/bias"] - bias
    assert np.all(np.abs(found - change) <= steps / 2 + 2e-6)
    plain = grids.quantized(graph, INPUTS)
    assert np.all(np.abs(plain.constants["conv/bias"] - bias) <= steps / 2 + 1e-6)
    assert np.max(np.abs(found) / steps) > 3
