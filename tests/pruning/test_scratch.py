"""Controls that are trained anew: for how long, and with which learning rates."""

import types

import jax
import numpy as np
import pytest

from configs.pruning import digits
from groundwork import architectures, trees
from groundwork import config as config_lib
from groundwork.errors import UserError
from groundwork.traced.macs import multiply_adds
from pruning import branches, spec, structured

SHAPE = (8, 8, 1)
EXAMPLE = np.zeros((1, *SHAPE), np.float32)


def checked(**overrides):
    config = digits.get_config()
    config.optimizer.update(schedule="step", drop_steps=(200, 300))
    config.branches.update(**overrides)
    return spec.from_config(config_lib.resolve(config))


def steps_of(monkeypatch, branch, **overrides):
    """The steps and drops with which a control is trained, and how much cheaper it is."""
    model = architectures.build({"name": "lenet_300_100", "width": 0.1}, 10)
    shapes = architectures.shapes(model, SHAPE)
    graph = structured.groups(model, shapes, SHAPE)
    keep = {group.name: np.arange(group.units)[None] % 2 == 0 for group in graph.groups}
    context = types.SimpleNamespace(dataset=types.SimpleNamespace(example=EXAMPLE))
    zeros = jax.tree.map(lambda leaf: np.zeros((1, *leaf.shape), leaf.dtype), shapes)
    experiment = types.SimpleNamespace(
        spec=checked(**overrides), graph=graph, context=context, fresh=zeros
    )
    seen = []
    monkeypatch.setattr(branches, "fitted", lambda *given: seen.append(given))
    branches.make_scratch(experiment, branch, spec.Point(0.5, "0.5"), keep)
    (_, name, network, _, (steps, optimizer, *_)) = seen[0]
    assert name == f"{branch}/0.5"
    keep = {name: units[0] for name, units in keep.items()}
    small = structured.cut(graph, trees.zeros(shapes), keep)
    costs = [multiply_adds(m.apply, v, EXAMPLE) for m, v in ((model, shapes), (network, small))]
    return steps.steps, optimizer.drop_steps, costs[0] / costs[1]


def test_scratch_e_trains_as_long_as_the_original(monkeypatch):
    steps, drops, _ = steps_of(monkeypatch, "scratch_e")
    assert (steps, drops) == (400, (200, 300))


def test_scratch_b_takes_as_many_multiply_adds_and_drops_its_rate_at_the_same_shares(monkeypatch):
    steps, drops, times = steps_of(monkeypatch, "scratch_b")
    assert times > 2
    assert steps == round(400 * times)
    assert drops == (round(200 * times), round(300 * times))


def test_scratch_b_may_be_shorter(monkeypatch):
    steps, drops, _ = steps_of(monkeypatch, "scratch_b", scratch_b_at_most=1.5)
    assert (steps, drops) == (600, (300, 450))


def test_a_limit_below_zero_is_refused_and_one_without_effect_is_named():
    with pytest.raises(UserError, match=r"branches\.scratch_b_at_most=-1"):
        checked(scratch_b_at_most=-1.0)
    given = ["branches.scratch_b_at_most"]
    config = config_lib.resolve(digits.get_config())
    (line,) = spec.without_effect(checked(scratch_b=False, scratch_b_at_most=2.0), config, given)
    assert "branches.scratch_b=false" in line
    assert not spec.without_effect(checked(scratch_b_at_most=2.0), config, given)
