"""`groundwork.numerics.knapsack` against a trial of every choice."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundwork.numerics import knapsack
from groundwork.numerics.knapsack import Option


def _total(options, chosen):
    """The error and the cost of a choice."""
    rows = [options[name][index] for name, index in chosen.items()]
    return sum(option.error for option in rows), sum(option.cost for option in rows)


def _best(options, budget):
    """The least error within the budget, and the least cost at which it is had."""
    every = itertools.product(*(range(len(row)) for row in options.values()))
    totals = [_total(options, dict(zip(options, one, strict=True))) for one in every]
    return min((error, cost) for error, cost in totals if cost <= budget)


@given(
    table=st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.integers(-8, 8)), min_size=1, max_size=4),
        max_size=4,
    ),
    room=st.integers(0, 60),
)
def test_no_choice_within_the_budget_has_a_smaller_error(table, room):
    options = {
        f"name{i}": [Option(cost, error / 8) for cost, error in row] for i, row in enumerate(table)
    }
    budget = room + knapsack.least_cost(options)
    chosen = knapsack.choose(options, budget)
    assert list(chosen) == list(options)
    assert _total(options, chosen) == _best(options, budget)


def test_a_budget_below_the_cheapest_choice_is_refused_with_both_numbers():
    options = {"a": [Option(700, 0.5), Option(900, 0.1)], "b": [Option(800, 0.1)]}
    assert knapsack.least_cost(options) == 1500
    assert knapsack.choose(options, 1500) == {"a": 0, "b": 0}
    with pytest.raises(ValueError, match=r"budget 1,499 is below 1,500, .* for 2 names"):
        knapsack.choose(options, 1499)


def test_ties_fall_to_the_lower_cost_then_to_the_earlier():
    assert knapsack.choose({"a": [Option(9, 0.5), Option(5, 0.5), Option(5, 0.5)]}, 20) == {"a": 1}


def test_with_few_states_it_is_as_good_as_promised(monkeypatch):
    rng = np.random.default_rng(0)
    options = {}
    for i in range(10):
        costs, errors = np.sort(rng.integers(1, 10**6, 12)), np.sort(rng.random(12) ** 2)[::-1]
        options[f"name{i}"] = [
            Option(int(cost), float(error)) for cost, error in zip(costs, errors, strict=True)
        ]
    budget = 4 * 10**6
    exact = _total(options, knapsack.choose(options, budget))
    less = _total(options, knapsack.choose(options, int(budget * (1 - 10 / 200))))
    monkeypatch.setattr(knapsack, "STATES", 200)
    near = _total(options, knapsack.choose(options, budget))
    assert near[1] <= budget
    assert exact[0] <= near[0] <= less[0]
    assert near[0] < 1.05 * exact[0]
    monkeypatch.setattr(knapsack, "STATES", 2)  # the cheapest choice is always within reach
    cheapest = knapsack.least_cost(options)
    assert _total(options, knapsack.choose(options, cheapest))[1] == cheapest


def test_bad_input_is_refused():
    for options, message in (
        ({"a": []}, "'a' has no options"),
        ({"a": [Option(5, np.nan)]}, "'a': .* the error must be finite"),
        ({"a": [Option(-1, 0.5)]}, "'a': .* the cost must be an integer, at least 0"),
        ({"a": [Option(1.5, 0.5)]}, "'a': .* the cost must be an integer, at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            knapsack.choose(options, 10)


def test_budgets_are_any_numbers_and_costs_are_exact_ones():
    options = {"a": [Option({"x": 3, "y": np.int64(0)}, 1.0), Option({"x": 1, "y": 5}, 2.0)]}
    for most, index in ((np.int64(3), 0), (2.9, 1), (np.inf, 0), (10**30, 0)):
        assert knapsack.choose(options, {"x": most}) == {"a": index}
        assert knapsack.choose(options, {"x": most, "y": np.inf}) == {"a": index}
    assert knapsack.choose(options, {"x": 3, "y": 0}) == {"a": 0}
    assert knapsack.choose({}, {"x": 0, "y": 1}) == {}
    with pytest.raises(ValueError, match="budget nan of x must be a number"):
        knapsack.choose(options, {"x": float("nan"), "y": 3})
    large = 2**52 + 1  # two of them are more than floats tell apart
    for costs, message in (([10**30], "the cost is above"), ([large, large], "add up to")):
        with pytest.raises(ValueError, match=message):
            knapsack.choose({f"{n}": [Option(c, 0.5)] for n, c in enumerate(costs)}, np.inf)


NAMES = ("bytes", "macs", "milliseconds")


def _several(options, budgets):
    """The error and costs of the best choice of all within several budgets; None if there is none.

    Ties fall to the lower cost, of the first budget first.
    """
    every = itertools.product(*options.values())
    totals = [
        (sum(o.error for o in one), *(sum(o.cost[name] for o in one) for name in budgets))
        for one in every
    ]
    keep = [t for t in totals if all(a <= b for a, b in zip(t[1:], budgets.values(), strict=True))]
    return min(keep, default=None)


@given(
    table=st.lists(
        st.lists(
            st.tuples(*(st.integers(0, 9) for _ in NAMES), st.integers(-8, 8)),
            min_size=1,
            max_size=4,
        ),
        max_size=4,
    ),
    room=st.tuples(*(st.integers(0, 12) for _ in NAMES)),
    count=st.integers(1, 3),
)
def test_several_budgets_are_kept_with_the_least_error(table, room, count):
    options = {
        f"name{i}": [
            Option(dict(zip(NAMES, costs, strict=True)), error / 8) for *costs, error in row
        ]
        for i, row in enumerate(table)
    }
    names = NAMES[:count]
    budgets = {
        name: more + knapsack.least_cost(options, name)
        for name, more in zip(names, room, strict=False)
    }
    best = _several(options, budgets)
    if best is None:
        with pytest.raises(ValueError, match=r"no choice keeps the budgets .* together"):
            knapsack.choose(options, budgets)
        return
    chosen = knapsack.choose(options, budgets)
    rows = [options[name][index] for name, index in chosen.items()]
    costs = [sum(row.cost[name] for row in rows) for name in names]
    assert (sum(row.error for row in rows), *costs) == best
    assert knapsack.lower_bound(options, budgets) <= best[0] + 1e-9


@given(
    table=st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.integers(-8, 8)), min_size=1, max_size=4),
        max_size=4,
    ),
    room=st.integers(0, 40),
)
def test_no_choice_of_at_most_that_error_costs_less(table, room):
    options = {
        f"name{i}": [Option({"bytes": cost, "macs": 3}, error / 8) for cost, error in row]
        for i, row in enumerate(table)
    }
    most = sum(min(option.error for option in row) for row in options.values()) + room / 8
    chosen = knapsack.cheapest(options, most, "bytes")
    rows = [options[name][index] for name, index in chosen.items()]
    every = itertools.product(*options.values())
    totals = [(sum(o.cost["bytes"] for o in one), sum(o.error for o in one)) for one in every]
    best = min(total for total in totals if total[1] <= most)
    assert (sum(row.cost["bytes"] for row in rows), sum(row.error for row in rows)) == best


def test_beyond_the_states_several_budgets_are_kept_within_the_stated_gap(monkeypatch):
    rng = np.random.default_rng(3)
    options = {
        f"name{i}": [
            Option({"bytes": int(a), "macs": int(b)}, float(error))
            for a, b, error in zip(
                *rng.integers(1, 10**6, (2, 12)), rng.random(12) ** 2, strict=True
            )
        ]
        for i in range(12)
    }
    budgets = {"bytes": 4 * 10**6, "macs": 4 * 10**6}

    def error(chosen):
        return sum(options[name][index].error for name, index in chosen.items())

    exact = error(knapsack.choose(options, budgets))
    monkeypatch.setattr(knapsack, "OF_SEVERAL", 4)
    chosen = knapsack.choose(options, budgets)
    for name, budget in budgets.items():
        assert sum(options[n][index].cost[name] for n, index in chosen.items()) <= budget
    bound = knapsack.lower_bound(options, budgets)
    assert bound <= exact <= error(chosen)
    assert error(chosen) - bound < 0.2 * exact


def test_budgets_that_cannot_be_kept_are_named():
    options = {
        "a": [Option({"bytes": 1, "macs": 9}, 0.0), Option({"bytes": 9, "macs": 1}, 0.0)],
        "b": [Option({"bytes": 2, "macs": 2}, 0.0)],
    }
    with pytest.raises(ValueError, match="budget 2 of macs is below 3, the cost of the cheapest"):
        knapsack.choose(options, {"bytes": 20, "macs": 2})
    with pytest.raises(ValueError, match="no choice keeps the budgets bytes=5 and macs=5 together"):
        knapsack.choose(options, {"bytes": 5, "macs": 5})
    with pytest.raises(ValueError, match=r"'a': .* the cost of seconds must be an integer"):
        knapsack.choose(options, {"seconds": 5, "bytes": 5})
    with pytest.raises(ValueError, match="no budget is given"):
        knapsack.choose(options, {})
    with pytest.raises(ValueError, match=r"an error of -1 is below 0, the least of any choice"):
        knapsack.cheapest(options, -1, "bytes")
