"""Which units are kept: counts by hand, and budgets that are met."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import trees
from pruning import structured


class Three(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(10, name="one")(x))
        x = nn.relu(nn.Dense(4, name="two")(x))
        return nn.Dense(2, name="head")(x)


@pytest.fixture(scope="module")
def graph():
    model, x = Three(), jnp.ones((2, 3))
    return structured.groups(model, jax.eval_shape(model.init, jax.random.key(0), x), x)


SCORES = {"one": np.arange(10.0), "two": np.array([3.0, 1.0, 1.0, 2.0])}


def kept(graph, ratio=0.5, **how):
    keep = structured.choose(graph, SCORES, ratio, **how)
    return {name: np.flatnonzero(units).tolist() for name, units in keep.items()}


def test_each_group_loses_its_lowest_scores_and_ties_go_to_the_lower_index(graph):
    assert kept(graph) == {"one": [5, 6, 7, 8, 9], "two": [0, 3]}
    assert kept(graph, 0.25) == {"one": [2, 3, 4, 5, 6, 7, 8, 9], "two": [0, 1, 3]}  # 2.5 → 2


def test_one_unit_is_always_left(graph):
    assert kept(graph, 0.99) == {"one": [9], "two": [0]}


def test_patterns_the_longest_counts(graph):
    assert kept(graph, {"*": 0.5, "one": 0.0}) == {"one": list(range(10)), "two": [0, 3]}
    assert kept(graph, {"two": 0.5}) == {"one": list(range(10)), "two": [0, 3]}


def test_counts_are_rounded_up_and_limited(graph):
    assert [len(units) for units in kept(graph, 0.5, round_to=4).values()] == [8, 4]
    assert [len(units) for units in kept(graph, 0.9, limit=0.3).values()] == [7, 3]


def test_global_ranks_scores_over_the_mean_of_their_group(graph):
    """Scores over the means of what is above 0: 0, 0.2, … 1.8, and 1.71, 0.57, 0.57, 1.14."""
    keep = {"one": [3, 4, 5, 6, 7, 8, 9], "two": [0, 1, 2, 3]}
    assert kept(graph, 3 / 14, scope="global") == keep
    keep = {"one": [4, 5, 6, 7, 8, 9], "two": [0, 3]}
    assert kept(graph, 6 / 14, scope="global") == keep


def test_a_budget_is_met_and_hardly_undercut(graph):
    def parameters(keep):
        shapes = jax.eval_shape(lambda v: structured.cut(graph, v, keep), graph.shapes)
        return trees.count(shapes)

    whole = parameters({})
    for target in (whole, 60, 40, 20):
        keep, ratio = structured.to_target(graph, SCORES, parameters, target)
        assert parameters(keep) <= target
        assert 0 <= ratio < 1
    assert ratio > 0.5
    with pytest.raises(ValueError, match="the target 3 cannot be met: the least is 10"):
        structured.to_target(graph, SCORES, parameters, 3)
    with pytest.raises(ValueError, match="the target is no number"):
        structured.to_target(graph, SCORES, parameters, float("nan"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"ratio": 1.0}, r"ratio 1\.0 of '\*' must be in \[0, 1\)"),
        ({"ratio": {"x": 0.5}}, "ratio's pattern 'x' matches no group: one, two"),
        ({"scope": "all"}, "scope='all' must be one of group, isomorphic, global"),
        ({"round_to": 0}, "round_to=0 must be 1 or more"),
        ({"limit": 0}, r"limit=0 must be in \(0, 1\]"),
        ({"ratio": {"one": 0.5}, "scope": "global"}, "give one ratio for all"),
    ],
)
def test_what_cannot_be_chosen_is_said(graph, how, said):
    with pytest.raises(ValueError, match=said):
        structured.choose(graph, SCORES, **how)


def test_scores_must_fit(graph):
    with pytest.raises(ValueError, match="scores need 10 numbers for group one"):
        structured.choose(graph, {"one": np.ones(3)})


def test_a_name_counts_before_a_pattern_of_its_length(graph):
    for ratio in ({"o*e": 0.5, "one": 0.0}, {"one": 0.0, "o*e": 0.5}):
        assert structured.choose(graph, SCORES, ratio)["one"].all()
