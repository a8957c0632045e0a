"""A network without some units computes what it does with zeros in their place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pruning import structured
from tests.pruning.structured.zoo import MIDDLES, Net, drawn, images, quickly

every = pytest.mark.parametrize("kind", MIDDLES)


def made(kind):
    model, x = Net(kind), images()
    return model, drawn(jax.eval_shape(model.init, jax.random.key(0), x)), x


def half(graph, seed=0, only_exact=True):
    draw = np.random.default_rng(seed)
    groups = [group for group in graph.groups if group.exact or not only_exact]
    return {g.name: draw.permutation(g.units) < max(1, g.units // 2) for g in groups}


def assert_near(ours, theirs):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * float(jnp.abs(other).max()))


@every
def test_what_is_left_computes_what_zeros_do_and_so_once_more(kind):
    model, variables, x = made(kind)
    for seed in range(2):
        graph = structured.groups(model, variables, x)
        keep = half(graph, seed)
        assert any(group.name == "stem" for group in graph.groups)
        expected = quickly(model.apply)(structured.mask(graph, variables, keep), x)
        model, variables = structured.narrow(graph, variables, keep)
        assert_near(quickly(model.apply)(variables, x), expected)
