"""`traced.override`: what computes in place of a network's layers, and how it composes."""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from groundwork.devices import mesh as mesh_lib
from groundwork.traced import reach
from groundwork.traced.network import Network
from groundwork.traced.override import Override, compute, override
from tests.groundwork.traced.networks import (
    KEY,
    SAME,
    TWICE,
    Listed,
    Net,
    Normed,
    Tied,
    dense,
    doubled,
    drawn,
    normal,
    twice,
)


@st.composite
def _modules(draw):
    """A Dense or Conv, and the shape of what it is given; few sizes, as each compiles."""
    options = {
        "use_bias": draw(st.booleans()),
        "dtype": draw(st.sampled_from([None, jnp.float32, jnp.bfloat16])),
    }
    lead = draw(st.sampled_from([(), (2,), (2, 1)]))
    if draw(st.booleans()):
        return nn.Dense(3, **options), (*lead, 4)
    options["padding"] = draw(st.sampled_from(["SAME", "SAME_LOWER", "VALID", 1, ((2, 0), (0, 1))]))
    options["strides"] = draw(st.sampled_from([None, 2, (1, 3), [2, 1]]))
    options["kernel_dilation"] = draw(st.sampled_from([1, (2, 1)]))
    options["feature_group_count"] = draw(st.sampled_from([1, 2]))
    size = draw(st.sampled_from([(1, 1), (2, 3)]))
    return nn.Conv(4, size, **options), (*lead, 7, 6, 2)


