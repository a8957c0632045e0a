"""What a student keeps of the network before."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from compress.stages import distill
from groundwork.errors import UserError
from groundwork.train.loss_spec import LossSpec
from tests.compress.small import node, pruned


def test_a_kept_student_stays_pruned(untrained, pipeline):
    own = pipeline(stages=("distill",), distill={"init": "keep"})
    before = pruned(own, "fc1/kernel")
    made = distill.run(own, node("distill"), before)
    assert made.mask is before.mask
    jax.tree.map(np.testing.assert_array_equal, untrained[0].mask, before.mask)


@pytest.mark.parametrize(
    ("name", "shape"), [("mean_squared_error", (1,)), ("cross_entropy", (1, 6))]
)
def test_losses_without_one_label_for_each_example_are_refused(name, shape):
    spec = SimpleNamespace(loss=LossSpec(name))
    dataset = SimpleNamespace(target=jax.ShapeDtypeStruct(shape, "int32"))
    with pytest.raises(UserError, match=f"one label for each example, not loss={name}"):
        distill.check_loss(spec, dataset)
