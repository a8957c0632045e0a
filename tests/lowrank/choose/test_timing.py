"""Which layers are timed, and what becomes of the times."""

import numpy as np

from lowrank.choose import timing
from lowrank.choose.candidates import DENSE
from lowrank.choose.ranks import Candidate
from tests.lowrank.choose.test_candidates import conv, dense


def test_a_layers_calls_are_computed_on_what_it_was_reached_with():
    (outputs,) = timing.layer(conv(), "tucker", (2, 3))()
    assert outputs.shape == (1, 4, 7, 6)
    assert np.std(outputs) > 0
    assert [out.shape for out in timing.layer(dense(), DENSE, None)()] == [(1, 5)]
    assert len(timing.layer(conv(calls=2), DENSE, None)()) == 2


def test_costs_are_nanoseconds_and_layers_as_they_are_come_first(monkeypatch):
    made = []
    monkeypatch.setattr(timing, "layer", lambda reached, method, rank: made.append((method, rank)))
    monkeypatch.setattr(timing, "medians", lambda calls, repeats=7: [2e-6, 3e-6][: len(calls)])
    assert timing.cost(dense(), "svd", 2) == 2000
    assert timing.layers(dense(), "svd", 2) == (2e-6, 3e-6)
    assert made == [("svd", 2), (DENSE, None), ("svd", 2)]


def test_of_many_candidates_the_best_for_their_multiply_adds_are_timed(monkeypatch):
    """A Tucker-like table: (a, b) costs a + 2 b, and b is what lowers the error."""
    monkeypatch.setattr(timing, "TIMED", 4)
    pairs = [(a, b) for a in range(1, 13) for b in range(1, 13)]
    table = {
        "conv": [
            Candidate(DENSE, 0, 99, 0.0),
            *(Candidate("tucker", (a, b), a + 2 * b, 1 / b + 0.01 / a) for a, b in pairs),
            Candidate("svd", 3, 50, 0.5),
            Candidate("svd", 4, 60, 0.4),
        ]
    }
    asked = []

    def cost(reached, method, rank):
        asked.append((method, rank))
        return 700 if rank == 4 else 1000 if method == DENSE else 900 + sum(np.ravel(rank))

    (priced,) = timing.priced({"conv": conv()}, table, cost).values()
    tucker = [rank for method, rank in asked if method == "tucker"]
    assert len(asked) == len(set(asked)) <= 1 + timing.TIMED + 2
    assert (tucker[0], tucker[-1]) == ((1, 1), (12, 12))
    assert all(a <= 2 for a, b in tucker[:-1])  # more of a alone is hardly worth its cost
    assert priced[0] == Candidate(DENSE, 0, 1000, 0.0)
    assert [option.cost for option in priced[1:]] == [900 + sum(t) for t in tucker] + [903, 700]
    assert priced[-2:] == [Candidate("svd", 3, 903, 0.5), Candidate("svd", 4, 700, 0.4)]


def test_what_takes_no_less_time_than_the_dense_layer_goes():
    table = {"fc": [Candidate(DENSE, 0, 9, 0.0), Candidate("svd", 1, 5, 0.5)]}
    assert timing.priced({"fc": dense()}, table, lambda *_: 7) == {
        "fc": [Candidate(DENSE, 0, 7, 0.0)]
    }
