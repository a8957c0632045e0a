"""Which candidate is chosen, and what is said if none is."""

import pytest

from compress.search import asked as asked_lib
from compress.search import choosing, spec
from groundwork.errors import UserError
from tests.compress.search import small
from tests.compress.search.small import candidate
from tests.conftest import ROOT

MADE = [
    candidate(0, {}, (0.95, 900)),
    candidate(1, {}, (0.90, 300), (0.93, 400)),  # its last rung counts
    candidate(2, {}, (0.93, 350)),
    candidate(3, {}, (0.80, 100)),
    candidate(4, failed="ValueError: lost"),
]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def asked(most=0, loss=-1.0):
    return spec.from_config(
        small.config(budget={"bytes": most}, accuracy={"loss": loss}, search={"finalists": 3})
    )


@pytest.mark.parametrize(
    ("most", "loss", "number"),
    [(1000, -1, 0), (400, -1, 2), (399, -1, 2), (100, -1, 3), (0, 0.0, 0), (0, 0.02, 2), (0, 1, 3)],
)
def test_it_is_the_best_within_the_budget_or_the_cheapest_that_loses_so_little(most, loss, number):
    assert choosing.finalists(asked(most, loss), MADE, 0.95)[0].number == number


def test_every_replicate_keeps_the_budget():
    (judged,) = candidate(0, {}, (0.9, 400)).judged
    judged.costs["bytes"][:] = [300, 500]  # 400 in the mean
    assert asked_lib.keeps(asked(500), judged, 0.95)
    assert not asked_lib.keeps(asked(499), judged, 0.95)


def test_of_a_metric_of_which_less_is_better_the_least_is_chosen():
    assert choosing.finalists(asked(1000), MADE, 0.5, sign=-1)[0].number == 3


@pytest.mark.parametrize(
    ("most", "loss", "said"),
    [
        (99, -1, r"no candidate keeps budget.bytes=99 \(the least is 100 of candidates/0003\)"),
        (0, 0.0, "accuracy.loss=0: no candidate loses so little on validation; candidates/0000 "
                 "loses 0.0500"),
    ],
)  # fmt: skip
def test_if_none_is_the_nearest_is_named(most, loss, said):
    with pytest.raises(UserError, match=said):
        choosing.finalists(asked(most, loss), MADE, 1.0)
    with pytest.raises(UserError, match="no candidate could be evaluated: ValueError: lost"):
        choosing.finalists(asked(most, loss), MADE[4:], 1.0)


def test_cheaper_ones_that_lose_little_more_are_trained_for_longer():
    assert [one.number for one in choosing.finalists(asked(loss=0.0), MADE, 0.95)] == [0, 1, 2]
    assert [one.number for one in choosing.finalists(asked(1000), MADE, 0.95)] == [0, 2, 1]


def test_the_best_of_what_finalists_were_and_have_become_is_chosen():
    first, _, third = (choosing.Entrant(one, one.last, None) for one in MADE[:3])
    (better,) = candidate(2, {}, (0.95, 360)).judged
    longer = third._replace(judged=better)
    assert choosing.choose(asked(loss=0.0), [first, third, longer], 0.95) is longer
    assert choosing.choose(asked(355), [first, third, longer], 0.95) is third  # it keeps the budget
    assert choosing.choose(asked(99), [first, third, longer], 0.95) is None
