"""Plans of a stage, and what is left of masks beside factors."""

import jax
import numpy as np
import pytest

from compress.stages import factorize, share
from groundwork.errors import UserError
from lowrank.choose.planner import Planner
from lowrank.choose.plans import BudgetError
from tests.compress.small import dense, node, pruned


def test_what_was_pruned_stays_so_beside_factors(untrained, pipeline):
    rules = {"method": "svd", "leave": ("fc1",)}
    own = pipeline(stages=("factorize",), factorize=rules)
    before = pruned(own, "fc1/kernel", "fc2/kernel")
    made = factorize.run(own, node("factorize", 0.5), before)
    assert "fc2" in made.form.plan
    assert list(made.mask) == ["fc1/kernel"]
    jax.tree.map(np.testing.assert_array_equal, untrained[0].mask, made.mask)
    np.testing.assert_array_equal(made.mask["fc1/kernel"], before.mask["fc1/kernel"])


def test_a_plan_that_was_chosen_by_measured_times_is_kept(untrained, pipeline, monkeypatch):
    own = pipeline(stages=("factorize",), factorize={"method": "svd"})
    before = dense(own)
    first = factorize.run(own, node("factorize", 0.5), before)

    def another(*_):
        raise AssertionError("planned again")

    monkeypatch.setattr(Planner, "plan", another)
    again = factorize.run(own, node("factorize", 0.5), before)
    assert again.form == first.form


def test_a_budget_that_no_plan_meets_is_said_of_factorize(pipeline, monkeypatch):
    own = pipeline(stages=("factorize",), factorize={"method": "svd"})

    def plan(*_):
        raise BudgetError("0.5 of the dense layers' milliseconds")

    monkeypatch.setattr(Planner, "plan", plan)
    with pytest.raises(UserError, match=r"^factorize\.shares: 0\.5"):
        factorize.run(own, node("factorize", 0.5), dense(own))


def test_blocks_that_are_tied_are_factorised_once(untrained, pipeline, monkeypatch):
    section, planned = {"groups": (("block1_1", "block1_2"),)}, []
    own = pipeline("resnet_20", 0.25, stages=("share", "factorize"), share=section)

    def plan(planner, method, setting):
        planned.append((planner.rules.leave, [*planner.layers]))
        return {"plan": {}}

    monkeypatch.setattr(Planner, "plan", plan)
    factorize.run(own, node("factorize", 0.5), share.run(own, node("share"), dense(own)))
    ((left, layers),) = planned
    assert left == ("block1_2/conv1", "block1_2/conv2")
    assert "block1_1/conv1" in layers
    assert not set(left) & set(layers)
