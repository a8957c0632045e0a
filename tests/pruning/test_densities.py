"""`pruning.densities` against its formula in plain numpy, and counts against exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import densities

LENET = {"fc1/kernel": (784, 300), "fc2/kernel": (300, 100), "output/kernel": (100, 10)}
CONV = {"conv/kernel": (3, 3, 16, 32), "dense/kernel": (512, 10), "first/kernel": (3, 3, 3, 16)}
SHAPES = st.dictionaries(
    st.sampled_from("abcde"),
    st.lists(st.integers(1, 20), min_size=1, max_size=4).map(tuple),
    min_size=1,
)
METHODS = (densities.uniform, densities.erdos_renyi, densities.erdos_renyi_kernel)


def reference(shapes, density, axes):
    """Plain numpy: one scale for all, with the largest made dense until none exceeds 1."""
    names = sorted(shapes)
    size = np.array([math.prod(shapes[n]) for n in names], float)
    raw = np.array([sum(shapes[n][axes]) / math.prod(shapes[n][axes]) for n in names])
    dense = np.zeros(len(names), bool)
    while True:
        scale = (density * size.sum() - size[dense].sum()) / (raw * size)[~dense].sum()
        worst = np.max(raw[~dense])
        if scale * worst <= 1:
            return dict(zip(names, np.where(dense, 1.0, scale * raw), strict=True))
        dense |= ~dense & (raw == worst)


@pytest.mark.parametrize("shapes", [LENET, CONV])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.5])
def test_both_distributions_are_the_formula(shapes, density):
    kernel = densities.erdos_renyi_kernel(shapes, density)
    assert kernel == pytest.approx(reference(shapes, density, slice(None)))
    plain = densities.erdos_renyi(shapes, density)
    assert plain == pytest.approx(reference(shapes, density, slice(-2, None)))
    assert (kernel == plain) == (shapes is LENET)


def test_a_layer_above_one_stays_dense_and_the_rest_is_raised():
    # by hand: 0.5 × 110 = 55 weights, of which 10 are those of b; a has 45 of 100 left
    assert densities.erdos_renyi({"a": (10, 10), "b": (2, 5)}, 0.5) == {"a": 0.45, "b": 1.0}


@pytest.mark.parametrize("method", METHODS)
@given(shapes=SHAPES, density=st.floats(0, 1))
def test_counts_are_exact_in_total_and_next_to_the_densities(method, shapes, density):
    shared = method(shapes, density)
    kept = densities.counts(shapes, shared)
    total = sum(map(math.prod, shapes.values()))
    exact = Fraction(density) * total
    assert abs(sum(kept.values()) - exact) <= Fraction(1, 2) + Fraction(1, 10**5)
    if abs(exact % 1 - Fraction(1, 2)) > Fraction(1, 10**5):
        assert sum(kept.values()) == round(density * total)
    for path, count in kept.items():
        assert isinstance(count, int)
        assert abs(count - shared[path] * math.prod(shapes[path])) < 1 + 1e-5
        assert 0 <= count <= math.prod(shapes[path])


def test_counts_by_hand():
    # 2.5 + 2.5 + 1.5 = 6.5, which rounds to 6: one more than the whole parts, and a is the first
    assert densities.counts({"a": (5,), "b": (5,), "c": (3,)}, dict.fromkeys("abc", 0.5)) == {
        "a": 3,
        "b": 2,
        "c": 1,
    }


@pytest.mark.parametrize("method", METHODS)
def test_bad_densities_and_no_shapes_are_refused(method):
    for density in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"density .* is outside \[0, 1\]"):
            method(LENET, density)
    with pytest.raises(ValueError, match="no shapes"):
        method({}, 0.5)


def test_counts_refuse_other_paths_and_bad_densities():
    with pytest.raises(ValueError, match=r"differ in the paths \['b'\]"):
        densities.counts({"a": (2,)}, {"a": 0.5, "b": 0.5})
    with pytest.raises(ValueError, match="outside"):
        densities.counts({"a": (2,)}, {"a": 1.5})
