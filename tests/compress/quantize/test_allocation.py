"""`compress.quantize.allocation` against trying every choice."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress import quantize

MEASURED = {"a": {2: 0.5, 4: 0.1, 8: 0.0}, "b": {2: 0.05, 4: 0.01, 8: -0.002}}


def _best(sensitivities, sizes, budget):
    """(least increase, fewest bits of those that have it), over every choice within the budget."""
    layers = list(sensitivities)
    choices = []
    for bits in itertools.product(*(sensitivities[layer] for layer in layers)):
        cost = sum(sizes[layer] * b for layer, b in zip(layers, bits, strict=True))
        increase = sum(sensitivities[layer][b] for layer, b in zip(layers, bits, strict=True))
        if cost <= budget:
            choices.append((increase, cost))
    return min(choices)


@given(seed=st.integers(0, 10_000), layers=st.integers(1, 5), room=st.floats(0, 1))
def test_no_choice_within_the_budget_is_better(seed, layers, room):
    rng = np.random.default_rng(seed)
    sizes = {f"l{i}": int(rng.integers(1, 50)) for i in range(layers)}
    sensitivities = {
        layer: {int(b): float(rng.normal(1 / b, 0.3)) for b in rng.choice(9, 4, False) + 1}
        for layer in sizes
    }
    least, most = (
        sum(sizes[layer] * of(by_bits) for layer, by_bits in sensitivities.items())
        for of in (min, max)
    )
    budget = int(least + room * (most - least))
    chosen = quantize.allocate(sensitivities, sizes, budget)
    assert list(chosen) == list(sensitivities)
    cost = sum(sizes[layer] * bits for layer, bits in chosen.items())
    increase = sum(sensitivities[layer][bits] for layer, bits in chosen.items())
    assert cost <= budget
    np.testing.assert_allclose(increase, _best(sensitivities, sizes, budget)[0], atol=1e-12)


def test_hand_worked():
    sizes = {"a": 10, "b": 100}
    assert quantize.allocate(MEASURED, sizes, 220) == {"a": 2, "b": 2}
    assert quantize.allocate(MEASURED, sizes, 280) == {"a": 8, "b": 2}
    assert quantize.allocate(MEASURED, sizes, 10_000) == {"a": 8, "b": 8}
    assert quantize.allocate({"a": {4: 1.0, 2: 1.0}}, {"a": 3}, 99) == {"a": 2}  # fewer of equals


def test_a_budget_too_small_names_the_least():
    with pytest.raises(ValueError, match=r"^a budget of 219 bits is below 220, the least for 2"):
        quantize.allocate(MEASURED, {"a": 10, "b": 100}, 219)


@pytest.mark.parametrize(
    ("sensitivities", "sizes", "message"),
    [
        ({}, {}, "no layer to allocate bits to"),
        (MEASURED, {"a": 1, "c": 1}, "sensitivities and sizes differ in the layers ['b', 'c']"),
        ({"a": {}}, {"a": 1}, "layer 'a' has no sensitivities"),
        ({"a": {4: 1}}, {"a": 0}, "layer 'a' has size 0: 1 at least"),
        ({"a": {33: 1}}, {"a": 1}, "bits 33 is outside 1…32"),
        ({"a": {4: np.nan}}, {"a": 1}, "layer 'a' at 4 bits: increase nan"),
    ],
)
def test_bad_input_is_refused_in_one_line(sensitivities, sizes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        quantize.allocate(sensitivities, sizes, 100)
