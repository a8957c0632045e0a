"""`compress.quantize.grids` against numpy in float64 and onnxruntime's QuantizeLinear."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from compress import quantize
from compress.quantize import ranges

SHAPE = (3, 40)


def _weights(seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return (rng.standard_t(4, size=shape) + 0.3).astype("f4")


def _ends(bits, symmetric):
    highest = 2 ** (bits - 1) - 1 if symmetric else 2**bits - 1
    return (-highest if symmetric else 0), highest


def _reference(rows, bits, symmetric, method, share):
    """One row, one grid: integers, scale, zero point, in float64."""
    lowest, highest = _ends(bits, symmetric)

    def of(low, high):
        if symmetric:
            scale, zero = max(-low, high) / highest, 0
        else:
            low, high = min(low, 0), max(high, 0)
            scale = (high - low) / highest
            zero = np.round(-low / scale)
        steps = np.clip(np.round(row / scale) + zero, lowest, highest)
        return steps, scale, zero

    grids = []
    for row in np.float64(rows):
        low, high = row.min(), row.max()
        if method == "percentile" and symmetric:
            high = np.quantile(np.abs(row), share)
            low = -high
        elif method == "percentile":
            low, high = np.quantile(row, [1 - share, share])
        tried = [of(low, high)]
        if method == "mse":
            tried = [of(low * i / 100, high * i / 100) for i in range(100, 0, -1)]
        error = [np.sum((row - (steps - zero) * scale) ** 2) for steps, scale, zero in tried]
        grids.append(tried[int(np.argmin(error))])
    return [np.array(part) for part in zip(*grids, strict=True)]


@functools.cache
def _session(dtype, axis):
    attributes = {} if axis is None else {"axis": axis}
    of = TensorProto.INT8 if dtype == "int8" else TensorProto.UINT8
    each = [] if axis is None else [SHAPE[axis]]
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"], **attributes)],
        "quantize",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, each),
            helper.make_tensor_value_info("zero", of, each),
        ],
        [helper.make_tensor_value_info("y", of, SHAPE)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("symmetric", [True, False])
def test_integers_are_those_of_onnxruntime(symmetric, axis):
    weights = np.clip(8 * _weights(), -60, 60)
    weights[0, :4] = 0.25, 0.75, 1.25, -1.75  # halfway where the scale is 0.5, as the ends have it
    weights[0, 4:6] = 63.5, -63.5 if symmetric else -64
    values, scale, zero_point = quantize.uniform(weights, 8, symmetric, axis)
    assert values.dtype == zero_point.dtype == ("int8" if symmetric else "uint8")
    flat = (lambda a: np.asarray(a)) if axis is None else (lambda a: np.ravel(a))
    session = _session(str(values.dtype), axis)
    (expected,) = session.run(
        None, {"x": weights, "scale": flat(scale), "zero": flat(zero_point).astype(values.dtype)}
    )
    np.testing.assert_array_equal(values, expected)
    assert len(np.unique(expected)) > 20


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 5])
def test_grids_are_those_of_numpy(bits, symmetric, method):
    weights = _weights()
    stored = quantize.uniform(weights, bits, symmetric, 0, method, 0.95)
    values, scale, zero_point = _reference(weights, bits, symmetric, method, 0.95)
    assert stored.scale.shape == stored.zero_point.shape == (3, 1)
    np.testing.assert_allclose(stored.scale[:, 0], scale, rtol=1e-6)
    np.testing.assert_array_equal(stored.zero_point[:, 0], zero_point)
    np.testing.assert_array_equal(stored.values, values)
    dequantized = (values - zero_point[:, None]) * scale[:, None]
    np.testing.assert_allclose(quantize.dequantize(stored), dequantized, rtol=1e-6)


def test_the_search_errs_less_than_the_whole_range():
    weights = _weights()
    errors = {
        method: float(
            jnp.sum(
                (quantize.dequantize(quantize.uniform(weights, 2, True, 0, method)) - weights) ** 2
            )
        )
        for method in ("minmax", "mse")
    }
    assert errors["mse"] < 0.7 * errors["minmax"]


def test_hand_worked():
    stored = quantize.uniform(np.float32([-7, 0.5, 1.5, 2.5, -0.5, 3.49]), 4)
    np.testing.assert_array_equal(stored.values, [-7, 0, 2, 2, 0, 3])  # half to even
    assert float(stored.scale) == 1
    stored = quantize.uniform(np.float32([-1, 0, 2, 0.4]), 2, symmetric=False)
    assert (float(stored.scale), int(stored.zero_point)) == (1, 1)
    np.testing.assert_array_equal(stored.values, [0, 1, 3, 1])
    stored = quantize.uniform(np.float32([3, 6, 4.4]), 2, symmetric=False)  # widened to hold zero
    assert (float(stored.scale), int(stored.zero_point)) == (2, 0)
    np.testing.assert_array_equal(stored.values, [2, 3, 2])


@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=6, max_size=6),
    bits=st.sampled_from([2, 8, 16]),
    symmetric=st.booleans(),
)
def test_no_weight_moves_by_more_than_half_a_step_and_zero_by_nothing(values, bits, symmetric):
    weights = np.float32([[0, *values]])
    stored = quantize.uniform(weights, bits, symmetric)
    lowest, highest = _ends(bits, symmetric)
    assert np.min(stored.values) >= lowest
    assert np.max(stored.values) <= highest
    dequantized = np.asarray(quantize.dequantize(stored))
    assert dequantized[0, 0] == 0
    # an affine zero point is rounded itself: an end may lie half a step beyond the last integer
    most = (0.5 if symmetric else 1) * float(stored.scale)
    large = np.abs(weights).max()
    assert (
        np.abs(dequantized - weights)[weights != 0].max(initial=0)
        <= most * 1.001 + 1e-6 * large + 1e-36
    )


@pytest.mark.parametrize("method", ranges.RANGES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_channels_of_one_value_keep_it(symmetric, method):
    weights = np.float32([[0] * 4, [5] * 4, [-3] * 4, [1e-42, 0, 0, 0]])
    dequantized = quantize.dequantize(quantize.uniform(weights, 4, symmetric, 0, method))
    np.testing.assert_allclose(dequantized, weights, rtol=1e-6, atol=1e-37)
    assert (np.asarray(dequantized)[0] == 0).all()


def test_a_mirrored_weight_has_the_mirrored_integer():
    stored, mirrored = (quantize.uniform(s * _weights(), 8) for s in (1, -1))
    np.testing.assert_array_equal(stored.values, -np.asarray(mirrored.values))
    clipped = quantize.uniform(_weights(), 2, range="percentile", share=0.6)
    assert (np.min(clipped.values), np.max(clipped.values)) == (-1, 1)


def test_shapes_and_dtypes():
    for bits, symmetric, dtype in (
        (2, True, "int8"), (8, False, "uint8"), (9, True, "int16"), (16, False, "uint16"),
    ):  # fmt: skip
        stored = jax.eval_shape(
            lambda w, bits=bits, symmetric=symmetric: quantize.uniform(w, bits, symmetric, -2),
            jnp.ones((2, 3, 4), jnp.bfloat16),
        )
        assert stored.values.dtype == stored.zero_point.dtype == dtype
        assert stored.values.shape == (2, 3, 4)
        assert (stored.scale.dtype, stored.scale.shape) == (np.float32, (1, 3, 1))
    with jax.enable_x64(True):
        assert quantize.uniform(np.ones(2), 4).scale.dtype == np.float64


def test_jit_and_vmap_give_the_same():
    weights = _weights(0, (2, *SHAPE))
    run = functools.partial(quantize.uniform, bits=4, symmetric=False, axis=1, range="mse")
    mapped = jax.jit(jax.vmap(run))(weights)
    for r in (0, 1):
        alone = run(weights[r])
        np.testing.assert_array_equal(mapped.values[r], alone.values)
        np.testing.assert_allclose(mapped.scale[r], alone.scale, rtol=1e-6)


class TestFakeQuantize:
    grid = quantize.Grid(jnp.float32(0.5), jnp.int32(3), jnp.int32(0), jnp.int32(15))
    values = np.float32([-1.76, -1.5, 0, 0.26, 0.75, 6, 6.2, 6.3])

    def test_values_are_points_of_the_grid(self):
        dequantized = quantize.fake_quantize(self.values, self.grid)
        np.testing.assert_array_equal(dequantized, [-1.5, -1.5, 0, 0.5, 1, 6, 6, 6])
        # a plain x + stop_gradient(q − x) would miss the grid by a last bit here
        weights = _weights()
        stored = quantize.uniform(weights, 5)
        dequantized = quantize.fake_quantize(weights, quantize.grid(weights, 5))
        np.testing.assert_array_equal(dequantized, quantize.dequantize(stored))

    def test_the_gradient_passes_where_nothing_is_clipped(self):
        toward = np.arange(1, 9, dtype="f4")
        gradient = jax.jit(
            jax.grad(lambda x: jnp.sum(toward * quantize.fake_quantize(x, self.grid)))
        )
        np.testing.assert_array_equal(gradient(self.values), [0, 2, 3, 4, 5, 6, 7, 0])
        _, tangent = jax.jvp(
            lambda x: quantize.fake_quantize(x, self.grid), (self.values,), (toward,)
        )
        np.testing.assert_array_equal(tangent, [0, 2, 3, 4, 5, 6, 7, 0])

    def test_the_grid_of_the_weights_themselves_has_no_gradient(self):
        weights = _weights()
        gradient = jax.grad(lambda w: jnp.sum(quantize.fake_quantize(w, quantize.grid(w, 4))))(
            weights
        )
        np.testing.assert_array_equal(gradient, np.ones(SHAPE))

    def test_short_floats_come_back_short(self):
        dequantized = quantize.fake_quantize(jnp.asarray(self.values, jnp.bfloat16), self.grid)
        assert dequantized.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.float32(dequantized), [-1.5, -1.5, 0, 0.5, 1, 6, 6, 6])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 1}, "bits 1 is outside 2…16"),
        ({"bits": 17}, "bits 17 is outside 2…16"),
        ({"bits": "8"}, "bits must be an integer, not '8'"),
        ({"axis": 2}, "axis 2 is outside -2…1, the axes of the array"),
        ({"axis": -3}, "axis -3 is outside -2…1, the axes of the array"),
        ({"axis": 0.5}, "axis must be an integer or None, not 0.5"),
        ({"range": "max"}, "unknown range 'max' (known: minmax, percentile, mse)"),
        ({"share": 0.5}, "share 0.5 is outside (0.5, 1]"),
        ({"share": 99.9}, "share 99.9 is outside (0.5, 1]"),
        ({"weights": np.float32([[np.nan, 1]])}, "1 of 2 entries of the weights are not finite"),
        ({"weights": np.ones((2, 0))}, "the weights is empty: shape (2, 0)"),
        (
            {"weights": np.full((1, 1), 9e37, np.float32)},
            "the weights reach 9e+37, beyond 8.51e+37 of float32",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        quantize.uniform(**{"weights": _weights(), "bits": 8, **arguments})


@pytest.mark.parametrize("bits", [2, 8, 16])
def test_the_largest_weights_that_are_taken_come_back(bits):
    weights = np.float32([-8.5e37, 0, 8.5e37])
    np.testing.assert_array_equal(quantize.dequantize(quantize.uniform(weights, bits))[1], 0)
    np.testing.assert_allclose(quantize.dequantize(quantize.uniform(weights, bits)), weights)
