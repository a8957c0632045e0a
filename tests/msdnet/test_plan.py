import numpy as np
import pytest

from msdnet import plan


def flat(blocks):
    return [layer for block in blocks for layer in block]


@pytest.mark.parametrize(("blocks", "depth"), [(4, 10), (5, 15), (6, 21), (7, 28), (8, 36)])
def test_linearly_growing_spans_have_the_paper_s_depths(blocks, depth):
    assert plan.spans(blocks, 1, 1, "lin_grow") == list(range(1, blocks + 1))
    assert sum(plan.spans(blocks, 1, 1, "lin_grow")) == depth


def test_the_anytime_network_has_24_layers_and_exits_after_every_second():
    spans = plan.spans(11, 4, 2, "even")
    assert np.cumsum(spans).tolist() == [2 * (i + 1) for i in range(1, 12)]
    assert sum(spans) == 24


def test_max_drops_a_scale_after_each_third_and_halves_what_is_kept():
    """24 layers, 16 channels growing by 6: 16 + 9 · 6 = 70 → 35; 35 + 8 · 6 = 83 → 41."""
    layers = flat(plan.layers(plan.spans(11, 4, 2, "even"), 3, 16, 6, 0.5, "max"))
    assert [layer.outputs for layer in layers] == [3] * 8 + [2] * 8 + [1] * 8
    assert [layer.inputs for layer in layers] == [3] * 9 + [2] * 8 + [1] * 7
    assert {n: layer.transition for n, layer in enumerate(layers, 1) if layer.transition} == {
        9: 35,
        17: 41,
    }


def test_min_keeps_scales_as_long_as_an_exit_sees_them_and_reduces_after_thirds():
    """16 + 8 · 6 = 64 → 32; 32 + 8 · 6 = 80 → 40."""
    layers = flat(plan.layers(plan.spans(11, 4, 2, "even"), 3, 16, 6, 0.5, "min"))
    assert [layer.outputs for layer in layers] == [3] * 22 + [2, 1]
    assert [layer.inputs for layer in layers] == [3] * 23 + [2]
    assert {n: layer.transition for n, layer in enumerate(layers, 1) if layer.transition} == {
        8: 32,
        16: 40,
    }


@pytest.mark.parametrize("prune", plan.PRUNE)
def test_a_transition_keeps_at_least_one_channel(prune):
    layers = flat(plan.layers([6], 3, 1, 2, 0.01, prune))
    kept = [layer.transition for layer in layers]
    assert (max(kept), sum(kept)) == (1, 2)
    bare = flat(plan.layers([6], 3, 1, 2, 0.0, prune))
    assert not any(layer.transition for layer in bare)
