"""Plans from made-up candidates: budgets, and what happens to layers that are not faster."""

import numpy as np
import pytest

from lowrank.choose import candidates, plans
from lowrank.choose.candidates import DENSE
from lowrank.choose.ranks import Candidate
from tests.lowrank.choose.test_candidates import conv, dense, kernels

TABLE = {
    "a": [
        Candidate(DENSE, 0, 100, 0.0),
        Candidate("svd", 1, 20, 0.5),
        Candidate("tucker", (2, 3), 40, 0.2),
    ],
    "b": [Candidate(DENSE, 0, 50, 0.0), Candidate("svd", 4, 10, 0.4)],
}


def always(path, candidate):
    return True


def test_the_least_error_within_the_budget():
    planned = plans.by_budget(TABLE, 90, always)
    assert planned.plan == {"a": {"method": "tucker", "rank": [2, 3]}}
    assert (planned.slow, planned.needed) == ([], [])
    assert plans.by_budget(TABLE, 150, always).plan == {}
    with pytest.raises(ValueError, match="budget 29 is below 30"):
        plans.by_budget(TABLE, 29, always)


def test_what_is_not_faster_is_left_or_gets_a_lower_rank():
    planned = plans.by_budget(TABLE, 90, lambda path, c: c.method != "tucker")
    assert planned.plan == {"a": {"method": "svd", "rank": 1}}
    assert planned.slow == ["a"]
    planned = plans.by_budget(TABLE, 110, lambda path, c: path != "b")
    assert planned.plan == {"a": {"method": "tucker", "rank": [2, 3]}}


def test_what_the_budget_needs_stays_though_it_is_not_faster():
    planned = plans.by_budget(TABLE, 50, lambda path, c: False)
    assert planned.plan == {
        "a": {"method": "tucker", "rank": [2, 3]},
        "b": {"method": "svd", "rank": 4},
    }
    assert set(planned.needed) == {"a", "b"}
    only_a = lambda path, c: path == "a"  # noqa: E731
    svd = {"method": "svd", "rank": 1}  # with b dense it is 70
    assert plans.by_budget(TABLE, 70, only_a) == plans.Planned({"a": svd}, ["b"], [])
    assert plans.by_budget(TABLE, 69, only_a).needed == ["b"]


def test_a_layer_that_the_budget_needs_is_not_kept_at_the_lower_rank_that_was_tried():
    planned = plans.by_budget(TABLE, 90, lambda path, c: False)
    assert planned == plans.Planned({"a": {"method": "tucker", "rank": [2, 3]}}, [], ["a"])


def test_a_candidate_is_timed_before_it_is_taken():
    timed = []
    plans.by_budget(TABLE, 90, lambda path, c: timed.append((path, c.method)) or True)
    assert timed == [("a", "tucker")]


def test_a_rule_chooses_ranks_and_leaves_what_would_cost_more():
    reached = {"conv": conv(), "fc": dense(), "grouped": conv((3, 3, 1, 8), groups=8)}
    stacks = {path: kernels(layer.kernel) for path, layer in reached.items()}

    def plan(rule, faster=always, method="tucker"):
        return plans.by_rule(reached, stacks, method, rule, candidates.macs, faster)

    assert plan(lambda matrix: 2).plan == {
        "conv": {"method": "tucker", "rank": [2, 2]},
        "fc": {"method": "svd", "rank": 2},
    }
    assert plan(lambda matrix: min(matrix.shape)).plan == {}
    reached["fc"] = dense((4, 4))
    stacks["fc"] = kernels((4, 4))
    assert "fc" not in plan(lambda matrix: 2).plan  # 4 * 2 + 2 * 4 are its own 16
    planned = plan(lambda matrix: 1, lambda path, c: path == "fc", "svd")
    assert planned.plan == {"fc": {"method": "svd", "rank": 1}}
    assert planned.slow == ["conv"]
    planned = plan(lambda matrix: 3, lambda path, c: (c.method, c.rank) != ("tucker", (3, 3)))
    assert (list(planned.plan), planned.slow) == ([], ["conv"])


def test_a_sweep_is_by_its_method_and_by_svd_where_a_layer_lacks_it():
    pointwise = conv((1, 1, 4, 6))
    assert plans.names(conv(), plans.JOINT) == ("svd", "spatial", "tucker", "cp")
    assert plans.names(dense(), plans.JOINT) == ("svd",)
    assert plans.names(pointwise, plans.JOINT) == ("svd",)
    for method in ("svd", "svd_outputs", "spatial", "tucker", "cp"):
        assert plans.names(conv(), method) == (method,)
        lacking = (method if method.startswith("svd") else "svd",)
        assert plans.names(dense(), method) == plans.names(pointwise, method) == lacking


def test_a_measure_in_time_is_a_positive_integer():
    cost = plans.MEASURES["milliseconds"](dense((64, 32)), "svd", 2)
    assert isinstance(cost, int)
    assert 0 < cost < 1e9
    assert np.isfinite(cost)


def test_a_budget_below_rank_one_everywhere_is_refused_beforehand():
    reached = {"a": dense((8, 8)), "b": dense((8, 8))}
    for measure in ("macs", "parameters"):
        plans.check_share(reached, "tucker", 0.25, measure)
        said = f"0.24 of the dense layers' {measure} is 30, below 32"
        with pytest.raises(plans.BudgetError, match=f"^{said}"):
            plans.check_share(reached, "tucker", 0.24, measure)
    plans.check_share(reached, "svd", 0.001, "milliseconds")  # not known before it is timed
    pair = {"conv": conv()}  # one channel between is cheaper than a window with one output
    least = candidates.macs(conv(), "spatial", 1) / candidates.macs(conv(), DENSE, None)
    plans.check_share(pair, plans.JOINT, least * 1.001, "macs")


def test_a_budget_in_time_that_is_not_reached_is_said_in_milliseconds():
    table = {"a": [Candidate(DENSE, 0, 3_000_000, 0.0), Candidate("svd", 1, 1_500_000, 0.5)]}
    table["b"] = [Candidate(DENSE, 0, 1_000_000, 0.0)]
    assert plans.budget_of(table, 0.625, "svd", "milliseconds") == 2_500_000
    said = r"^0.6 of the dense layers' milliseconds is 2.4, below 2.5, what svd"
    with pytest.raises(plans.BudgetError, match=said):
        plans.budget_of(table, 0.6, "svd", "milliseconds")
    with pytest.raises(
        plans.BudgetError, match=r"macs is 2,400,000, below 2,500,000, what svd costs at"
    ):
        plans.budget_of(table, 0.6, "svd", "macs")
