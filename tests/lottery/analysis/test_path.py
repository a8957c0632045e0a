"""Instability against a plain loop over the path."""

import jax.numpy as jnp
import numpy as np
import pytest

from lottery import analysis

FIRST = {"a": np.array([1.0, -2.0], np.float32), "b": {"c": np.array([[0.5]], np.float32)}}
SECOND = {"a": np.array([-1.0, 2.0], np.float32), "b": {"c": np.array([[1.5]], np.float32)}}


def loss(tree):
    return np.sum(tree["a"] ** 2) + tree["b"]["c"][0, 0]


def test_it_is_the_worst_error_minus_the_mean_of_the_ends():
    def hill(tree):  # highest between the ends
        return 7 - loss(tree)

    errors = []
    for point in range(30):
        share = point / 29
        a = [1 - 2 * share, -2 + 4 * share]
        errors.append(7 - (a[0] ** 2 + a[1] ** 2 + 0.5 + share))
    found = analysis.instability(hill, FIRST, SECOND)
    np.testing.assert_allclose(found.errors, errors, rtol=1e-5)
    assert found.errors.shape == (30,)
    assert found.instability == pytest.approx(max(errors) - (errors[0] + errors[-1]) / 2, rel=1e-5)


def test_both_ends_are_points_exactly_and_a_valley_has_none():
    seen = []
    found = analysis.instability(lambda tree: seen.append(tree) or loss(tree), FIRST, SECOND, 3)
    for end, tree in ((FIRST, seen[0]), (SECOND, seen[-1])):
        np.testing.assert_array_equal(tree["a"], end["a"])
    np.testing.assert_allclose(seen[1]["b"]["c"], [[1.0]])
    assert found.instability == 6.5 - 6.0  # the worst is an end
    flat = analysis.instability(lambda _: 0.25, FIRST, SECOND)
    assert flat.instability == 0


def test_an_error_may_be_of_several_data_sets_and_dtypes_stay():
    first, second = ({"a": jnp.asarray([x], jnp.bfloat16), "n": np.arange(2)} for x in (0, 1))

    def error(tree):
        assert tree["a"].dtype == jnp.bfloat16
        np.testing.assert_array_equal(tree["n"], [0, 1])
        return np.array([float(tree["a"][0]), 1.0])

    found = analysis.instability(error, first, second, points=2)
    np.testing.assert_array_equal(found.errors, [[0, 1], [1, 1]])
    np.testing.assert_array_equal(found.instability, [0.5, 0])


@pytest.mark.parametrize(
    ("second", "points", "said"),
    [
        ({"a": SECOND["a"]}, 30, "different trees: only one of them has b/c"),
        ({**SECOND, "a": np.zeros(3, np.float32)}, 30, r"a has the shape \(2,\) at one end"),
        ({**SECOND, "a": np.array([np.nan, 0], np.float32)}, 30, "a has entries that are not fin"),
        (SECOND, 1, "points=1 must be an integer of at least 2"),
    ],
)
def test_ends_between_which_there_is_no_path_are_refused(second, points, said):
    with pytest.raises(ValueError, match=said):
        analysis.instability(loss, FIRST, second, points)


def test_integers_that_differ_and_errors_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="n is no float, and differs"):
        analysis.instability(loss, {"n": np.array([1])}, {"n": np.array([2])})
    with pytest.raises(ValueError, match="not finite at point 1 of 3"):
        analysis.instability(lambda t: 1.0 if t["a"][0] else np.inf, FIRST, SECOND, 3)
