"""`traced.override`: what is reached, what is not and why, and what computes in its place."""

from collections.abc import Callable

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
from groundwork.errors import UserError
from groundwork.traced import override

KEY = jax.random.key(0)


class Net(nn.Module):
    """Whatever the function does; layers that it makes are this one's."""

    body: Callable

    @nn.compact
    def __call__(self, x):
        return self.body(x)


class Listed(nn.Module):
    """Layers made in setup(), one of them in a list and one for another method alone."""

    def setup(self):
        self.stack = [nn.Dense(5), nn.Dense(4)]
        self.head = nn.Dense(3, use_bias=False)
        self.decoder = nn.Dense(6)

    def __call__(self, x):
        for layer in self.stack:
            x = nn.relu(layer(x))
        return self.head(x)

    def decode(self, x):
        return self.decoder(x)

    def both(self, x):
        return self(x), self.decode(x)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(3, name="a")(nn.Dropout(0.5, deterministic=not train)(x))


class Cell(nn.Module):
    @nn.compact
    def __call__(self, carry, _):
        return nn.Dense(6, name="d")(carry), None


def _scanned(**options):
    return lambda x: nn.scan(Cell, length=3, **options)(name="a")(x, None)[0]


STACKED = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
SHARED = {"variable_broadcast": "params", "split_rngs": {"params": False}}
VMAPPED = {"variable_axes": {"params": None}, "split_rngs": {"params": False}}


def _x(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def _drawn(model, x, **kwargs):
    """Variables without zeros, so that a bias that is lost is seen."""
    variables = jax.eval_shape(lambda key: model.init(key, x, **kwargs), KEY)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1, leaf.shape), "f4"), variables)


def _twice(layer, params, inputs):
    return 2 * override.compute(layer, params, inputs)


def _dense(name="a", features=4, **options):
    return lambda x: nn.Dense(features, name=name, **options)(x)


def _convs(x):
    x = nn.Conv(3, (3, 5), strides=(2, 1), padding=((1, 0), (2, 2)), precision="high", name="z")(x)
    x = nn.Conv(6, (2, 2), 3, "SAME_LOWER", kernel_dilation=2, feature_group_count=3, name="y")(x)
    x = nn.Conv(2, (1, 1), padding=1, use_bias=False, dtype=jnp.bfloat16, name="x")(x)
    return nn.Dense(5, precision="highest", name="b")(x.reshape(len(x), -1))


