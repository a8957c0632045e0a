"""`compress.quantize.sums` against sums of exact fractions."""

import itertools
from fractions import Fraction

import jax
import numpy as np
import pytest

from compress.quantize import sums


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_differences_are_right_to_the_last_bit_though_the_sums_are_large(size):
    rng = np.random.default_rng(size)
    values = (rng.normal(size=size) * 10.0 ** rng.integers(-3, 4, size)).astype("f4")
    ends = np.unique(np.concatenate([[0, size], rng.integers(0, size + 1, 20)]))
    prefix = jax.jit(sums.prefix)(values)
    assert [part.shape for part in prefix] == [(size + 1,)] * 2
    differences = sums.between(prefix, ends)
    expected = [
        float(sum(map(Fraction, values[a:b].tolist()))) for a, b in itertools.pairwise(ends)
    ]
    np.testing.assert_allclose(differences, expected, rtol=2e-7)


def test_a_pair_holds_what_one_float_cannot():
    values = np.full(4096, np.float32(0.1))
    high, low = sums.prefix(values)
    exact = np.arange(4097) * float(np.float32(0.1))
    np.testing.assert_allclose(np.float64(high) + np.float64(low), exact, rtol=1e-13)
    assert np.max(np.abs(np.float64(high) - exact)) > 1e-6


def test_in_float64_where_the_values_are():
    with jax.enable_x64(True):
        assert {part.dtype for part in sums.prefix(np.ones(3))} == {np.dtype("f8")}
