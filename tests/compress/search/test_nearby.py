"""What is known around a candidate: which options, and what they are said to cost."""

import pytest

from compress.search import nearby
from compress.search.evaluation import Measured
from compress.search.sensitivity import Sensitivities
from compress.search.settings import AS_IT_IS, Setting

DENSITIES = (0.8, 0.5, 0.3, 0.2, 0.1, 0.05)
ROW = (
    AS_IT_IS,
    *(Setting(bits=b) for b in (2, 3, 4, 5, 6)),
    *(Setting(density=d, bits=b) for d in DENSITIES for b in (0, 2, 3, 4, 5, 6)),
    Setting(units=0.5),
    Setting(method="svd", rank=3),
)


def measured(**losses):
    """Of the layer `a`: name of a setting → by how much the loss grows."""
    row = {AS_IT_IS: 0.0, **{Setting(bits=b): 0.1 / b for b in (2, 3, 4, 5, 6)}}
    row |= {Setting(density=float(name[1:]) / 100): loss for name, loss in losses.items()}
    return Sensitivities(Measured(1, 0), {"a": {s: Measured(x, 0) for s, x in row.items()}}, 10)


def test_options_are_two_densities_and_two_bits_away_and_keep_the_form():
    near = nearby._around(ROW, Setting(density=0.3, bits=3))
    assert {one.density for one in near} == {0.8, 0.5, 0.3, 0.2, 0.1}
    assert {one.bits for one in near} == {2, 3, 4, 5}
    assert not any(one.changes_form for one in near)
    assert {one.density for one in nearby._around(ROW, AS_IT_IS)} == {1.0, 0.8, 0.5}


def test_what_more_weights_gain_follows_the_curve_of_fewer():
    """A step costs 0.01 and the next 0.02: each costs twice as much, and the last one half."""
    here = Setting(density=0.3, bits=3)
    near = nearby._around(ROW, here)
    row = nearby._row(measured(d20=0.01, d10=0.03), "a", near, here)
    losses = {d: row[Setting(density=d, bits=3)].loss - row[here].loss for d in DENSITIES[:5]}
    assert losses == pytest.approx({0.8: -0.0075, 0.5: -0.005, 0.3: 0, 0.2: 0.01, 0.1: 0.03})
    bits = {b: row[Setting(density=0.3, bits=b)].loss for b in (2, 3, 4, 5)}
    assert bits == pytest.approx({b: 0.1 / b for b in bits})


@pytest.mark.parametrize(("second", "growth"), [(0.0, 1.2), (0.9, 4.0), (0.025, 1.5)])
def test_noise_does_not_bend_the_curve_beyond_its_limits(second, growth):
    here = Setting(density=0.3, bits=3)
    near = nearby._around(ROW, here)
    row = nearby._row(measured(d20=0.01, d10=second), "a", near, here)
    gained = row[here].loss - row[Setting(density=0.5, bits=3)].loss
    assert gained == pytest.approx(0.01 / growth)


def test_a_layer_at_its_lowest_density_may_have_more():
    here = Setting(density=0.05, bits=2)
    row = nearby._row(measured(), "a", nearby._around(ROW, here), here)
    assert row[Setting(density=0.1, bits=2)].loss < row[here].loss
