import flax.linen as nn
import numpy as np
import pytest

from msdnet import cost
from msdnet.model import MSDNet
from tests.msdnet import references
from tests.msdnet.references import PAPER, SMALL

CIFAR = (32, 32, 3)


def test_the_cifar_100_anytime_network_has_the_published_layers_and_costs():
    model = MSDNet(100)
    assert cost.parameters(model, CIFAR) == 3_067_960
    found, expected = cost.costs(model, CIFAR), references.counts(PAPER, CIFAR)
    assert [(c.params, c.macs, c.macs_cumulative) for c in found] == [
        (row[0], row[1], row[3]) for row in expected
    ]
    assert [c.macs for c in found] == [
        14_967_296,
        21_707_264,
        28_792_320,
        34_801_152,
        41_694_720,
        46_337_536,
        51_891_712,
    ]
    # all heads so far, in millions
    cumulative = [round(c.macs_cumulative / 1e6, 2) for c in found]
    assert cumulative == [14.97, 25.26, 36.78, 45.97, 56.93, 66.53, 75.49]
    assert found[-1].macs_cumulative == 75_487_744
    assert all(type(n) is int for c in found for n in c)


def test_the_paper_s_defaults_are_ours():
    given = {key: getattr(MSDNet(100), key) for key in PAPER}
    assert given == PAPER


COUNTED = {
    "max": (SMALL, (17, 15, 3)),
    "min, growing": (
        {
            **SMALL,
            "step_mode": "lin_grow",
            "step": 2,
            "prune": "min",
            "head": 0,
            "reduction": 0.3,
        },
        CIFAR,
    ),
    "imagenet": (
        {
            **SMALL,
            "blocks": 2,
            "growth_factors": (1, 2, 4, 4),
            "bottleneck_factors": (1, 0, 4, 4),
            "stem": "imagenet",
            "head": 0,
        },
        (224, 224, 3),
    ),
    "one scale": (
        {**SMALL, "growth": 3, "growth_factors": (1,), "bottleneck_factors": (2,)},
        (8, 8, 1),
    ),
    "no transitions": (
        {**SMALL, "base": 1, "reduction": 0.0, "bottleneck_factors": (0,) * 3},
        CIFAR,
    ),
    "fewer layers than scales": ({**SMALL, "blocks": 1, "base": 1, "prune": "min"}, CIFAR),
    "one pixel": ({**SMALL, "blocks": 1, "base": 1, "stem": "imagenet"}, (1, 1, 1)),
}


@pytest.mark.parametrize("name", COUNTED)
def test_every_exit_costs_what_the_layer_rules_add_up_to(name):
    given, shape = COUNTED[name]
    model = MSDNet(**given)
    found, expected = cost.costs(model, shape), references.counts(given, shape)
    assert [c.params for c in found] == [row[0] for row in expected]
    assert [c.macs for c in found] == [row[1] for row in expected]
    assert [c.macs_cumulative for c in found] == [row[3] for row in expected]


def test_parameters_with_all_heads_so_far_are_those_known_of_the_cifar_network():
    found = [round(row[2] / 1e6, 3) for row in references.counts(PAPER, CIFAR)]
    assert found == [0.434, 0.877, 1.275, 1.696, 2.178, 2.603, 3.068]


# milliseconds


class Halving(nn.Module):
    """A block takes the features of the block before: half of its pixels."""

    exits = 2

    def block(self, k, features):
        assert features.shape[1] == 8 // 2**k
        return features[:, ::2], features


def test_milliseconds_of_an_exit_are_medians_of_all_blocks_until_there(monkeypatch):
    spent = [1, 50, 2, 4, 0, 3]  # seconds of a run: three of each block
    ticks = iter(np.cumsum([x for seconds in spent for x in (10, seconds)]).tolist())
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(ticks))
    found = cost.milliseconds(Halving(), {}, np.zeros((4, 8, 1, 1), np.float32), repeats=3)
    assert found == [1e3 * 2 / 4, 1e3 * (2 + 3) / 4]