@given(_modules())
@settings(max_examples=25)
def test_compute_is_what_the_layer_does(made):
    model, shape = made
    x = normal(*shape)
    variables = drawn(model, x)
    want = model.apply(variables, x)
    outputs = override(model, {"": SAME})(variables, x)
    assert (outputs.shape, outputs.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(outputs.astype("f4"), want.astype("f4"), rtol=1e-6, atol=1e-6)


def test_setup_and_other_methods():
    model, x = Listed(), normal(2, 6)
    variables = drawn(model, x, method="both")
    apply = override(model, {"head": TWICE, "decoder": TWICE})
    twice = doubled(variables, "head", "decoder")
    np.testing.assert_allclose(apply(variables, x), model.apply(twice, x), rtol=1e-6)
    for method in ("decode", Listed.decode):
        outputs = apply(variables, x, method=method)
        np.testing.assert_allclose(outputs, model.apply(twice, x, method=method), rtol=1e-6)


def test_a_kernel_that_is_used_transposed_too_is_refused():
    x = normal(2, 6)
    model = Net(lambda x: (layer := Tied(6, name="a"))(x) + layer.back(x))
    variables = drawn(model, x)
    assert reach.layers(model, variables, x) == ({}, {"a/kernel": "it goes through transpose"})
    with pytest.raises(ValueError, match=r"^layer 'a' cannot be computed .*: it goes through t"):
        override(model, {"a": TWICE})(variables, x)


def test_state_and_keywords_pass_through():
    model, x = Normed(), normal(4, 6)
    variables = model.init(KEY, x)
    options = {"train": True, "rngs": {"dropout": KEY}, "mutable": ["batch_stats"]}
    want, state = model.apply(variables, x, **options)
    outputs, changed = override(model, {"a": TWICE})(variables, x, **options)
    np.testing.assert_allclose(outputs, 2 * want, rtol=1e-6)  # its bias is zero
    jax.tree.map(np.testing.assert_array_equal, changed, state)


def test_frozen_variables_and_parameters_of_another_form():
    model, x = Net(dense()), normal(2, 6)
    params = {"left": normal(6, 2), "right": normal(2, 4), "bias": normal(4)}

    def product(layer, factors, inputs):
        assert sorted(factors) == ["left", "right"]
        return inputs @ factors["left"] @ factors["right"]

    apply = override(model, {"a": Override(product, ("left", "right"), lambda _: (6, 4))})
    want = x @ params["left"] @ params["right"] + params["bias"][None]
    for variables in ({"params": {"a": params}}, flax.core.freeze({"params": {"a": params}})):
        np.testing.assert_allclose(apply(variables, x), want, rtol=1e-6)


def test_what_is_stored_for_a_kernel_must_be_whole():
    model, x = Net(dense()), normal(2, 6)
    apply = override(model, {"a": Override(compute, ("left", "right"), lambda _: (6, 4))})
    with pytest.raises(ValueError, match=r"^layer 'a' has no left, right for its kernel$"):
        apply(model.init(KEY, x), x)
    with pytest.raises(ValueError, match=r"^layer 'a' lacks right$"):
        apply({"params": {"a": {"left": normal(6, 2), "bias": normal(4)}}}, x)


def test_a_layer_whose_name_is_empty_is_the_only_one_of_its_path():
    model, x = Net(lambda x: nn.Dense(3, name="")(x)), normal(2, 6)
    variables = drawn(model, x)
    assert list(reach.layers(model, variables, x)[0]) == [""]
    params = {"": {"left": normal(6, 2), "right": normal(2, 3), "bias": jnp.ones(3)}}

    def product(layer, factors, inputs):
        return inputs @ factors["left"] @ factors["right"]

    apply = override(model, {"": Override(product, ("left", "right"), lambda _: (6, 3))})
    want = x @ params[""]["left"] @ params[""]["right"] + 1
    np.testing.assert_allclose(apply({"params": params}, x), want, rtol=1e-6)


class Inner(nn.Module):
    """Calls another module by itself, whose parameters have the names of its own."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4, name="a")(x)
        params = {"a": {"kernel": jnp.eye(4), "bias": jnp.zeros(4)}}
        return Net(dense(), parent=None).apply({"params": params}, x)


def test_another_module_that_is_applied_within_is_not_the_networks_own():
    model, x = Inner(), normal(2, 6)
    variables = drawn(model, x)
    params = {"a": {"left": normal(6, 2), "right": normal(2, 4), "bias": jnp.ones(4)}}

    def product(layer, factors, inputs):
        return inputs @ factors["left"] @ factors["right"]

    apply = override(model, {"a": Override(product, ("left", "right"), lambda _: (6, 4))})
    want = x @ params["a"]["left"] @ params["a"]["right"] + 1
    np.testing.assert_allclose(apply({"params": params}, x), want, rtol=1e-5)
    assert [one.inputs for one in reach.layers(model, variables, x)[0].values()] == [((2, 6),)]


def test_overrides_compose():
    model, x = Listed(), normal(2, 6)
    variables = drawn(model, x, method="both")
    inner = Network(model.init, override(model, {"head": TWICE}))
    outputs = override(inner, {"stack_0": TWICE})(variables, x)
    np.testing.assert_allclose(
        outputs,
        override(model, {"head": TWICE, "stack_0": TWICE})(variables, x),
        rtol=1e-6,
    )
    assert not np.allclose(outputs, inner.apply(variables, x))
    outer = override(inner, {"head": Override(lambda *args: 5 * compute(*args))})
    np.testing.assert_allclose(outer(variables, x), 10 * model.apply(variables, x), rtol=1e-6)


def test_an_error_leaves_nothing_behind():
    model, x = Net(dense()), normal(2, 6)
    variables = model.init(KEY, x)

    def fails(layer, params, inputs):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        override(model, {"a": Override(fails)})(variables, x)
    assert model.apply(variables, x).shape == (2, 4)


def _small(x):
    x = nn.relu(nn.Conv(3, (3, 3), name="c")(x)).mean((1, 2))
    return nn.Dense(2, name="a")(x)


SMALL, SMALL_IMAGES = Net(_small), (8, 5, 5, 2)
BOTH = {"c": SAME, "a": SAME}


class TestTransforms:
    def test_jit_traces_once(self):
        x, calls = normal(*SMALL_IMAGES), []
        variables = drawn(SMALL, x)

        def counted(layer, params, inputs):
            calls.append(layer.path)
            return twice(layer, params, inputs)

        apply = jax.jit(override(SMALL, {"a": Override(counted)}))
        for factor in (1, 3):
            scaled = jax.tree.map(lambda leaf, factor=factor: factor * leaf, variables)
            outputs = apply(scaled, x)
            np.testing.assert_allclose(outputs, SMALL.apply(doubled(scaled, "a"), x), rtol=1e-5)
        assert calls == ["a"]

    def test_gradients_are_the_networks_own(self):
        x = normal(*SMALL_IMAGES)
        variables = drawn(SMALL, x)

        def loss(apply):
            return lambda v, x: jnp.sum(jnp.sin(apply(v, x)))

        gradients = jax.grad(loss(override(SMALL, BOTH)), (0, 1))(variables, x)
        expected = jax.grad(loss(SMALL.apply), (0, 1))(variables, x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients, expected)

    def test_replicates_by_vmap(self):
        x = normal(*SMALL_IMAGES)
        apply = override(SMALL, {"a": TWICE})
        stacked = jax.vmap(lambda key: SMALL.init(key, x))(jax.random.split(KEY, 3))
        outputs = jax.vmap(apply, (0, None))(stacked, x)
        for r in range(3):
            one = jax.tree.map(lambda leaf, r=r: leaf[r], stacked)
            np.testing.assert_allclose(outputs[r], SMALL.apply(doubled(one, "a"), x), atol=1e-5)

    def test_shard_map(self):
        x = normal(*SMALL_IMAGES)
        variables, mesh = drawn(SMALL, x), mesh_lib.make(1, len(x), data=4)
        apply = override(SMALL, {"c": SAME, "a": TWICE})

        def loss(variables, x):
            return jax.lax.pmean(jnp.mean(jnp.square(apply(variables, x))), "data")

        sharded = jax.shard_map(
            jax.value_and_grad(loss), mesh=mesh, in_specs=(P(), P("data")), out_specs=(P(), P())
        )
        mean, grads = jax.jit(sharded)(variables, x)

        def whole(variables):
            return jnp.mean(jnp.square(SMALL.apply(doubled(variables, "a"), x)))

        want, wanted = jax.value_and_grad(whole)(variables)
        np.testing.assert_allclose(mean, want, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), grads, wanted)
