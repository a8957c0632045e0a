import numpy as np
import pytest

from msdnet import exits
from msdnet.exits import Outcome


def test_outcomes_by_hand():
    correct = np.array([[True, False], [False, True], [True, True], [False, False]])
    found = exits.outcome(correct, np.array([0, 1, 1, 0]), [1, 5])
    assert found == Outcome(accuracy=0.75, cost=3.0)
    assert exits.anytime(correct, [1, 5]) == [Outcome(0.5, 1.0), Outcome(0.5, 5.0)]


def test_the_budgeted_curve_chooses_on_one_split_and_is_measured_on_the_other():
    """At ratio 1 half of the validation split leaves, those above 0.5; of the test split all."""
    validation = np.array([[0.9, 0], [0.7, 0], [0.3, 0], [0.1, 0]], np.float32)
    test = np.array([[0.8, 0], [0.6, 0]], np.float32)
    correct = np.array([[True, False], [False, True]])
    found = exits.budgeted(validation, test, correct, [1, 5])
    assert len(found) == len(exits.RATIOS) == 39
    at = dict(zip(np.round(exits.RATIOS, 6).tolist(), found, strict=True))
    assert at[1] == Outcome(0.5, 1.0)
    assert at[0.05] == Outcome(0.5, 1.0)  # four of 4.2 leave: threshold −inf
    assert at[20] == Outcome(0.5, 5.0)  # none leaves
    assert at[round(1 / 0.35, 6)] == Outcome(1.0, 3.0)  # one leaves, above 0.8
    costs = [point.cost for point in found]
    assert costs == sorted(costs)


def test_ratios_are_symmetric_around_one():
    np.testing.assert_allclose(exits.RATIOS * exits.RATIOS[::-1], 1)
    assert (np.diff(exits.RATIOS) > 0).all()


def test_the_area_is_the_mean_accuracy_over_costs():
    rising = [Outcome(0.0, 1.0), Outcome(1.0, 3.0)]
    assert exits.area(rising) == 0.5
    assert exits.area(rising[::-1]) == 0.5
    assert exits.area([Outcome(0.4, 2.0), *rising]) == pytest.approx((0.2 + 0.7) / 2)
    assert exits.area([Outcome(0.4, 7.0)] * 3) == pytest.approx(0.4)
    assert exits.area([Outcome(0.2, 7.0), Outcome(0.6, 7.0)]) == pytest.approx(0.4)
