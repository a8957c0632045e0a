"""`traced.layers`: what is reached, what is not and why, and what layers are given."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.traced import override
from tests.groundwork.traced.networks import (
    KEY,
    Listed,
    Net,
    Normed,
    dense,
    drawn,
    normal,
    twice,
)


class Cell(nn.Module):
    @nn.compact
    def __call__(self, carry, _):
        return nn.Dense(6, name="d")(carry), None


def _scanned(**options):
    return lambda x: nn.scan(Cell, length=3, **options)(name="a")(x, None)[0]


STACKED = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
SHARED = {"variable_broadcast": "params", "split_rngs": {"params": False}}
VMAPPED = {"variable_axes": {"params": None}, "split_rngs": {"params": False}}


def _convs(x):
    x = nn.Conv(3, (3, 5), strides=(2, 1), padding=((1, 0), (2, 2)), precision="high", name="z")(x)
    x = nn.Conv(6, (2, 2), 3, "SAME_LOWER", kernel_dilation=2, feature_group_count=3, name="y")(x)
    x = nn.Conv(2, (1, 1), padding=1, use_bias=False, dtype=jnp.bfloat16, name="x")(x)
    return nn.Dense(5, precision="highest", name="b")(x.reshape(len(x), -1))


def test_layers_are_met_in_the_order_of_their_calls():
    model, x = Net(lambda x: Net(_convs, name="inner")(x)), normal(2, 7, 8, 4)
    reached, refused = override.layers(model, jax.eval_shape(model.init, KEY, x), x)
    assert list(reached) == ["inner/z", "inner/y", "inner/x", "inner/b"]
    assert refused == {}
    kernels = [(3, 5, 4, 3), (2, 2, 1, 6), (1, 1, 6, 2), (30, 5)]
    inputs = [(2, 7, 8, 4), (2, 3, 8, 3), (2, 1, 3, 6), (2, 30)]
    assert [one.kernel for one in reached.values()] == kernels
    assert [one.inputs for one in reached.values()] == [(shape,) for shape in inputs]
    assert [(path, one.layer.path) for path, one in reached.items()] == [(p, p) for p in reached]
    described = [(o.layer.kind, *o.layer[2:6]) for o in reached.values()]
    assert described == [
        ("Conv", (2, 1), ((1, 0), (2, 2)), (1, 1), 1),
        ("Conv", (3, 3), "SAME_LOWER", (2, 2), 3),
        ("Conv", (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
        ("Dense", (1, 1), "VALID", (1, 1), 1),
    ]
    assert [o.layer.dtype for o in reached.values()] == [None, None, jnp.bfloat16, None]
    assert [o.layer.precision for o in reached.values()] == ["high", None, None, "highest"]


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
    "dot_general": (dense(dot_general=_product), MATRIX, "it has a dot_general of its own"),
    "promote_dtype": (dense(promote_dtype=_double), MATRIX, "it has a promote_dtype of its own"),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_layers_are_listed_with_the_reason_and_refused(name):
    body, shape, reason = OTHER[name]
    model, x = Net(body), normal(*shape)
    variables = jax.eval_shape(model.init, KEY, x)
    reached, refused = override.layers(model, variables, x)
    assert reached == {}
    assert list(refused) == ["a/kernel"]
    assert refused["a/kernel"].startswith(reason)
    with pytest.raises(override.LayerError) as error:
        jax.eval_shape(override.override(model, {"a": twice}), variables, x)
    assert str(error.value) == (
        f"layer 'a' cannot be computed in another way: {refused['a/kernel']}"
    )


def test_parameters_that_are_no_layers_are_listed():
    uncalled = "it belongs to no Dense or Conv that is called"
    boxed = nn.with_partitioning(nn.initializers.ones, ("x", "y"))
    for body, shape, paths, reasons in (
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
            dense(kernel_init=boxed),
            MATRIX,
            [],
            {"a/kernel": "it is boxed: see flax.linen.meta.unbox"},
        ),
    ):
        model, x = body if isinstance(body, nn.Module) else Net(body), normal(*shape)
        reached, refused = override.layers(model, jax.eval_shape(model.init, KEY, x), x)
        assert (list(reached), refused) == (paths, reasons)


def test_a_layer_that_is_not_called_is_listed():
    model, x = Listed(), normal(2, 6)
    variables = jax.eval_shape(lambda key: model.init(key, x, method="both"), KEY)
    reached, refused = override.layers(model, variables, x)
    assert list(reached) == ["stack_0", "stack_1", "head"]
    assert refused == {"decoder/kernel": "it belongs to no Dense or Conv that is called"}
    reached, refused = override.layers(model, variables, x, method="both")
    assert (list(reached)[-1], refused) == ("decoder", {})


def _shared(x):
    layer = nn.Dense(6, name="a")
    return layer(layer(x))


REMAT = {"prevent_cse": False}
REACHED = {  # body, path of a Dense, calls: other ways of getting there
    "nested": (lambda x: Net(dense(), name="n")(x), "n/a", 1),
    "sequential": (lambda x: nn.Sequential([nn.Dense(5), nn.relu], name="s")(x), "Dense_0", 1),
    "by_name": (lambda x: nn.Dense(4, name="a")(inputs=x), "a", 1),
    "shared": (_shared, "a", 2),
    "remat": (lambda x: nn.remat(Net, **REMAT)(dense(), name="n")(x), "n/a", 1),
    "remat_dense": (lambda x: nn.remat(nn.Dense)(4, name="a")(x), "a", 1),
    "jit": (lambda x: nn.jit(Net)(dense(), name="n")(x), "n/a", 1),
    "broadcast": (_scanned(**SHARED), "a/d", 2),  # Flax traces a scan's body twice
    "vmap": (lambda x: nn.vmap(nn.Dense, **VMAPPED)(4, name="a")(x), "a", 1),
}
UNSEEN = ("broadcast", "vmap")


@pytest.mark.parametrize("name", REACHED)
class TestReached:
    def test_it_is_met_and_computed_otherwise(self, name):
        body, path, calls = REACHED[name]
        model, x = Net(body), normal(2, 6)
        variables = drawn(model, x)
        reached, refused = override.layers(model, variables, x)
        assert (list(reached), refused) == ([path], {})
        assert len(reached[path].inputs) == calls
        plain = model.apply(variables, x)
        same = override.override(model, {path: override.compute})(variables, x)
        np.testing.assert_allclose(same, plain, rtol=1e-5)
        other = override.override(model, {path: lambda *args: 0 * override.compute(*args)})
        np.testing.assert_array_equal(other(variables, x), jnp.zeros(plain.shape))
        np.testing.assert_array_equal(model.apply(variables, x), plain)  # and it stays as it was

    def test_what_it_is_given(self, name):
        body, path, calls = REACHED[name]
        model, x = Net(body), normal(2, 6)
        variables = drawn(model, x)
        seen = override.inputs_of(model, variables, x, (path, "none"))
        assert seen["none"] == []
        if name in UNSEEN:
            assert seen[path] == []
            return
        want = (
            [x, nn.Dense(6).apply({"params": variables["params"]["a"]}, x)] if calls == 2 else [x]
        )
        assert len(seen[path]) == calls
        for one, other in zip(seen[path], want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)


def test_inputs_of_a_network_in_training_leave_its_state_alone():
    model, x = Normed(), normal(4, 6)
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
