"""A network without some units computes what it does with zeros in their place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from groundwork import trees
from pruning import structured
from tests.pruning.structured.zoo import MIDDLES, Net, drawn, images, quickly

# where a second round meets what the first one has cut: windows, groups, paddings, places
TWICE = ["grouped", "group_norm", "shuffle", "dense_block", "padded_shortcut", "halves", "scanned"]
every = pytest.mark.parametrize("kind", MIDDLES)


def made(kind):
    model, x = Net(kind), images()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), x))
    return model, jax.tree.map(np.asarray, variables), x


def half(graph, seed=0, only_exact=True):
    draw = np.random.default_rng(seed)
    groups = [group for group in graph.groups if group.exact or not only_exact]
    return {g.name: draw.permutation(g.units) < max(1, g.units // 2) for g in groups}


def assert_near(ours, theirs):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * float(jnp.abs(other).max()))


def rounds(kind, count=2):
    """What rounds of pruning find and leave: each (graph, what is kept, network, variables)."""
    model, variables, x = made(kind)
    done = []
    for seed in range(count):
        graph = structured.groups(model, variables, x)
        keep = half(graph, seed)
        model, variables = structured.narrow(graph, variables, keep)
        done.append((graph, keep, model, variables))
    return done, x


@every
def test_what_is_left_computes_what_zeros_do_and_after_two_rounds_too(kind):
    done, x = rounds(kind, 2 if kind in TWICE else 1)
    (graph, *_), (*_, narrow, small) = done[0], done[-1]
    assert any(group.name == "stem" for group in graph.groups)
    assert narrow.graph is graph
    expected, got = quickly(
        lambda masked, small: (graph.model.apply(masked, x), narrow.apply(small, x))
    )(structured.mask(graph, made(kind)[1], narrow.keep), small)
    assert_near(got, expected)
    assert sum(units.sum() for units in narrow.keep.values()) < 0.6 * sum(
        group.units for group in graph.groups
    )


def test_two_rounds_are_one_network_without_the_units_of_both():
    ((graph, _, first, _), (again, then, narrow, small)), x = rounds("plain")
    assert first.graph is narrow.graph is graph
    assert again.model is first
    once = structured.cut(graph, made("plain")[1], narrow.keep)
    jax.tree.map(np.testing.assert_array_equal, small, once)
    nested = structured.Narrowed(graph=again, keep=then)
    assert_near(*quickly(lambda small: (nested.apply(small, x), narrow.apply(small, x)))(small))


def test_replicates_of_two_rounds_keep_the_units_of_both():
    model, variables, x = made("plain")
    graph = structured.groups(model, variables, x)
    keep = {"stem": np.stack([np.arange(16) < 8, np.arange(16) % 2 == 0])}
    both = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), variables)
    first, small = structured.narrow(graph, both, keep)
    again = structured.groups(first, trees.replicate(small, 0), x)
    narrow, smaller = structured.narrow(again, small, {"stem": np.stack([np.arange(8) < 4] * 2)})
    places = [np.flatnonzero(units).tolist() for units in narrow.keep["stem"]]
    assert places == [[0, 1, 2, 3], [0, 2, 4, 6]]
    once = structured.cut(graph, both, narrow.keep)
    jax.tree.map(np.testing.assert_array_equal, smaller, once)


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


def test_arrays_of_numpy_and_of_jax_are_cut_alike():
    model, variables, x = made("plain")
    graph = structured.groups(model, variables, x)
    keep = {"stem": np.stack([np.arange(16) < 8, np.arange(16) % 2 == 0])}
    both = jax.tree.map(lambda leaf: np.stack([leaf, leaf]).astype(jnp.bfloat16), variables)
    for change in (structured.cut, structured.mask):
        ours, theirs = (
            change(graph, both, keep),
            change(graph, jax.tree.map(jnp.asarray, both), keep),
        )
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(ours))
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(ours))


def test_a_network_is_shown_in_one_line_in_an_interpreter():
    graph = structured.groups(*made("plain"))
    keep = {"stem": np.arange(graph.groups[0].units) < 3}
    network, _ = structured.narrow(graph, made("plain")[1], keep)
    units = {group.name: group.units for group in graph.groups}
    assert repr(graph) == f"Graph({', '.join(f'{name}: {n}' for name, n in units.items())})"
    assert repr(network) == f"Narrowed(stem: 3 of {units['stem']})"
    replicates = structured.Narrowed(graph=graph, keep={"stem": np.stack([keep["stem"]] * 2)})
    assert repr(replicates) == repr(network)


@pytest.mark.parametrize("asarray", [np.asarray, jnp.asarray])
def test_variables_of_another_network_are_refused_and_so_are_replicates_for_one_plan(asarray):
    """Places beyond an array of JAX would be NaN, and an axis before the others cut in vain."""

    def apply(v, x):
        return x @ v["in"] @ v["out"]

    whole = {"in": np.ones((3, 6)), "out": np.ones((6, 2))}
    graph = structured.groups(apply, whole, jnp.ones((2, 3)))
    (group,) = graph.groups
    keep = {group.name: np.arange(6) > 2}
    for count in (4, 8):
        other = {"in": asarray(np.ones((3, count))), "out": asarray(np.ones((count, 2)))}
        message = rf"in is \(3, {count}\), not \(3, 6\) as of the whole network"
        with pytest.raises(ValueError, match=message):
            structured.narrow(graph, other, keep)
        with pytest.raises(ValueError, match=message):
            structured.scores(graph, other)
    stacked = jax.tree.map(lambda leaf: asarray(np.stack([leaf] * 2)), whole)
    with pytest.raises(ValueError, match=r"in is \(2, 3, 6\), not \(3, 6\)"):
        structured.narrow(graph, stacked, keep)
    with pytest.raises(ValueError, match="another network's: they lack out"):
        structured.scores(graph, {"in": whole["in"]})


def test_an_nnx_module_is_a_function_of_its_state_in_evaluation():
    class Small(nnx.Module):
        def __init__(self, rngs):
            self.one = nnx.Linear(4, 6, rngs=rngs)
            self.norm = nnx.BatchNorm(6, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.two = nnx.Linear(6, 2, rngs=rngs)

        def __call__(self, x):
            return self.two(self.drop(nnx.relu(self.norm(self.one(x)))))

    module, x = Small(nnx.Rngs(0)), jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    for variables in (nnx.state(module), nnx.state(module, nnx.Param)):
        graph = structured.groups(module, variables, x)
        assert [(group.units, group.exact) for group in graph.groups] == [(6, True)]
        keep = structured.choose(graph, structured.scores(graph, variables, "l2"), ratio=0.5)
        network, small = structured.narrow(graph, variables, keep)
        whole = nnx.clone(module)
        nnx.update(whole, structured.mask(graph, variables, keep))
        whole.eval()
        np.testing.assert_allclose(network.apply(small, x), whole(x), rtol=1e-5, atol=1e-6)
    assert not module.drop.deterministic


def test_a_function_has_no_init_and_says_what_makes_new_variables():
    variables = {"in": jnp.ones((3, 4)), "out": jnp.ones((4, 2))}
    graph = structured.groups(lambda v, x: x @ v["in"] @ v["out"], variables, jnp.ones((2, 3)))
    keep = {graph.groups[0].name: np.arange(4) > 1}
    network, _ = structured.narrow(graph, variables, keep)
    with pytest.raises(ValueError, match=r"has no init: give new variables .*renewed\(graph"):
        network.init(jax.random.key(0), jnp.ones((2, 3)))
    renewed = structured.renewed(graph, variables, keep)
    np.testing.assert_allclose(renewed["out"], np.sqrt(2) * np.ones((2, 2)), rtol=1e-6)
