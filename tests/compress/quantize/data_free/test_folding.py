"""Kernels that take in BatchNorm, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from compress.quantize.data_free import correct, equalize, fold
from pruning.structured import program
from tests.compress.quantize.data_free import networks
from tests.compress.quantize.data_free.networks import EPSILON, Left, Net, NnxNet, drawn, images


@pytest.fixture(scope="module")
def folded():
    variables = drawn(Net())
    return variables, fold(Net(), variables, images())


def test_kernels_take_the_factors_and_biases_the_offsets(folded):
    variables, (new, pairs, left) = folded
    params, stats = variables["params"], variables["batch_stats"]
    for name in ("conv", "depth", "dense"):
        bn, stat = params[f"{name}_bn"], stats[f"{name}_bn"]
        factor = bn["scale"] / np.sqrt(stat["var"].astype("f8") + EPSILON)
        kernel = params[name]["kernel"] * factor
        np.testing.assert_allclose(new["params"][name]["kernel"], kernel, rtol=1e-6)
        offset = (params[name].get("bias", 0) - stat["mean"]) * factor + bn["bias"]
        np.testing.assert_allclose(new["params"][f"{name}_bn"]["bias"], offset, rtol=1e-5)
        assert (new["params"][f"{name}_bn"]["scale"] == 1).all()
        assert (new["batch_stats"][f"{name}_bn"]["mean"] == 0).all()
        assert (new["batch_stats"][f"{name}_bn"]["var"] == np.float32(1 - EPSILON)).all()
        if name != "dense":
            assert not new["params"][name]["bias"].any()
    assert list(pairs) == [f"params/{name}/kernel" for name in ("conv", "depth", "dense")]
    assert pairs["params/dense/kernel"] == (
        "batch_stats/dense_bn/mean",
        "batch_stats/dense_bn/var",
        "params/dense_bn/bias",
        "params/dense_bn/scale",
    )
    assert not left


def test_the_network_answers_as_before(folded):
    variables, (new, _, _) = folded
    wanted = networks.net(variables, images())[0]
    got = Net().apply(new, images())
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
    again = fold(Net(), new, images())
    for one, two in zip(jax.tree.leaves(new), jax.tree.leaves(again.variables), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)  # folded once is folded


def test_what_stays_is_listed_with_the_reason():
    variables = drawn(Left())
    new, pairs, left = fold(Left(), variables, images())
    assert left == {
        "first": "it reads what the network is given",
        "of_twice": "what it reads, an output of add, is used elsewhere, too",
        "before": "it reads an output of add, which is no product",
    }
    assert list(pairs) == ["params/plain/kernel"]  # whose BatchNorm has no bias: its mean holds it
    stat = variables["batch_stats"]["bare"]
    offset = stat["mean"] / np.sqrt(stat["var"] + EPSILON)
    np.testing.assert_allclose(new["batch_stats"]["bare"]["mean"], offset, rtol=1e-5)
    wanted = Left().apply(variables, images())
    np.testing.assert_allclose(Left().apply(new, images()), wanted, rtol=1e-4, atol=1e-5)


def test_networks_of_other_libraries_fold_as_well():
    _, state = nnx.split(NnxNet(nnx.Rngs(0)))
    state = networks.drawn_like(state, np.random.default_rng(0))
    apply = program.of_nnx(NnxNet(nnx.Rngs(0)))
    new, pairs, left = fold(apply, state, images())
    assert (list(pairs), left) == (["one/kernel"], {})
    np.testing.assert_allclose(apply(new, images()), apply(state, images()), rtol=1e-4)
    variables = networks.plain_variables()
    new, pairs, _ = fold(networks.plain, variables, images())
    assert pairs == {"a": ("b", "c")}
    np.testing.assert_allclose(new["a"], variables["a"] * variables["c"][:, None, None, None])
    np.testing.assert_allclose(new["b"], variables["b"] * variables["c"], rtol=1e-5)
    wanted = networks.plain(variables, images())
    np.testing.assert_allclose(networks.plain(new, images()), wanted, rtol=1e-4, atol=1e-4)


def test_what_is_used_in_two_places_stays():
    def shared(variables, x):
        one = x @ variables["a"] * variables["c"][None] + variables["b"][None]
        return (one @ variables["d"]) * variables["c"][None]

    rng = np.random.default_rng(0)
    variables = {name: rng.normal(size=(3, 3)).astype("f4") for name in "ad"}
    variables |= {name: rng.normal(size=3).astype("f4") for name in "bc"}
    new, pairs, left = fold(shared, variables, images()[0, 0])
    assert (pairs, left) == ({}, {"c": "c is used elsewhere, too"})
    jax.tree.map(np.testing.assert_array_equal, new, variables)


def rounding(variables, x):
    """A kernel of integers, then outputs that are rounded."""
    x = x @ variables["a"].astype(jnp.float32) * variables["c"][None]
    x = (jnp.maximum(x, 0) @ variables["d"]).astype(jnp.int32).astype(jnp.float32)
    return (x * variables["e"][None]) @ variables["d"]


def test_integers_are_neither_folded_nor_scaled():
    rng = np.random.default_rng(0)
    variables = {"a": rng.integers(-9, 9, (3, 3)).astype("i1"), "d": 9 * np.eye(3, dtype="f4")}
    variables |= {name: rng.uniform(0.1, 2, 3).astype("f4") for name in "ce"}
    for change in (fold, equalize):
        new, pairs, left = change(rounding, variables, images()[0, 0])
        assert not pairs
        assert left
        jax.tree.map(np.testing.assert_array_equal, new, variables)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_variables_of_fewer_bits_fold_within_their_own_precision(dtype):
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), drawn(Net()))
    new, pairs, left = fold(Net(), variables, images())
    assert (len(pairs), left) == (3, {})
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(dtype)}
    wanted, got = (np.asarray(Net().apply(each, images()), "f8") for each in (variables, new))
    assert np.abs(got - wanted).max() < 4 * float(jnp.finfo(dtype).eps) * np.abs(wanted).max()


def test_keys_among_the_variables_and_other_leaves_stay():
    class Dropping(NnxNet):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

    _, state = nnx.split(Dropping(nnx.Rngs(0)))
    apply = program.of_nnx(Dropping(nnx.Rngs(0)))
    new, pairs, _ = fold(apply, state, images())
    assert list(pairs) == ["one/kernel"]
    assert jax.tree.structure(new) == jax.tree.structure(state)
    variables = {**networks.plain_variables(), "name": jax.tree_util.Partial}
    plain = fold(networks.plain, variables, images()).variables
    assert plain["name"] is variables["name"]
    assert correct(networks.plain, variables, variables, images()).variables["name"]


def test_what_stands_in_loops_and_branches_is_listed():
    def branch(variables, x):
        return jax.lax.cond(x.sum() > 0, lambda x: x @ variables["a"], lambda x: x, x)

    variables = {"a": np.eye(3, dtype="f4")}
    for change in (fold, equalize):
        assert change(branch, variables, images()[0, 0])[1:] == ({}, {"a": "it stands within cond"})
