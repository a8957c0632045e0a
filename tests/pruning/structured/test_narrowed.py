"""A network without some units computes what it does with zeros in their place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import trees
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


def rounds(kind):
    """What two rounds of pruning find and leave: each (graph, what is kept, network)."""
    model, variables, x = made(kind)
    shapes, done = jax.eval_shape(lambda: variables), []
    for seed in range(2):
        graph = structured.groups(model, shapes, x)
        keep = half(graph, seed)
        model = left(graph, keep)
        shapes = jax.eval_shape(lambda v: structured.cut(graph, v, keep), shapes)  # noqa: B023
        done.append((graph, keep, model))
    return done, variables, x


def left(graph, keep):
    return structured.narrow(graph, trees.zeros(graph.shapes), keep)[0]


@every
def test_what_two_rounds_leave_computes_what_zeros_do(kind):
    ((graph, keep, _), (again, then, narrow)), variables, x = rounds(kind)
    assert any(group.name == "stem" for group in graph.groups)
    assert narrow.graph is graph

    @quickly
    def both(variables):
        small = structured.cut(again, structured.cut(graph, variables, keep), then)
        masked = structured.mask(graph, variables, narrow.keep)
        return graph.model.apply(masked, x), narrow.apply(small, x)

    expected, got = both(variables)
    assert_near(got, expected)
    assert sum(units.sum() for units in narrow.keep.values()) < 0.6 * sum(
        group.units for group in graph.groups
    )


def test_two_rounds_are_one_network_without_the_units_of_both():
    ((graph, keep, first), (again, then, narrow)), variables, x = rounds("plain")
    assert first.graph is narrow.graph is graph
    assert again.model is first
    nested = structured.Narrowed(graph=again, keep=then)

    @quickly
    def both(variables):
        small = structured.cut(again, structured.cut(graph, variables, keep), then)
        return (
            small,
            structured.cut(graph, variables, narrow.keep),
            nested.apply(small, x),
            (narrow.apply(small, x)),
        )

    twice, once, ours, theirs = both(variables)
    jax.tree.map(np.testing.assert_array_equal, twice, once)
    assert_near(ours, theirs)


def test_replicates_of_two_rounds_keep_the_units_of_both():
    model, variables, x = made("plain")
    graph = structured.groups(model, variables, x)
    two = {"stem": np.stack([np.arange(16) < 8, np.arange(16) % 2 == 0])}
    first = structured.Narrowed(graph=graph, keep=two)
    small = jax.eval_shape(lambda v: structured.cut(graph, v, {"stem": two["stem"][0]}), variables)
    again = structured.groups(first, small, x)
    narrow = left(again, {"stem": np.arange(8) < 4})
    places = [np.flatnonzero(units).tolist() for units in narrow.keep["stem"]]
    assert places == [[0, 1, 2, 3], [0, 2, 4, 6]]


def test_parts_of_units_that_go_in_a_second_round_are_a_round_of_their_own():
    """Heads went first, and then dimensions of the heads that are left."""
    model, variables, x = made("attention")
    graph = structured.groups(model, variables, x)
    narrow, small = structured.narrow(
        graph, variables, {"qkv": np.array([True, False, True, True])}
    )
    again = structured.groups(narrow, small, x, split="inner")
    then = {"qkv": np.array([True, True, False, True])}
    nested, smallest = structured.narrow(again, small, then)
    assert nested.graph is again
    masked = structured.expand(graph, structured.mask(again, small, then), narrow.keep)

    @quickly
    def both(masked, smallest):
        return model.apply(masked, x), nested.apply(smallest, x)

    assert_near(*both(masked, smallest))
