import functools
import math

import numpy as np
import pytest
import scipy.special
from hypothesis import assume, given
from hypothesis import strategies as st

from groundwork.errors import UserError
from msdnet import exits

# shares


def test_shares_are_a_geometric_series_that_adds_up_to_one():
    np.testing.assert_allclose(exits.shares(3, 0.5), np.array([4, 2, 1]) / 7)
    np.testing.assert_allclose(exits.shares(3, 1), np.full(3, 1 / 3))
    np.testing.assert_allclose(exits.shares(3, 2), np.array([1, 2, 4]) / 7)
    np.testing.assert_allclose(exits.shares(1, 0.3), [1])


@given(st.floats(0.01, 1, exclude_max=True), st.integers(2, 9))
def test_shares_are_those_of_the_paper_s_probability_of_leaving(q, count):
    """q_k = z (1 − q)^(k − 1) q, with z such that they add up to 1."""
    plain = [(1 - q) ** k * q for k in range(count)]
    np.testing.assert_allclose(
        exits.shares(count, 1 - q), np.array(plain) / sum(plain), rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize("ratio", [math.exp(-30), math.exp(30)])
def test_extreme_ratios_leave_all_to_one_exit(ratio):
    found = exits.shares(9, ratio)
    assert found[0 if ratio < 1 else -1] == pytest.approx(1)
    assert np.isfinite(found).all()
    assert np.isfinite(exits.shares(40, ratio)).all()


# thresholds for shares, and what follows from them


def leaves_in_turn(confidences, shares):
    """Who leaves where, exit by exit with lists: the quota's most confident, ties together."""
    left, found, given_out = list(range(len(confidences))), {}, 0
    for k in range(len(shares) - 1):
        upto = round(float(np.cumsum(shares)[k]) * len(confidences))
        quota, given_out = upto - given_out, upto
        ranked = sorted(left, key=lambda i: -confidences[i][k])
        going = ranked[:quota]
        if going:
            least = confidences[going[-1]][k]
            going = [i for i in left if confidences[i][k] >= least]
        found.update(dict.fromkeys(going, k))
        left = [i for i in left if i not in going]
    found.update(dict.fromkeys(left, len(shares) - 1))
    return [found[i] for i in range(len(confidences))]


def routed_in_turn(confidences, thresholds):
    found = []
    for row in confidences:
        k = 0
        while k < len(thresholds) and not row[k] > thresholds[k]:
            k += 1
        found.append(k)
    return found


NEXT = np.nextafter(np.float32(1), np.float32(0))  # with nothing of float32 in between


@st.composite
def confidences(draw, least=1, most=40):
    """[N, K] with few values, hence many ties, or with many; float32 neighbours among them."""
    shape = draw(st.integers(least, most)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = np.append(rng.random(draw(st.sampled_from([0, 1, 3, 1000]))), [NEXT, 1])
    return rng.choice(values, shape).astype(draw(st.sampled_from(["float32", "float64"])))


@st.composite
def quotas(draw, count):
    """Also zeros, and all at one exit."""
    given = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    assume(sum(given))
    return np.array(given) / sum(given)


@given(st.data())
def test_shares_of_a_split_leave_as_in_a_plain_loop(data):
    rows = data.draw(confidences())
    wanted = data.draw(quotas(rows.shape[1]))
    found = exits.for_shares(rows, wanted)
    assert (found.shape, found.dtype) == ((rows.shape[1] - 1,), np.float64)
    assert exits.route(rows, found).tolist() == leaves_in_turn(rows, wanted)


@given(st.data())
def test_routes_are_those_of_a_plain_loop(data):
    rows = data.draw(confidences())
    values = st.sampled_from([*rows.ravel().tolist(), 0.5, -math.inf, math.inf])
    exits_less_one = rows.shape[1] - 1
    limits = data.draw(st.lists(values, min_size=exits_less_one, max_size=exits_less_one))
    found = exits.route(rows, limits)
    assert np.issubdtype(found.dtype, np.integer)
    assert found.tolist() == routed_in_turn(rows, limits)


@given(st.data())
def test_thresholds_lie_strictly_between_neighbouring_confidences(data):
    rows = data.draw(confidences())
    found = exits.for_shares(rows, data.draw(quotas(rows.shape[1])))
    left = np.arange(len(rows))
    for k, threshold in enumerate(found):
        values = rows[left, k].astype(np.float64)
        if np.isfinite(threshold):
            above, below = values[values > threshold].min(), values[values < threshold].max()
            assert threshold == (above + below) / 2
            assert below < threshold < above
        left = left[values <= threshold]


def test_equally_confident_ones_leave_together_and_all_where_all_are_equal():
    rows = np.array([[0.9, 0], [0.5, 0], [0.5, 0], [0.1, 0]])
    assert exits.for_shares(rows, np.array([0.5, 0.5])).tolist() == [0.3]
    assert exits.for_shares(np.full((4, 2), 0.5), np.array([0.25, 0.75])).tolist() == [-np.inf]
    assert exits.for_shares(np.full((4, 2), 0.5), np.array([0.0, 1.0])).tolist() == [np.inf]


def test_where_fewer_are_left_than_are_to_leave_all_do():
    rows = np.array([[0.5, 0.1, 0], [0.5, 0.2, 0], [0.5, 0.3, 0], [0.1, 0.4, 0]])
    found = exits.for_shares(rows, np.array([0.25, 0.5, 0.25]))  # three leave for one, one is left
    assert found.tolist() == [0.3, -np.inf]
    assert exits.route(rows, found).tolist() == [0, 0, 0, 1]


def test_neighbouring_float32_numbers_are_told_apart():
    rows = np.array([[1, 0]] * 5 + [[NEXT, 0]] * 15, np.float32)
    found = exits.for_shares(rows, np.array([0.25, 0.75]))
    assert exits.route(rows, found).tolist() == [0] * 5 + [1] * 15


def test_what_is_never_confident_enough_leaves_at_the_last_exit():
    rows = np.array([[np.nan] * 3, [0.1, 0.2, -np.inf]])
    assert exits.route(rows, [0.5, 0.5]).tolist() == [2, 2]


def test_routes_need_a_threshold_less_than_exits():
    for wrong in ([], [0.5, 0.5, 0.5], [[0.5, 0.5]], 0.5):
        with pytest.raises(UserError, match="3 exits need 2 thresholds, not an array of"):
            exits.route(np.zeros((4, 3)), wrong)
    with pytest.raises(UserError, match=r"thresholds=\[0\.5, nan\] must not be NaN"):
        exits.route(np.zeros((4, 3)), [0.5, math.nan])
    with pytest.raises(UserError, match="thresholds must be numbers"):
        exits.route(np.zeros((4, 3)), ["a", "b"])


# thresholds for a budget

COSTS = [1.0, 3.0, 4.0, 9.0]


@functools.cache
def untied(examples=200, count=4):
    """Confidences that are all different, [N, K]."""
    size = examples * count
    return np.random.default_rng(1).permutation(size).reshape(examples, count) / size


def spent(rows, costs, limits):
    return np.mean(np.asarray(costs)[exits.route(rows, limits)])


@given(st.floats(COSTS[0], COSTS[-1]))
def test_thresholds_keep_a_budget_and_spend_nearly_all_of_it(budget):
    rows = untied()
    found = exits.thresholds(rows, COSTS, budget)
    assert (found.shape, found.dtype) == ((3,), np.float64)
    cost = spent(rows, COSTS, found)
    assert cost <= budget
    # at one ratio, one example at each exit may move on: each costs the way to its next exit
    assert cost >= budget - (COSTS[-1] - COSTS[0]) / len(rows) - 1e-9


@given(st.data())
def test_a_budget_is_kept_on_any_split(data):
    rows = data.draw(confidences(50, 60))
    count = rows.shape[1]
    costs = np.cumsum(data.draw(st.lists(st.floats(0, 5), min_size=count, max_size=count)))
    budget = data.draw(st.floats(costs[0], costs[-1] + 1))
    cost = spent(rows, costs, exits.thresholds(rows, costs, budget))
    assert cost <= budget * (1 + 1e-12)  # the mean of equal costs is rounded too


@given(st.lists(st.floats(COSTS[0], COSTS[-1] + 1), min_size=2, max_size=5))
def test_a_larger_budget_spends_no_less(budgets):
    rows = untied()
    limits = [exits.thresholds(rows, COSTS, budget) for budget in sorted(budgets)]
    costs = [spent(rows, COSTS, found) for found in limits]
    assert costs == sorted(costs)


@pytest.mark.parametrize("seed", range(4))
def test_with_many_ties_no_threshold_could_be_higher(seed):
    """Saturated confidences: a higher ratio lets others leave earlier, and may spend less."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=(100, 1)) + rng.normal(size=(100, 4))
    rows = np.minimum(np.round(scipy.special.expit(score) * 20) / 20, 0.6)
    for budget in np.linspace(1.05, 8.95, 9):
        found = exits.thresholds(rows, COSTS, budget)
        assert spent(rows, COSTS, found) <= budget
        if budget - spent(rows, COSTS, found) <= (COSTS[-1] - COSTS[0]) / len(rows):
            continue
        for k, limit in enumerate(found):
            arrived = rows[exits.route(rows, found) >= k, k]
            above = np.unique(arrived[arrived > limit])
            if len(above):  # those of the least of them are to go on too
                higher = found.copy()
                higher[k] = above[0]
                assert spent(rows, COSTS, higher) > budget


def test_where_all_are_equally_confident_at_an_exit_the_next_ones_share_the_budget():
    rows = np.stack([np.full(40, 0.5), np.arange(40) / 40, np.zeros(40)], 1)
    found = exits.thresholds(rows, [1, 2, 3], 2.25)
    assert found[0] == np.inf
    assert np.bincount(exits.route(rows, found)).tolist() == [0, 30, 10]
    assert exits.thresholds(rows, [1, 2, 3], 1.9).tolist() == [-np.inf] * 2


def test_a_budget_of_the_first_exit_takes_all_there_and_of_the_last_lets_all_go_on():
    rows = untied()
    assert exits.thresholds(rows, COSTS, 1.0)[0] == -np.inf
    assert spent(rows, COSTS, exits.thresholds(rows, COSTS, 1.0)) == 1
    for budget in (9.0, 9.5, math.inf):
        assert exits.thresholds(rows, COSTS, budget).tolist() == [np.inf] * 3
    assert exits.thresholds(rows[:, :1], [2], 2.0).tolist() == []


def test_a_budget_may_be_spent_to_the_last_example():
    rows = np.stack([np.arange(40) / 40, np.zeros(40)], 1)
    for going_on in (1, 10, 39):
        found = exits.thresholds(rows, [1, 2], 1 + going_on / 40)
        assert np.sum(exits.route(rows, found)) == going_on


def test_integers_and_lists_are_taken():
    rows = untied()
    found = exits.thresholds(rows.tolist(), [1, 3, 4, 9], 5)
    np.testing.assert_array_equal(found, exits.thresholds(rows, COSTS, 5.0))


def with_nan():
    rows = untied().copy()
    rows[3, 2] = np.nan
    return rows


@pytest.mark.parametrize(
    ("rows", "costs", "budget", "message"),
    [
        (untied(), COSTS, 0.5, r"a budget of 0\.5 .* the first exit costs 1"),
        (untied(), COSTS, math.nan, "a budget of nan"),
        (untied(), COSTS, "half", "a budget must be numbers, not <U4"),
        (untied(), COSTS, [4, 5], r"a budget must be one number, not an array of \(2,\)"),
        ([[0.5, 0.6], [0.7]], COSTS, 4, "confidences must be numbers"),
        (np.where(untied() > 0.9, np.inf, untied()), COSTS, 4, "confidences hold NaN or infinity"),
        (untied(), COSTS[:3], 4, r"confidences \(200, 4\) and costs \(3,\) must be"),
        (untied(), [COSTS], 4, r"costs \(1, 4\) must be"),
        (untied()[:, 0], [1.0], 4, r"confidences \(200,\)"),
        (untied()[None], COSTS, 4, r"confidences \(1, 200, 4\)"),
        (np.float64(0), COSTS, 4, r"confidences \(\)"),
        (np.zeros((50, 2, 2)), [[1, 2], [1, 2]], 4, r"costs \(2, 2\) must be"),
        (np.zeros((9, 0)), [], 4, r"confidences \(9, 0\)"),
        (with_nan(), COSTS, 4, "confidences hold NaN"),
        (untied()[:39], COSTS, 4, "39 validation examples are too few for 4 exits: at least 10"),
        (untied(), [1, 4, 3, 9], 4, r"costs=\[1\.0, 4\.0, 3\.0, 9\.0\] must be finite and grow"),
        (untied(), [1, math.nan, 4, 9], 4, r"costs=\[1\.0, nan, 4\.0, 9\.0\] must"),
        (untied(), [1, 3, 4, math.inf], 4, r"costs=.* must"),
    ],
)
def test_what_has_no_thresholds_is_refused_in_one_line(rows, costs, budget, message):
    with pytest.raises(UserError, match=message) as caught:
        exits.thresholds(rows, costs, budget)
    assert "\n" not in str(caught.value)


def test_ten_examples_an_exit_are_enough():
    assert exits.thresholds(untied()[:40], COSTS, 4).shape == (3,)
