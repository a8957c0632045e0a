"""`traced.reach` on Linen: what is reached, what is not and why, and what layers are given."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import trees
from groundwork.traced import reach
from groundwork.traced.override import Override, compute, override
from tests.groundwork.traced.networks import (
    KEY,
    SAME,
    TWICE,
    Listed,
    Net,
    Normed,
    dense,
    drawn,
    normal,
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
    reached, refused = reach.layers(model, jax.eval_shape(model.init, KEY, x), x)
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
        ("Conv", (3, 3), ((0, 0), (1, 0)), (2, 2), 3),
        ("Conv", (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
        ("Dense", (1, 1), "VALID", (1, 1), 1),
    ]
    high, highest = (2 * (jax.lax.Precision(name),) for name in ("high", "highest"))
    assert [o.layer.precision for o in reached.values()] == [high, None, None, highest]


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


def _double(*arrays, dtype):
    return [array if array is None else 2 * array for array in arrays]


MATRIX, IMAGES = (2, 6), (2, 6, 6, 4)
FLAT = "its convolution is not two-dimensional"
DILATED = "its convolution dilates the inputs"
OTHER = {  # body, shape of the inputs, parameter, why it is not reached
    "transpose": (lambda x: nn.ConvTranspose(3, (2, 2), (2, 2), name="a")(x), IMAGES, DILATED),
    "input_dilation": (
        lambda x: nn.Conv(3, (2, 2), padding=0, input_dilation=2, name="a")(x),
        IMAGES,
        DILATED,
    ),
    "local": (
        lambda x: nn.ConvLocal(3, (2, 2), use_bias=False, name="a")(x),
        IMAGES,
        "it is multiplied batch by batch",
    ),
    "one": (lambda x: nn.Conv(3, 2, name="a")(x), (2, 6, 4), FLAT),
    "one_axis": (lambda x: nn.Conv(3, (2,), name="a")(x), (2, 6, 4), FLAT),
    "three": (lambda x: nn.Conv(3, (2, 2, 2), name="a")(x), (2, 4, 4, 4, 1), FLAT),
    "mask": (
        lambda x: nn.Conv(3, (2, 2), mask=jnp.ones((2, 2, 4, 3)), name="a")(x),
        IMAGES,
        "it goes through mul",
    ),
    "promote_dtype": (dense(promote_dtype=_double), MATRIX, "it goes through mul"),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_layers_are_listed_with_the_reason_and_refused(name):
    body, shape, reason = OTHER[name]
    model, x = Net(body), normal(*shape)
    variables = jax.eval_shape(model.init, KEY, x)
    reached, refused = reach.layers(model, variables, x)
    assert reached == {}
    assert list(refused) == ["a/kernel"]
    assert refused["a/kernel"] == reason
    with pytest.raises(ValueError, match="cannot be computed") as error:
        jax.eval_shape(override(model, {"a": TWICE}), variables, x)
    assert str(error.value) == (
        f"layer 'a' cannot be computed in another way: {refused['a/kernel']}"
    )


def test_parameters_that_are_no_layers_are_listed():
    for body, shape, paths, reasons in (
        (Raw(), MATRIX, [""], {}),
        (Pair(), MATRIX, ["w/0", "a"], {}),
        (
            lambda x: nn.vmap(nn.Dense, **STACKED)(4, name="a")(x),
            MATRIX,
            [],
            {"a/kernel": "it is multiplied batch by batch"},
        ),
        (
            lambda x: nn.Embed(7, 3, name="a")(x.astype(int)),
            MATRIX,
            [],
            {"a/embedding": "it goes through gather"},
        ),
    ):
        model, x = body if isinstance(body, nn.Module) else Net(body), normal(*shape)
        reached, refused = reach.layers(model, jax.eval_shape(model.init, KEY, x), x)
        assert (list(reached), refused) == (paths, reasons)


def test_other_ways_to_write_a_product_are_layers():
    boxed = nn.with_partitioning(nn.initializers.ones, ("x", "y"))
    for body in (
        lambda x: nn.DenseGeneral(4, name="a")(x),
        lambda x: nn.Einsum((6, 4), "bi,io->bo", name="a")(x),
        dense(dot_general=lambda *args, **kwargs: jax.lax.dot_general(*args, **kwargs)),
        dense(kernel_init=boxed),
    ):
        model, x = Net(body), normal(*MATRIX)
        variables = model.init(KEY, x)
        reached, refused = reach.layers(model, variables, x)
        assert {path: one.kernel for path, one in reached.items()} == {"a": (6, 4)}
        assert refused == {}
        outputs = override(model, {"a": Override(lambda *args: 0 * compute(*args))})(variables, x)
        np.testing.assert_array_equal(outputs, jnp.zeros((2, 4)))  # biases start at zero


def test_a_layer_that_is_not_called_is_listed():
    model, x = Listed(), normal(2, 6)
    variables = jax.eval_shape(lambda key: model.init(key, x, method="both"), KEY)
    reached, refused = reach.layers(model, variables, x)
    assert list(reached) == ["stack_0", "stack_1", "head"]
    assert refused == {"decoder/kernel": reach.UNUSED}
    reached, refused = reach.layers(model, variables, x, method="both")
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
    "broadcast": (_scanned(**SHARED), "a/d", 1),
    "vmap": (lambda x: nn.vmap(nn.Dense, **VMAPPED)(4, name="a")(x), "a", 1),
}
UNSEEN = ("broadcast", "remat", "remat_dense")


@pytest.mark.parametrize("name", REACHED)
class TestReached:
    def test_it_is_met_and_computed_otherwise(self, name):
        body, path, calls = REACHED[name]
        model, x = Net(body), normal(2, 6)
        variables = drawn(model, x)
        reached, refused = reach.layers(model, variables, x)
        assert (list(reached), refused) == ([path], {})
        assert len(reached[path].inputs) == calls
        plain = model.apply(variables, x)
        same = override(model, {path: SAME})(variables, x)
        np.testing.assert_allclose(same, plain, rtol=1e-5)
        zero = override(model, {path: Override(lambda *args: 0 * compute(*args))})(variables, x)
        bias = trees.flatten(variables["params"])[f"{path}/bias"]
        np.testing.assert_array_equal(zero, jnp.broadcast_to(bias, plain.shape))
        np.testing.assert_array_equal(model.apply(variables, x), plain)  # and it stays as it was

    def test_what_it_is_given(self, name):
        body, path, calls = REACHED[name]
        model, x = Net(body), normal(2, 6)
        variables = drawn(model, x)
        seen = reach.inputs_of(model, variables, (path, "none"), x)
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
        seen = reach.inputs_of(model, variables, ("a",), x, mutable=mutable, **options)
        wanted = (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5)
        kept = seen["a"][0] != 0
        assert 0 < kept.mean() < 1
        np.testing.assert_allclose(seen["a"][0], jnp.where(kept, 2 * wanted, 0), atol=1e-4)
    (alone,) = reach.inputs_of(nn.Dense(3), nn.Dense(3).init(KEY, x), ("",), x)[""]
    np.testing.assert_array_equal(alone, x)
