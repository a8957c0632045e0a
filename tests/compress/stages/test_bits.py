"""Bits within a budget, by measured losses."""

import numpy as np

from compress.stages import bits
from groundwork import trees
from tests.compress.small import pruned


def test_a_budget_of_bits_counts_what_is_not_pruned(pipeline, monkeypatch):
    own = pipeline(stages=("quantize",), quantize={"mixed": True})
    before = pruned(own, "fc1/kernel", density=0.1)
    losses = {"fc1/kernel": {2: 1.0, 8: 0.0}, "fc2/kernel": {2: 0.1, 8: 0.0}}
    losses["output/kernel"] = losses["fc2/kernel"]
    monkeypatch.setattr(bits, "_sensitivities", lambda *_: losses)
    chosen = bits.mixed(own.context, own.spec.sections["quantize"], before, [*losses], 5)
    sizes = {path: leaf[0].size for path, leaf in before.mask.items()}
    assert 8 * sizes["fc1/kernel"] > 5 * sum(sizes.values())
    assert chosen == {"fc1/kernel": 8, "fc2/kernel": 2, "output/kernel": 2}


def test_losses_are_measured_with_what_is_pruned_at_zero(pipeline):
    own = pipeline(stages=("quantize",))
    before = pruned(own, "fc1/kernel")
    params, mask = trees.replicate((before.variables["params"], before.mask), 0)
    change = bits._one_quantized(own.spec.sections["quantize"], "fc1/kernel", 2)
    changed = change(params, mask)
    kernel = np.asarray(changed["fc1"]["kernel"])
    assert not kernel[~mask["fc1/kernel"]].any()
    assert len(np.unique(kernel)) == 2**2
    np.testing.assert_array_equal(changed["fc2"]["kernel"], params["fc2"]["kernel"])
