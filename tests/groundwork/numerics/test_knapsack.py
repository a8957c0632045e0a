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
