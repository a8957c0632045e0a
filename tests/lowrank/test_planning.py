"""Plans from made-up candidates: budgets, and what happens to layers that are not faster."""

import numpy as np
import pytest

from experiment.errors import UserError
from lowrank import candidates, planning
from lowrank.candidates import DENSE
from lowrank.ranks import Candidate
from tests.lowrank.test_candidates import conv, dense, kernels

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
    found = planning.by_budget(TABLE, 90, always)
    assert found.plan == {"a": {"method": "tucker", "rank": [2, 3]}}
    assert (found.slow, found.needed) == ([], [])
    assert planning.by_budget(TABLE, 150, always).plan == {}
    with pytest.raises(UserError, match="budget 29 is below 30"):
        planning.by_budget(TABLE, 29, always)


def test_what_is_not_faster_is_left_or_gets_a_lower_rank():
    found = planning.by_budget(TABLE, 90, lambda path, c: c.method != "tucker")
    assert found.plan == {"a": {"method": "svd", "rank": 1}}
    assert found.slow == ["a"]
    found = planning.by_budget(TABLE, 110, lambda path, c: path != "b")
    assert found.plan == {"a": {"method": "tucker", "rank": [2, 3]}}


def test_what_the_budget_needs_stays_though_it_is_not_faster():
    found = planning.by_budget(TABLE, 50, lambda path, c: False)
    assert found.plan == {
        "a": {"method": "tucker", "rank": [2, 3]},
        "b": {"method": "svd", "rank": 4},
    }
    assert set(found.needed) == {"a", "b"}
    found = planning.by_budget(TABLE, 70, lambda path, c: path == "a")
    assert found.plan["a"]["method"] == "svd"
    assert found.slow == ["b"]
    assert "b" not in found.plan


def test_a_candidate_is_timed_before_it_is_taken():
    timed = []
    planning.by_budget(TABLE, 90, lambda path, c: timed.append((path, c.method)) or True)
    assert timed == [("a", "tucker")]


def test_a_rule_chooses_ranks_and_leaves_what_would_cost_more():
    reached = {"conv": conv(), "fc": dense(), "grouped": conv((3, 3, 1, 8), groups=8)}
    stacks = {path: kernels(layer.kernel) for path, layer in reached.items()}

    def plan(rule, faster=always, method="tucker"):
        return planning.by_rule(reached, stacks, method, rule, candidates.macs, faster)

    assert plan(lambda matrix: 2).plan == {
        "conv": {"method": "tucker", "rank": [2, 2]},
        "fc": {"method": "svd", "rank": 2},
    }
    assert plan(lambda matrix: min(matrix.shape)).plan == {}
    found = plan(lambda matrix: 1, lambda path, c: path == "fc", "svd")
    assert found.plan == {"fc": {"method": "svd", "rank": 1}}
    assert found.slow == ["conv"]


def test_any_looks_at_weights_alone_and_every_method_has_svd_beside_it():
    assert planning.names(planning.JOINT) == ("svd", "spatial", "tucker", "cp")
    assert planning.names("tucker") == ("tucker", "svd")
    assert planning.names("svd") == ("svd",)


def test_a_measure_in_time_is_a_positive_integer():
    cost = planning.MEASURES["milliseconds"](dense((64, 32)), "svd", 2)
    assert isinstance(cost, int)
    assert 0 < cost < 1e9
    assert np.isfinite(cost)