def test_layers_are_met_in_the_order_of_their_calls():
    model, x = Net(lambda x: Net(_convs, name="inner")(x)), _x(2, 7, 8, 4)
    met, missed = override.layers(model, jax.eval_shape(model.init, KEY, x), x)
    assert list(met) == ["inner/z", "inner/y", "inner/x", "inner/b"]
    assert missed == {}
    kernels = [(3, 5, 4, 3), (2, 2, 1, 6), (1, 1, 6, 2), (30, 5)]
    inputs = [(2, 7, 8, 4), (2, 3, 8, 3), (2, 1, 3, 6), (2, 30)]
    assert [one.kernel for one in met.values()] == kernels
    assert [one.inputs for one in met.values()] == [(shape,) for shape in inputs]
    assert [(path, one.layer.path) for path, one in met.items()] == [(p, p) for p in met]
    described = [(o.layer.kind, *o.layer[2:6]) for o in met.values()]
    assert described == [
        ("Conv", (2, 1), ((1, 0), (2, 2)), (1, 1), 1),
        ("Conv", (3, 3), "SAME_LOWER", (2, 2), 3),
        ("Conv", (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
        ("Dense", (1, 1), "VALID", (1, 1), 1),
    ]
    assert [o.layer.dtype for o in met.values()] == [None, None, jnp.bfloat16, None]
    assert [o.layer.precision for o in met.values()] == ["high", None, None, "highest"]


class Raw(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x @ self.param("w", nn.initializers.ones, (6, 2))


class Pair(nn.Module):
    """A parameter that is two arrays."""

    @nn.compact
    def __call__(self, x):
        first, second = self.param("w", lambda key: (jnp.ones((6, 2)), jnp.ones(2)))
        return nn.Dense(2, name="a")(x @ first) + second[None]


def _product(*args, **kwargs):
    return jax.lax.dot_general(*args, **kwargs)


def _double(*arrays, dtype):
    return [array if array is None else 2 * array for array in arrays]


MATRIX, IMAGES = (2, 6), (2, 6, 6, 4)
FLAT = "its convolution is not two-dimensional"
OTHER = {  # body, shape of the inputs, parameter, why it is not reached
    "dense_general": (lambda x: nn.DenseGeneral(4, name="a")(x), MATRIX, "DenseGeneral is neither"),
    "einsum": (lambda x: nn.Einsum((6, 2), "bi,io->bo", name="a")(x), MATRIX, "Einsum is neither"),
    "transpose": (lambda x: nn.ConvTranspose(3, (2, 2), name="a")(x), IMAGES, "ConvTranspose is n"),
    "local": (
        lambda x: nn.ConvLocal(3, (2, 2), use_bias=False, name="a")(x),
        IMAGES,
        "ConvLocal is neither Dense",
    ),
    "one": (lambda x: nn.Conv(3, 2, name="a")(x), (2, 6, 4), FLAT),
    "one_axis": (lambda x: nn.Conv(3, (2,), name="a")(x), (2, 6, 4), FLAT),
    "three": (lambda x: nn.Conv(3, (2, 2, 2), name="a")(x), (2, 4, 4, 4, 1), FLAT),
    "circular": (
        lambda x: nn.Conv(3, (3, 3), padding="CIRCULAR", name="a")(x),
        IMAGES,
        "its padding is CIRCULAR",
    ),
    "reflect": (
        lambda x: nn.Conv(3, (3, 3), padding="REFLECT", name="a")(x),
        IMAGES,
        "its padding is REFLECT",
    ),
    "mask": (
        lambda x: nn.Conv(3, (2, 2), mask=jnp.ones((2, 2, 4, 3)), name="a")(x),
        IMAGES,
        "it has a mask or an input dilation",
    ),
    "input_dilation": (
        lambda x: nn.Conv(3, (2, 2), padding=0, input_dilation=2, name="a")(x),
        IMAGES,
        "it has a mask or an input dilation",
    ),
    "dot_general": (_dense(dot_general=_product), MATRIX, "it has a dot_general of its own"),
    "promote_dtype": (_dense(promote_dtype=_double), MATRIX, "it has a promote_dtype of its own"),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_layers_are_listed_with_the_reason_and_refused(name):
    body, shape, reason = OTHER[name]
    model, x = Net(body), _x(*shape)
    variables = jax.eval_shape(model.init, KEY, x)
    met, missed = override.layers(model, variables, x)
    assert met == {}
    assert list(missed) == ["a/kernel"]
    assert missed["a/kernel"].startswith(reason)
    with pytest.raises(UserError) as refused:
        jax.eval_shape(override.override(model, {"a": _twice}), variables, x)
    assert str(refused.value) == (
        f"layer 'a' cannot be computed in another way: {missed['a/kernel']}"
    )


def test_parameters_that_are_no_layers_are_listed():
    uncalled = "no Dense or Conv that is called has it"
    boxed = nn.with_partitioning(nn.initializers.ones, ("x", "y"))
    for body, shape, met, missed in (
        (Raw(), MATRIX, [], {"w": "Raw is neither Dense nor Conv"}),
        (Pair(), MATRIX, ["a"], {"w/0": uncalled}),  # a vector is nothing to factorise
        (_scanned(**STACKED), MATRIX, [], {"a/d/kernel": "its kernels are stacked: (3, 6, 6)"}),
        (
            lambda x: nn.vmap(nn.Dense, **STACKED)(4, name="a")(x),
            MATRIX,
            [],
            {"a/kernel": "its kernels are stacked: (2, 6, 4)"},
        ),
        (
            lambda x: nn.Embed(7, 3, name="a")(x.astype(int)),
            MATRIX,
            [],
            {"a/embedding": "Embed is neither Dense nor Conv"},
        ),
        (
            _dense(kernel_init=boxed),
            MATRIX,
            [],
            {"a/kernel/value": "it is boxed: see flax.linen.meta.unbox"},
        ),
    ):
        model, x = body if isinstance(body, nn.Module) else Net(body), _x(*shape)
        found, other = override.layers(model, jax.eval_shape(model.init, KEY, x), x)
        assert (list(found), other) == (met, missed)


def test_a_layer_that_is_not_called_is_listed():
    model, x = Listed(), _x(2, 6)
    variables = jax.eval_shape(lambda key: model.init(key, x, method="both"), KEY)
    met, missed = override.layers(model, variables, x)
    assert list(met) == ["stack_0", "stack_1", "head"]
    assert missed == {"decoder/kernel": "no Dense or Conv that is called has it"}
    met, missed = override.layers(model, variables, x, method="both")
    assert (list(met)[-1], missed) == ("decoder", {})


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
    x = _x(*shape)
    variables = _drawn(model, x)
    want = model.apply(variables, x)
    found = override.override(model, {"": override.compute})(variables, x)
    assert (found.shape, found.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(found.astype("f4"), want.astype("f4"), rtol=1e-6, atol=1e-6)


def _shared(x):
    layer = nn.Dense(6, name="a")
    return layer(layer(x))


REMAT = {"prevent_cse": False}
REACHED = {  # body, path of a Dense, calls: other ways of getting there
    "nested": (lambda x: Net(_dense(), name="n")(x), "n/a", 1),
    "sequential": (lambda x: nn.Sequential([nn.Dense(5), nn.relu], name="s")(x), "Dense_0", 1),
    "by_name": (lambda x: nn.Dense(4, name="a")(inputs=x), "a", 1),
    "shared": (_shared, "a", 2),
    "remat": (lambda x: nn.remat(Net, **REMAT)(_dense(), name="n")(x), "n/a", 1),
    "remat_dense": (lambda x: nn.remat(nn.Dense)(4, name="a")(x), "a", 1),
    "jit": (lambda x: nn.jit(Net)(_dense(), name="n")(x), "n/a", 1),
    "broadcast": (_scanned(**SHARED), "a/d", 2),  # Flax traces a scan's body twice
    "vmap": (lambda x: nn.vmap(nn.Dense, **VMAPPED)(4, name="a")(x), "a", 1),
}
UNSEEN = ("broadcast", "vmap")


@pytest.mark.parametrize("name", REACHED)
class TestReached:
    def test_it_is_met_and_computed_otherwise(self, name):
        body, path, calls = REACHED[name]
        model, x = Net(body), _x(2, 6)
        variables = _drawn(model, x)
        met, missed = override.layers(model, variables, x)
        assert (list(met), missed) == ([path], {})
        assert len(met[path].inputs) == calls
        plain = model.apply(variables, x)
        same = override.override(model, {path: override.compute})(variables, x)
        np.testing.assert_allclose(same, plain, rtol=1e-5)
        other = override.override(model, {path: lambda *args: 0 * override.compute(*args)})
        np.testing.assert_array_equal(other(variables, x), jnp.zeros(plain.shape))
        np.testing.assert_array_equal(model.apply(variables, x), plain)  # and it stays as it was

    def test_what_it_is_given(self, name):
        body, path, calls = REACHED[name]
        model, x = Net(body), _x(2, 6)
        variables = _drawn(model, x)
        found = override.inputs_of(model, variables, x, (path, "none"))
        assert found["none"] == []
        if name in UNSEEN:
            assert found[path] == []
            return
        want = (
            [x, nn.Dense(6).apply({"params": variables["params"]["a"]}, x)] if calls == 2 else [x]
        )
        assert len(found[path]) == calls
        for one, other in zip(found[path], want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)


def test_inputs_of_a_network_in_training_leave_its_state_alone():
    model, x = Normed(), _x(4, 6)
    variables = model.init(KEY, x)
    options = {"train": True, "rngs": {"dropout": KEY}}
    for mutable in (["batch_stats"], "batch_stats", True):
        seen = override.inputs_of(model, variables, x, ("a",), mutable=mutable, **options)
        wanted = (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5)
        kept = seen["a"][0] != 0
        assert 0 < kept.mean() < 1
        np.testing.assert_allclose(seen["a"][0], jnp.where(kept, 2 * wanted, 0), atol=1e-4)
    (alone,) = override.inputs_of(nn.Dense(3), nn.Dense(3).init(KEY, x), x, ("",))[""]
    np.testing.assert_array_equal(alone, x)


def test_setup_and_other_methods():
    model, x = Listed(), _x(2, 6)
    variables = _drawn(model, x, method="both")
    apply = override.override(model, {"head": _twice, "decoder": _twice})
    np.testing.assert_allclose(apply(variables, x), 2 * model.apply(variables, x), rtol=1e-6)
    for method in ("decode", Listed.decode):
        found = apply(variables, x, method=method)
        np.testing.assert_allclose(found, 2 * model.apply(variables, x, method=method), rtol=1e-6)


class Tied(nn.Dense):
    """A Dense with another method beside."""

    def back(self, x):
        return x @ self.variables["params"]["kernel"].T


def test_only_the_call_of_a_layer_is_computed_otherwise():
    x = _x(2, 6)
    model = Net(lambda x: (layer := Tied(6, name="a"))(x) + layer.back(x))
    variables = _drawn(model, x)
    own = {"params": variables["params"]["a"]}
    want = 2 * Tied(6).apply(own, x) + Tied(6).apply(own, x, method="back")
    found = override.override(model, {"a": _twice})(variables, x)
    np.testing.assert_allclose(found, want, rtol=1e-6)
    met, _ = override.layers(model, variables, x)
    assert met["a"].inputs == ((2, 6),)
    assert len(override.inputs_of(model, variables, x, ("a",))["a"]) == 1


def test_state_and_keywords_pass_through():
    model, x = Normed(), _x(4, 6)
    variables = model.init(KEY, x)
    options = {"train": True, "rngs": {"dropout": KEY}, "mutable": ["batch_stats"]}
    want, state = model.apply(variables, x, **options)
    found, changed = override.override(model, {"a": _twice})(variables, x, **options)
    np.testing.assert_allclose(found, 2 * want, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, changed, state)


def test_frozen_variables_and_parameters_of_another_form():
    model, x = Net(_dense()), _x(2, 6)
    params = {"left": _x(6, 2), "right": _x(2, 4)}

    def compute(layer, own, inputs):
        assert sorted(own) == ["left", "right"]
        return inputs @ own["left"] @ own["right"]

    apply = override.override(model, {"a": compute})
    want = x @ params["left"] @ params["right"]
    for variables in ({"params": {"a": params}}, flax.core.freeze({"params": {"a": params}})):
        np.testing.assert_allclose(apply(variables, x), want, rtol=1e-6)


def test_overrides_compose_and_the_outer_one_computes_what_both_name():
    model, x = Listed(), _x(2, 6)
    variables = _drawn(model, x, method="both")
    inner = override.Network(model.init, override.override(model, {"head": _twice}))
    found = override.override(inner, {"stack_0": _twice})(variables, x)
    np.testing.assert_allclose(
        found,
        override.override(model, {"head": _twice, "stack_0": _twice})(variables, x),
        rtol=1e-6,
    )
    assert not np.allclose(found, inner.apply(variables, x))
    outer = override.override(inner, {"head": lambda *args: 5 * override.compute(*args)})
    np.testing.assert_allclose(outer(variables, x), 5 * model.apply(variables, x), rtol=1e-6)


def test_an_error_leaves_nothing_behind():
    model, x = Net(_dense()), _x(2, 6)
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
        x, calls = _x(*SMALL_IMAGES), []
        variables = _drawn(SMALL, x)

        def counted(layer, params, inputs):
            calls.append(layer.path)
            return _twice(layer, params, inputs)

        apply = jax.jit(override.override(SMALL, {"a": counted}))
        for factor in (1, 3):
            scaled = jax.tree.map(lambda leaf, factor=factor: factor * leaf, variables)
            found = apply(scaled, x)
            np.testing.assert_allclose(found, 2 * SMALL.apply(scaled, x), rtol=1e-5)
        assert calls == ["a"]

    def test_gradients_are_the_networks_own(self):
        x = _x(*SMALL_IMAGES)
        variables = _drawn(SMALL, x)

        def loss(apply):
            return lambda v, x: jnp.sum(jnp.sin(apply(v, x)))

        found = jax.grad(loss(override.override(SMALL, BOTH)), (0, 1))(variables, x)
        want = jax.grad(loss(SMALL.apply), (0, 1))(variables, x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, want)

    def test_replicates_by_vmap(self):
        x = _x(*SMALL_IMAGES)
        apply = override.override(SMALL, {"a": _twice})
        stacked = jax.vmap(lambda key: SMALL.init(key, x))(jax.random.split(KEY, 3))
        found = jax.vmap(apply, (0, None))(stacked, x)
        for r in range(3):
            own = jax.tree.map(lambda leaf, r=r: leaf[r], stacked)
            np.testing.assert_allclose(found[r], 2 * SMALL.apply(own, x), atol=1e-5)

    def test_shard_map(self):
        x = _x(*SMALL_IMAGES)
        variables, mesh = _drawn(SMALL, x), mesh_lib.make(1, len(x), data=4)
        apply = override.override(SMALL, {"c": override.compute, "a": _twice})

        def loss(variables, x):
            return jax.lax.pmean(jnp.mean(jnp.square(apply(variables, x))), "data")

        sharded = jax.shard_map(
            jax.value_and_grad(loss), mesh=mesh, in_specs=(P(), P("data")), out_specs=(P(), P())
        )
        found, grads = jax.jit(sharded)(variables, x)

        def whole(variables):
            return jnp.mean(jnp.square(2 * SMALL.apply(variables, x)))

        want, wanted = jax.value_and_grad(whole)(variables)
        np.testing.assert_allclose(found, want, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), grads, wanted)
