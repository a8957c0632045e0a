"""Fixed-point arithmetic beside Python's integers and fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from deploy.graphs.graph import Grid
from deploy.integers import fixed


def by_hand(value, real):
    """A doubling product's upper half, halves up, then a shift, halves away from zero."""
    fraction, exponent = math.frexp(real)
    mantissa = math.floor(Fraction(fraction) * 2**31 + Fraction(1, 2))
    if mantissa == 2**31:
        mantissa, exponent = 2**30, exponent + 1
    value = value * 2 ** max(exponent, 0)
    high = math.floor(Fraction(value * mantissa, 2**31) + Fraction(1, 2))
    low = Fraction(high, 2 ** max(-exponent, 0))
    size = math.floor(abs(low) + Fraction(1, 2))
    return size if low >= 0 else -size


@pytest.mark.parametrize("real", [0.5, 0.25, 1e-6, 0.0372, 1 - 2**-40, 1.0, 1.75, 100.3])
def test_a_scaled_integer_is_that_of_exact_arithmetic(real):
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.integers(-(2**22), 2**22, 300), [0, 1, -1, 2, -2, 3, -3, 6, -6]])
    found = fixed.scaled(values, fixed.factor(real), twice=True)
    assert found.tolist() == [by_hand(int(value), real) for value in values]


def test_halves_round_up_in_the_product_and_away_from_zero_in_the_shift():
    half = fixed.factor(0.5)  # no shift: the product itself rounds
    assert fixed.scaled(np.array([1, -1, 3, -3]), half, twice=True).tolist() == [1, 0, 2, -1]
    quarter = fixed.factor(0.25)  # 2 × 0.5 is exact, then the shift rounds
    assert fixed.scaled(np.array([2, -2, 6, -6]), quarter, twice=True).tolist() == [1, -1, 2, -2]


@pytest.mark.parametrize("real", [0.5, 0.25, 1e-6, 0.0372, 1 - 2**-40, 1.0, 1.75, 100.3])
def test_rounded_once_it_is_the_nearest_integer(real):
    values = np.random.default_rng(0).integers(-(2**22), 2**22, 300)
    found = fixed.scaled(values, fixed.factor(real))
    factor = Fraction(int(fixed.factor(real).mantissa), 2**31) * Fraction(2) ** int(
        fixed.factor(real).shift
    )
    assert abs(factor / Fraction(real) - 1) <= Fraction(1, 2**31)
    exact = [math.floor(int(value) * factor + Fraction(1, 2)) for value in values]
    assert found.tolist() == exact


def test_a_scaled_integer_is_within_one_of_the_real_product():
    rng = np.random.default_rng(1)
    values, reals = rng.integers(-(2**30), 2**30, 500), 2.0 ** rng.uniform(-24, -1, 500)
    found = fixed.scaled(values, fixed.factor(reals))
    np.testing.assert_allclose(found, values * reals, rtol=2**-30, atol=1.0)


def test_a_large_factor_saturates_at_an_int32():
    found = fixed.scaled(np.array([10**6, -(10**6), 0]), fixed.factor(1e9))
    assert abs(found[0]) > 10**8
    assert abs(found[1]) > 10**8
    assert found[0] * found[1] < 0 == found[2]


def test_factors_too_small_for_a_shift_are_zero():
    assert fixed.scaled(np.array([2**30]), fixed.factor(1e-20)).tolist() == [0]


def test_codes_of_bounds():
    assert fixed.code_bounds((0.0, math.inf), Grid(0.1, -128)) == (-128, 127)
    assert fixed.code_bounds((0.0, 6.0), Grid(0.1, -28)) == (-28, 32)
    assert fixed.code_bounds((-math.inf, math.inf), Grid(0.1, 3)) == (-128, 127)


def test_moving_is_to_the_nearest_point_or_a_near_one():
    codes = np.arange(-128, 128).astype(np.int8)
    old, new = Grid(0.02, -10), Grid(0.05, 7)
    exact = np.clip((codes.astype(float) + 10) * 0.02 / 0.05 + 7, -128, 127)
    assert np.abs(fixed.moved(codes, old, new) - exact).max() <= 0.5 + 1e-6
    assert 0.5 < np.abs(fixed.moved(codes, old, new, twice=True) - exact).max() <= 0.75
    assert fixed.moved(codes, old, old) is codes
