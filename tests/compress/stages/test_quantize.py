"""What masks, bits and grids of inputs are where weights lose bits."""

import jax
import numpy as np
import pytest

from compress import form as form_lib
from compress.stages import quantize
from groundwork import trees
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from tests.compress.small import dense, node, pruned


def test_pruned_biases_stay_pruned_while_codebooks_are_trained(untrained, pipeline):
    own = pipeline(stages=("quantize",))
    before = pruned(own, "fc1/kernel")
    bias = np.arange(15) % 2 == 0
    mask = {**before.mask, "fc1/bias": np.stack([bias, ~bias])}
    quantize.run(own, node("quantize", 3), before._replace(mask=mask))
    (tuned,) = untrained
    assert list(tuned.mask) == ["fc1/bias"]
    assert tuned.variables["params"]["fc1"]["kernel"].shape == (2, 8)


def test_signs_are_refused_where_a_network_was_pruned_before(untrained, pipeline):
    own = pipeline(stages=("quantize",), quantize={"method": "binary"})
    with pytest.raises(UserError, match="no zero for pruned weights"):
        quantize.run(own, node("quantize"), pruned(own, "fc1/kernel"))
    assert not untrained


def test_a_rate_leaves_weights_out_which_stay_zero_while_codebooks_are_trained(untrained, pipeline):
    own = pipeline(stages=("quantize",), quantize={"rate": 0.3})
    before = pruned(own, "fc1/kernel")
    made = quantize.run(own, node("quantize", 3), before)
    (tuned,) = untrained
    assert not tuned.mask  # codebooks have none
    for path in ("fc1/kernel", "fc2/kernel"):
        layer = made.variables["params"][path.partition("/")[0]]["kernel"]
        was = before.mask.get(path, np.ones(layer.mask.shape, bool))
        np.testing.assert_array_equal(made.mask[path], layer.mask)
        assert (layer.mask <= was).all()
        assert layer.mask.sum() < was.sum()
        assert layer.codebook.shape == (2, 8)


def test_bits_of_all_layers_may_be_said_beside_a_mean(untrained, pipeline):
    rules = {"mixed": True, "layers": {"*": 5}, "fine_tune": False}
    own = pipeline(stages=("quantize",), quantize=rules)
    made = quantize.run(own, node("quantize", 4), dense(own))
    assert set(made.bits.values()) == {5}
    assert not untrained


def test_inputs_of_layers_are_rounded_on_each_replicates_own_grids(untrained, pipeline):
    rules = {"activation_bits": 5, "activation_range": "percentile", "gradient_bits": 3}
    own = pipeline(stages=("quantize",), quantize={"method": "uniform", **rules})
    before = pruned(own, "fc1/kernel")
    made = quantize.run(own, node("quantize", 3), before)
    widths = dict.fromkeys(("fc1", "fc2", "output"), 5)
    inputs = data_lib.first_examples(own.context.dataset, quantize.SEEN)[0]
    for r in range(2):
        one = trees.replicate(before.variables, r)
        want = form_lib.calibrated(before.form, one, inputs, widths, range="percentile")
        grids = trees.replicate(made.variables["activations"], r)
        jax.tree.map(np.testing.assert_array_equal, grids, want)
    assert made.form == before.form._replace(activations=widths)
    (tuned,) = untrained
    assert tuned.recipe.form.gradients == dict.fromkeys(widths, 3)
    assert tuned.mask.keys() == made.mask.keys() == before.mask.keys()
