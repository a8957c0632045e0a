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
from groundwork.traced import override
from tests.groundwork.traced.networks import (
    KEY,
    Listed,
    Net,
    Normed,
    Tied,
    dense,
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
    outputs = override.override(model, {"": override.compute})(variables, x)
    assert (outputs.shape, outputs.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(outputs.astype("f4"), want.astype("f4"), rtol=1e-6, atol=1e-6)


def test_setup_and_other_methods():
    model, x = Listed(), normal(2, 6)
    variables = drawn(model, x, method="both")
    apply = override.override(model, {"head": twice, "decoder": twice})
    np.testing.assert_allclose(apply(variables, x), 2 * model.apply(variables, x), rtol=1e-6)
    for method in ("decode", Listed.decode):
        outputs = apply(variables, x, method=method)
        np.testing.assert_allclose(outputs, 2 * model.apply(variables, x, method=method), rtol=1e-6)


def test_only_the_call_of_a_layer_is_computed_otherwise():
    x = normal(2, 6)
    model = Net(lambda x: (layer := Tied(6, name="a"))(x) + layer.back(x))
    variables = drawn(model, x)
    alone = {"params": variables["params"]["a"]}
    want = 2 * Tied(6).apply(alone, x) + Tied(6).apply(alone, x, method="back")
    outputs = override.override(model, {"a": twice})(variables, x)
    np.testing.assert_allclose(outputs, want, rtol=1e-6)
    met, _ = override.layers(model, variables, x)
    assert met["a"].inputs == ((2, 6),)
    assert len(override.inputs_of(model, variables, x, ("a",))["a"]) == 1


def test_state_and_keywords_pass_through():
    model, x = Normed(), normal(4, 6)
    variables = model.init(KEY, x)
    options = {"train": True, "rngs": {"dropout": KEY}, "mutable": ["batch_stats"]}
    want, state = model.apply(variables, x, **options)
    outputs, changed = override.override(model, {"a": twice})(variables, x, **options)
    np.testing.assert_allclose(outputs, 2 * want, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, changed, state)


def test_frozen_variables_and_parameters_of_another_form():
    model, x = Net(dense()), normal(2, 6)
    params = {"left": normal(6, 2), "right": normal(2, 4)}

    def compute(layer, factors, inputs):
        assert sorted(factors) == ["left", "right"]
        return inputs @ factors["left"] @ factors["right"]

    apply = override.override(model, {"a": compute})
    want = x @ params["left"] @ params["right"]
    for variables in ({"params": {"a": params}}, flax.core.freeze({"params": {"a": params}})):
        np.testing.assert_allclose(apply(variables, x), want, rtol=1e-6)


def test_overrides_compose_and_the_outer_one_computes_what_both_name():
    model, x = Listed(), normal(2, 6)
    variables = drawn(model, x, method="both")
    inner = override.Network(model.init, override.override(model, {"head": twice}))
    outputs = override.override(inner, {"stack_0": twice})(variables, x)
    np.testing.assert_allclose(
        outputs,
        override.override(model, {"head": twice, "stack_0": twice})(variables, x),
        rtol=1e-6,
    )
    assert not np.allclose(outputs, inner.apply(variables, x))
    outer = override.override(inner, {"head": lambda *args: 5 * override.compute(*args)})
    np.testing.assert_allclose(outer(variables, x), 5 * model.apply(variables, x), rtol=1e-6)


def test_an_error_leaves_nothing_behind():
    model, x = Net(dense()), normal(2, 6)
    variables = model.init(KEY, x)

    def fails(layer, params, inputs):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        override.override(model, {"a": fails})(variables, x)
    assert model.apply(variables, x).shape == (2, 4)


def _small(x):
    x = nn.relu(nn.Conv(3, (3, 3), name="c")(x)).mean((1, 2))
    return nn.Dense(2, name="a")(x)


SMALL, SMALL_IMAGES = Net(_small), (8, 5, 5, 2)
BOTH = {"c": override.compute, "a": override.compute}


class TestTransforms:
    def test_jit_traces_once(self):
        x, calls = normal(*SMALL_IMAGES), []
        variables = drawn(SMALL, x)

        def counted(layer, params, inputs):
            calls.append(layer.path)
            return twice(layer, params, inputs)

        apply = jax.jit(override.override(SMALL, {"a": counted}))
        for factor in (1, 3):
            scaled = jax.tree.map(lambda leaf, factor=factor: factor * leaf, variables)
            outputs = apply(scaled, x)
            np.testing.assert_allclose(outputs, 2 * SMALL.apply(scaled, x), rtol=1e-5)
        assert calls == ["a"]

    def test_gradients_are_the_networks_own(self):
        x = normal(*SMALL_IMAGES)
        variables = drawn(SMALL, x)

        def loss(apply):
            return lambda v, x: jnp.sum(jnp.sin(apply(v, x)))

        gradients = jax.grad(loss(override.override(SMALL, BOTH)), (0, 1))(variables, x)
        expected = jax.grad(loss(SMALL.apply), (0, 1))(variables, x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients, expected)

    def test_replicates_by_vmap(self):
        x = normal(*SMALL_IMAGES)
        apply = override.override(SMALL, {"a": twice})
        stacked = jax.vmap(lambda key: SMALL.init(key, x))(jax.random.split(KEY, 3))
        outputs = jax.vmap(apply, (0, None))(stacked, x)
        for r in range(3):
            one = jax.tree.map(lambda leaf, r=r: leaf[r], stacked)
            np.testing.assert_allclose(outputs[r], 2 * SMALL.apply(one, x), atol=1e-5)

    def test_shard_map(self):
        x = normal(*SMALL_IMAGES)
        variables, mesh = drawn(SMALL, x), mesh_lib.make(1, len(x), data=4)
        apply = override.override(SMALL, {"c": override.compute, "a": twice})

        def loss(variables, x):
            return jax.lax.pmean(jnp.mean(jnp.square(apply(variables, x))), "data")

        sharded = jax.shard_map(
            jax.value_and_grad(loss), mesh=mesh, in_specs=(P(), P("data")), out_specs=(P(), P())
        )
        mean, grads = jax.jit(sharded)(variables, x)

        def whole(variables):
            return jnp.mean(jnp.square(2 * SMALL.apply(variables, x)))

        want, wanted = jax.value_and_grad(whole)(variables)
        np.testing.assert_allclose(mean, want, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), grads, wanted)
