"""Which layers of a network can be decomposed, and what shapes a plan gives its variables."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from lowrank import factorization
from tests.lowrank.factorization.networks import KEY, PLAN, small

EXAMPLE = jax.ShapeDtypeStruct((1, 5, 5, 2), "float32")


class Net(nn.Module):
    """Two layers of each kind, one of them in groups."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), feature_group_count=2, name="grouped")(x)
        x = nn.Conv(4, (1, 1), name="conv")(x).reshape(len(x), -1)
        return nn.Dense(2, name="fc2")(nn.Dense(3, name="fc1")(x))


def test_layers_in_groups_and_those_that_patterns_name_are_listed_with_the_reason():
    shapes = jax.eval_shape(Net().init, KEY, jnp.zeros((1, 5, 5, 2)))
    layers, refused = factorization.decomposable(Net(), shapes, EXAMPLE, ("con*", "fc2"))
    assert list(layers) == ["fc1"]
    named = "leave names it"
    assert refused == {"grouped": "it has 2 groups", "conv": named, "fc2": named}
    with pytest.raises(ValueError, match=r"^unknown layer 'fc11'; did you mean 'fc1'\?"):
        factorization.decomposable(Net(), shapes, EXAMPLE, ("fc11",))


def test_shapes_are_those_of_the_decomposed_variables():
    full = jax.eval_shape(lambda variables: variables, small())
    changed = jax.eval_shape(lambda variables: factorization.decompose(variables, PLAN)[0], full)
    assert factorization.shapes(full, PLAN) == changed
    assert factorization.shapes(full, {}) == full
    with pytest.raises(ValueError, match=r"^layer 'c': rank 9 is outside"):
        factorization.shapes(full, {"c": {"method": "svd", "rank": 9}})
    with pytest.raises(ValueError, match=r"^unknown layer 'cc'"):
        factorization.shapes(full, {"cc": PLAN["c"]})
