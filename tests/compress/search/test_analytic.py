"""The analytic choice against a trial of every choice of a small space."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from compress.search import analytic
from compress.search.additive import Costs, Layer
from compress.search.analytic import Knowledge
from compress.search.evaluation import Measured
from compress.search.options import Space, Units
from compress.search.sensitivity import Sensitivities, parts_of
from compress.search.settings import AS_IT_IS, Setting

UNITS = (1.0, 0.5, 0.25)
LAYERS = ("first", "second", "last")
NAMES = ("bytes", "multiply_adds")


def invented(seed):
    """A chain of three layers whose losses and costs are drawn."""
    rng = np.random.default_rng(seed)
    weights = [Setting(), Setting(density=0.2), Setting(bits=2)]
    options = {
        layer: tuple(
            dataclasses.replace(one, units=share)
            for share in (UNITS if layer != "last" else (1.0,))
            for one in weights
        )
        for layer in LAYERS
    }
    options["last"] += (Setting(method="svd", rank=2),)
    space = Space(
        options=options,
        units={"first": Units(8, LAYERS[:2]), "second": Units(8, LAYERS[1:])},
        axes={
            "first": ({}, {"first": 1.0}),
            "second": ({"first": 1.0}, {"second": 1.0}),
            "last": ({"second": 1.0}, {}),
        },
    )
    rows = {
        layer: {
            part: Measured(*(rng.integers(-2, 30, 2) / 64)) if part != AS_IT_IS else Measured(0, 0)
            for part in dict.fromkeys(part for one in row for part in parts_of(one))
        }
        for layer, row in options.items()
    }
    layers = {
        layer: Layer(
            size=64,
            density=1.0,
            coded={(1.0, 0): 256, (0.2, 0): int(rng.integers(60, 90)), (1.0, 2): 20},
            forms={("", 0): (64, int(rng.integers(64, 640)), 0), ("svd", 2): (32, 40, 0)},
        )
        for layer in LAYERS
    }
    costs = Costs(names=NAMES, layers=layers, rest={"bytes": 50, "multiply_adds": 7}, space=space)
    return Knowledge(space, Sensitivities(Measured(0, 0), rows, 8), costs)


def every(knowledge):
    """All choices that are possible."""
    for part in knowledge.space.parts():
        for row in itertools.product(*part.options.values()):
            yield dict(zip(part.options, row, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_no_choice_within_the_budgets_loses_less(seed):
    knowledge = invented(seed)
    budgets = {"bytes": 330, "multiply_adds": 500}
    fitting = [
        choice
        for choice in every(knowledge)
        if all(knowledge.costs.of(choice)[name] <= most for name, most in budgets.items())
    ]
    best = min(map(knowledge.error, fitting))
    chosen = analytic.choose(knowledge, budgets)
    knowledge.space.check(chosen)
    assert all(knowledge.costs.of(chosen)[name] <= most for name, most in budgets.items())
    assert knowledge.error(chosen) == pytest.approx(best)
    assert AS_IT_IS not in chosen.values()


@pytest.mark.parametrize("seed", range(3))
def test_no_choice_that_loses_at_most_that_costs_less(seed):
    knowledge = invented(seed)
    fitting = [c for c in every(knowledge) if knowledge.accuracy_loss(c) <= 0.25]
    least = min(knowledge.costs.of(choice)["bytes"] for choice in fitting)
    chosen = analytic.cheapest(knowledge, 0.25, "bytes")
    assert knowledge.accuracy_loss(chosen) <= 0.25
    assert knowledge.costs.of(chosen)["bytes"] == least


def test_many_combinations_of_units_are_climbed(monkeypatch):
    knowledge, budgets = invented(0), {"bytes": 330}
    best = knowledge.error(analytic.choose(knowledge, budgets))
    monkeypatch.setattr(analytic, "TRIED", 0)
    chosen = analytic.choose(knowledge, budgets)
    assert knowledge.costs.of(chosen)["bytes"] <= 330
    assert best <= knowledge.error(chosen) <= 1.5 * best + 0.1


def test_budgets_that_cannot_be_met_are_named_with_the_least():
    knowledge = invented(1)
    least = min(knowledge.costs.of(choice)["bytes"] for choice in every(knowledge))
    assert analytic.least_of(knowledge, "bytes") == least
    analytic.choose(knowledge, {"bytes": least})
    with pytest.raises(
        ValueError, match=f"bytes={least - 1:.6g} cannot be met: the least is {least:.6g}"
    ):
        analytic.choose(knowledge, {"bytes": least - 1})
    with pytest.raises(ValueError, match="bytes=nan cannot be met: the least is"):
        analytic.choose(knowledge, {"bytes": float("nan")})
    free = analytic.choose(knowledge, {"bytes": float("inf")})
    assert knowledge.error(free) == pytest.approx(min(map(knowledge.error, every(knowledge))))
    with pytest.raises(ValueError, match="there is no cost 'joules'"):
        analytic.choose(knowledge, {"joules": 3})
    with pytest.raises(ValueError, match="an accuracy loss of -9 cannot be met by any choice"):
        analytic.cheapest(knowledge, -9, "bytes")


def test_budgets_that_exclude_each_other_are_told_as_such():
    """The low rank that the one needs excludes that units go, which the other needs."""
    knowledge = invented(0)
    products = {"first": 100, "second": 100, "last": 5000}
    layers = {
        name: dataclasses.replace(
            layer, forms={("", 0): (64, products[name], 0), ("svd", 2): (32, 10, 0)}
        )
        for name, layer in knowledge.costs.layers.items()
    }
    knowledge = knowledge._replace(costs=dataclasses.replace(knowledge.costs, layers=layers))
    budgets = {name: analytic.least_of(knowledge, name) for name in NAMES}
    for name, most in budgets.items():
        analytic.choose(knowledge, {name: most})
    with pytest.raises(ValueError, match=r"bytes=.* and multiply_adds=.* cannot be met together"):
        analytic.choose(knowledge, budgets)


def test_uniform_choices_give_every_layer_the_same(searched):
    found = analytic.uniform(searched.space)
    assert {layer: Setting(density=0.2, bits=2) for layer in ("conv", "fc")} in found
    assert all(len(set(map(str, choice.values()))) <= 2 for choice in found)
    knowledge = Knowledge(searched.space, searched.sensitivities, searched.costs)
    saved = json.loads(json.dumps(knowledge.to_json()))
    assert Knowledge.from_json(saved) == knowledge
    most = 0.5 * searched.costs.of({})["bytes"]
    chosen = analytic.choose(knowledge, {"bytes": most})
    assert searched.costs.of(chosen)["bytes"] <= most
