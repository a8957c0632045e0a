"""What a student keeps of the network before."""

import jax
import numpy as np

from compress.stages import distill
from tests.compress.small import node, pruned


def test_a_kept_student_stays_pruned(untrained, pipeline):
    own = pipeline(stages=("distill",), distill={"init": "keep"})
    before = pruned(own, "fc1/kernel")
    made = distill.run(own, node("distill"), before)
    assert made.mask is before.mask
    jax.tree.map(np.testing.assert_array_equal, untrained[0].mask, before.mask)
