"""Fronts, halving, and whom a candidate continues."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.search import history
from compress.search.results import hypervolume
from compress.search.settings import Setting
from tests.compress.search.small import candidate

HALF, TENTH = Setting(density=0.5), Setting(density=0.1)
points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12)


@given(points)
def test_fronts_are_those_of_peeling_one_after_the_other(drawn):
    def beaten(one, others):
        return any(all(o <= x for o, x in zip(p, one, strict=True)) and p != one for p in others)

    left, expected = dict(enumerate(drawn)), {}
    for front in itertools.count():
        if not left:
            break
        best = [n for n, one in left.items() if not beaten(one, left.values())]
        expected |= dict.fromkeys(best, front)
        left = {n: one for n, one in left.items() if n not in best}
    assert history.fronts(np.array(drawn, float)).tolist() == [
        expected[n] for n in range(len(drawn))
    ]


@given(st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 5)), max_size=8))
def test_the_hypervolume_counts_the_squares_below_the_front(drawn):
    covered = {(x, y) for a, b in drawn for x in range(a) for y in range(b)}
    assert hypervolume(drawn) == len(covered)


def test_the_front_has_the_best_in_accuracy_and_costs_the_cheapest_first():
    made = [
        candidate(0, {}, (0.9, 500)),
        candidate(1, {}, (0.8, 600)),
        candidate(2, {}, (0.7, 300), (0.85, 310)),  # its last rung counts
        candidate(3, failed="lost"),
    ]
    assert [one.number for one in history.front(made, ["bytes"])] == [2, 0]
    assert [one.number for one in history.front(made, ["bytes"], sign=-1)] == [2, 1]
    assert history.front([], ["bytes"]) == []


def far(judged):
    return abs(judged.costs["bytes"][0] - 400)


@pytest.mark.parametrize(
    ("accuracy", "cost", "share", "expected"),
    [
        (0.95, 450, 0.34, True),  # on the front, and nearest to what is asked for
        (0.95, 5000, 0.34, False),  # on the front, but the other one is nearer
        (0.95, 5000, 0.67, True),
        (0.5, 700, 0.34, False),
        (0.5, 700, 1.0, True),
    ],
)
def test_the_best_of_those_that_reached_a_rung_go_on(accuracy, cost, share, expected):
    made = [candidate(0, {}, (0.9, 500), (0.99, 1)), candidate(1, {}, (0.8, 600))]
    (new,) = candidate(2, {}, (accuracy, cost)).judged
    assert history.goes_on(made, new, ["bytes"], share, far) is expected
    assert history.goes_on([], new, ["bytes"], share, far)  # the first one always does


def test_a_candidate_continues_the_nearest_that_keeps_as_much_of_every_layer():
    made = [
        candidate(0, {"a": HALF}, (0.9, 1)),
        candidate(1, {"a": HALF, "b": HALF}, (0.9, 1)),
        candidate(2, {"a": TENTH, "b": HALF}, (0.9, 1)),
        candidate(3, {"a": HALF, "b": HALF}, failed="lost"),
        candidate(4, {"a": HALF, "b": Setting(density=0.5, bits=3)}, (0.9, 1)),
    ]
    both = {"a": Setting(density=0.2, bits=4), "b": HALF}
    assert history.parent(made, both) == (4, True)  # as near as 1, and later
    assert history.parent(made, {"a": TENTH, "b": TENTH}) == (2, True)
    assert history.parent(made, {"b": HALF}) == (history.ORIGINAL, True)


def test_units_and_ranks_begin_with_a_whole_network_or_with_their_own():
    less = {"a": Setting(units=0.5, density=0.4)}
    made = [
        candidate(0, {"a": HALF}, (0.9, 1)),
        candidate(1, {"a": Setting(method="svd", rank=3)}, (0.9, 1)),
    ]
    assert history.parent(made, less) == (0, False)
    made.append(candidate(2, {"a": Setting(units=0.5)}, (0.9, 1)))
    assert history.parent(made, less) == (2, True)
    assert history.parent(made, {"a": TENTH}) == (0, True)


def test_candidates_survive_json_and_lineages_begin_with_the_oldest():
    made = [candidate(n, {"a": Setting(method="tucker", rank=(2, 3))}, (0.9, 1)) for n in range(3)]
    made[2] = history.from_json({**made[2].to_json(), "parent": 0})
    saved = json.loads(json.dumps([one.to_json() for one in made]))
    assert [history.from_json(one) for one in saved] == made
    assert [one.number for one in history.lineage(made, 2)] == [0, 2]
