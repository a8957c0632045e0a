"""`compress.quantize.activations` against numpy over all batches."""

import re

import numpy as np
import pytest

from compress import quantize


def _batches():
    rng = np.random.default_rng(0)
    return [rng.gamma(2, 1, (size, 3)).astype("f4") - 0.5 for size in (6, 4, 6)]


def _limits(grid):
    """The least and greatest value that the grid has."""
    zero = np.asarray(grid.zero_point)
    return (grid.lowest - zero) * grid.scale, (grid.highest - zero) * grid.scale


def _affine(low, high, bits):
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = (high - low) / (2**bits - 1)
    return scale, np.round(-low / scale)


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("method", ["minmax", "moving", "percentile"])
def test_ranges_are_those_of_numpy(method, axis):
    batches = _batches()
    over = None if axis is None else (0,)
    whole = np.concatenate(batches)
    low, high = whole.min(over), whole.max(over)
    if method == "moving":
        low, high = batches[0].min(over), batches[0].max(over)
        for batch in batches[1:]:
            low = 0.8 * low + 0.2 * batch.min(over)
            high = 0.8 * high + 0.2 * batch.max(over)
    if method == "percentile":
        low, high = np.quantile(whole, [0.1, 0.9], axis=over)
    scale, zero_point = _affine(low, high, 8)
    grid = quantize.calibrate(iter(batches), 8, False, axis, method, share=0.9, decay=0.8)
    assert grid.scale.shape == (() if axis is None else (1, 3))
    np.testing.assert_allclose(np.squeeze(grid.scale), scale, rtol=1e-5)
    np.testing.assert_array_equal(np.squeeze(grid.zero_point), zero_point)
    assert (int(grid.lowest), int(grid.highest)) == (0, 255)


@pytest.mark.parametrize("axis", [None, 1, 0])
def test_the_search_is_that_of_all_batches_as_one(axis):
    batches = _batches()[::2] if axis == 0 else _batches()
    joined = np.concatenate(batches, axis=1 if axis == 0 else 0)
    grid = quantize.calibrate(batches, 3, False, axis, "mse")
    expected = quantize.grid(joined, 3, False, axis, "mse")
    np.testing.assert_allclose(grid.scale, expected.scale, rtol=1e-6)
    np.testing.assert_array_equal(grid.zero_point, expected.zero_point)
    assert grid.scale.shape == expected.scale.shape


def test_symmetric_reaches_the_larger_end():
    grid = quantize.calibrate([np.float32([-1, 3]), np.float32([-6, 2])], 4, symmetric=True)
    np.testing.assert_allclose(_limits(grid), [-6, 6], rtol=1e-6)


def test_then_activations_are_quantised():
    batches = _batches()
    grid = quantize.calibrate(batches, 8)
    rounded = quantize.fake_quantize(batches[0], grid)
    assert np.abs(rounded - batches[0]).max() <= float(grid.scale)
    np.testing.assert_allclose(
        quantize.fake_quantize(np.float32([[-50, 0, 50]]), grid).ravel(),
        [_limits(grid)[0], 0, _limits(grid)[1]],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batches": []}, "no batch to calibrate with"),
        ({"batches": [np.ones(2), np.ones(0)]}, "the batch 1 is empty: shape (0,)"),
        (
            {"batches": [np.ones(2), np.float32([1, np.nan])]},
            "1 of 2 entries of the batch 1 are not finite",
        ),
        (
            {"batches": [np.ones((2, 3)), np.ones((2, 4))], "axis": 1},
            "batch 1 has shape (2, 4), batch 0 (2, 3)",
        ),
        ({"batches": [np.ones((2, 3)), np.ones(3)]}, "batch 1 has shape (3,), batch 0 (2, 3)"),
        ({"axis": 1}, "axis 1 is outside -1…0, the axes of the array"),
        ({"bits": 1}, "bits 1 is outside 2…16"),
        ({"decay": 0}, "decay 0 is outside (0, 1]"),
        ({"range": "max"}, "unknown range 'max' (known: minmax, moving, percentile, mse)"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        quantize.calibrate(**{"batches": [np.ones(2)], "bits": 8, **arguments})
