"""What tied layers keep of what was pruned before."""

import numpy as np

from compress.stages import share
from tests.compress.small import GROUPS, node, pruned


def test_what_was_pruned_stays_so_where_layers_are_tied(untrained, pipeline):
    own = pipeline("residual_mlp", 0.128, stages=("share",), share={"groups": GROUPS})
    before = pruned(own, "fc1/kernel", "output/kernel")
    made = share.run(own, node("share"), before)
    assert sorted(made.mask) == ["fc1/kernel", "output/kernel"]
    for path, kept in made.mask.items():
        np.testing.assert_array_equal(kept, before.mask[path])
    assert untrained[0].mask.keys() == made.mask.keys()


def test_the_mean_of_tied_layers_is_pruned_where_all_are(untrained, pipeline):
    groups = {"groups": GROUPS, "values": "mean"}
    own = pipeline("residual_mlp", 0.128, stages=("share",), share=groups)
    before = pruned(own, "fc1/kernel", "fc2/kernel")
    made = share.run(own, node("share"), before)
    either = before.mask["fc1/kernel"] | before.mask["fc2/kernel"]
    np.testing.assert_array_equal(made.mask["fc1/kernel"], either)
