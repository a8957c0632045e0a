"""A narrowed network learns as the masked one does, under all of JAX's transformations."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import trees
from groundwork.architectures import own
from pruning import structured
from pruning.structured import program
from tests.pruning.structured.test_narrowed import assert_near, half
from tests.pruning.structured.zoo import drawn, quickly, rounded


class Normed(nn.Module):
    """BatchNorm over all devices, dropout, and a function with a gradient of its own."""

    rate: float = 0.0
    axis_name: str | None = "data"

    @nn.compact
    def __call__(self, x, train):
        for width in (8, 6):
            x = nn.Dense(width)(x)
            x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x)
            x = nn.Dropout(self.rate, deterministic=not train)(rounded(nn.relu(x)))
        return nn.Dense(3, name="head")(x)


X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 5)), jnp.float32)


def made(**how):
    model = Normed(**how)
    shapes = jax.eval_shape(lambda key: model.init(key, X, train=False), jax.random.key(0))
    variables = jax.tree.map(np.asarray, drawn(shapes))
    graph = structured.groups(model, shapes, jax.ShapeDtypeStruct((2, 5), jnp.float32))
    return model, variables, graph


def learn(network, variables, x):
    """Gradients and changed statistics of a step of training."""

    def loss(params):
        given = {**variables, "params": params}
        rngs = {"dropout": jax.random.key(1)}
        out, changed = network.apply(given, x, train=True, mutable=["batch_stats"], rngs=rngs)
        return jnp.mean(jnp.square(out)), changed

    gradients, changed = jax.grad(loss, has_aux=True)(variables["params"])
    return {"params": jax.lax.pmean(gradients, "data"), **changed}


def test_gradients_and_statistics_over_devices_are_the_masked_networks():
    model, variables, graph = made()
    keep = half(graph)
    narrow, small = structured.narrow(graph, variables, keep)
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])

    def steps(masked, small, x):
        return learn(model, masked, x), learn(narrow, small, x)

    given = (jax.P(), jax.P(), jax.P("data"))
    mapped = jax.shard_map(steps, mesh=mesh, in_specs=given, out_specs=jax.P())
    expected, got = quickly(mapped)(structured.mask(graph, variables, keep), small, X)
    expected = structured.cut(graph, expected, keep)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)
    kernel = expected["params"]["Dense_1"]["kernel"]
    assert float(jnp.abs(kernel).max()) > 1e-3


def test_replicates_keep_units_of_their_own_and_learn_as_masked_ones():
    """`rounded` has a gradient of its own, in which each replicate's units are looked up."""
    model, variables, graph = made(axis_name=None)
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), variables)
    keep = {g.name: np.stack([half(graph, s)[g.name] for s in (0, 1)]) for g in graph.groups}
    assert any((units[0] != units[1]).any() for units in keep.values())
    narrow, small = structured.narrow(graph, stacked, keep)
    masked = structured.mask(graph, stacked, keep)

    def loss(network, params, rest):
        return jnp.mean(jnp.square(network.apply({**rest, "params": params}, X, train=False)))

    def slopes(network, variables):
        rest = {"batch_stats": variables["batch_stats"]}
        return jax.value_and_grad(lambda p: loss(network, p, rest))(variables["params"])

    @quickly
    def both(small, masked):
        return (
            jax.vmap(lambda v: slopes(narrow, v))(small),
            jax.vmap(lambda v: slopes(model, v))(masked),
        )

    (value, ours), (expected, theirs) = both(small, masked)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    cut = structured.cut(graph, {"params": theirs}, keep)["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, cut)
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(ours))
    back = structured.expand(graph, small, keep)
    jax.tree.map(np.testing.assert_array_equal, back, masked)


def test_replicates_at_places_that_the_program_treats_differently_are_refused():
    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x):
            weights = np.arange(1, 9, dtype=np.float32) * np.ones((len(x), 1), np.float32)
            return nn.Dense(3)(nn.Dense(8, name="hidden")(x) * weights)

    keep = np.zeros((2, 8), bool)
    keep[0, [0, 1, 2, 3, 4]] = keep[1, [0, 3, 4, 5, 6]] = True
    shapes = jax.eval_shape(Scaled().init, jax.random.key(0), X)
    graph = structured.groups(Scaled(), shapes, X)
    stacked = jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape)), shapes)
    narrow, small = structured.narrow(graph, stacked, {"hidden": keep})
    with pytest.raises(ValueError, match="at places that the network treats differently"):
        jax.eval_shape(jax.vmap(lambda v: narrow.apply(v, X)), small)


def test_variables_of_another_network_or_of_full_size_are_refused():
    _, variables, graph = made()
    narrow, small = structured.narrow(graph, variables, half(graph))
    with pytest.raises(
        ValueError, match=re.escape("batch_stats/BatchNorm_0/mean is (8,), not (4,)")
    ):
        narrow.apply(variables, X, train=False)
    with pytest.raises(ValueError, match="another network's: they differ in batch_stats/"):
        narrow.apply({"params": small["params"]}, X, train=False)


def test_a_narrowed_network_is_traced_in_training_too():
    """Else a second round would take away what training counts."""

    class Ordered(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            y, z = nn.Dense(8, name="sorted")(x), nn.Dense(8, name="other")(x)
            y = jnp.sort(y, -1) if train else y
            return nn.Dense(3, name="head")(jnp.concatenate([y, z], -1))

    model = Ordered()
    shapes = jax.eval_shape(lambda key: model.init(key, X, train=False), jax.random.key(0))
    graph = structured.groups(model, shapes, X)
    assert [group.name for group in graph.groups] == ["other"]
    narrow, small = structured.narrow(graph, trees.zeros(shapes), half(graph))
    again = structured.groups(narrow, small, X)
    assert [(group.name, group.units) for group in again.groups] == [("other", 4)]
    called = program.own(narrow)
    assert isinstance(called, own.Own)
    assert jax.eval_shape(called.apply, small, X).shape == (8, 3)


def test_bfloat16_and_a_batch_of_another_size():
    model, variables, graph = made()
    keep = half(graph)
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    narrow, small = structured.narrow(graph, low, keep)
    x = X[:3].astype(jnp.bfloat16)

    @quickly
    def both(small, masked):
        return narrow.apply(small, x, train=False), model.apply(masked, x, train=False)

    got, expected = both(small, structured.mask(graph, low, keep))
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape) == (jnp.bfloat16, (3, 3))
    difference = np.abs(np.asarray(got - expected, np.float32)).max()
    assert difference <= 0.03 * np.abs(np.asarray(expected, np.float32)).max()


class Exchanged(nn.Module):
    """What devices tell each other of units: their sum, another's values, or all values."""

    how: str

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Dense(6, name="first")(x))
        x = x + nn.Dense(6, name="second")(x) if not train else self.exchanged(x)
        return nn.Dense(3, name="head")(x)

    def exchanged(self, x):
        y = nn.Dense(6, name="second")(x)
        devices = jax.lax.axis_size("data")
        if self.how == "next":
            return x + jax.lax.ppermute(y, "data", [(n, (n + 1) % devices) for n in range(devices)])
        if self.how == "all":
            return x + jax.lax.all_gather(y, "data").mean(0)
        return x + jax.lax.psum(y, "data") + jax.lax.pmax(y, "data")


@pytest.mark.parametrize("how", ["sum", "next", "all"])
def test_what_devices_tell_each_other_is_exact(how):
    model = Exchanged(how)
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), X))
    graph = structured.groups(model, variables, X)
    assert [group.name for group in graph.groups] == ["first"]
    keep = half(graph)
    narrow, small = structured.narrow(graph, variables, keep)
    parts = X.reshape(2, 4, 5)

    @quickly
    def both(masked, small):
        return jax.vmap(
            lambda x: (model.apply(masked, x, train=True), narrow.apply(small, x, train=True)),
            axis_name="data",
        )(parts)

    expected, got = both(structured.mask(graph, variables, keep), small)
    assert_near(got, expected)


def test_a_collective_that_is_not_known_is_refused_where_it_is_called():
    def apply(variables, x, train=False):
        y = x @ variables["first"]
        y = jax.lax.psum_scatter(y, "data", scatter_dimension=0, tiled=True) if train else y
        return jnp.tanh(y) @ variables["head"]

    variables = {"first": jnp.ones((5, 6)), "head": jnp.ones((6, 3))}
    graph = structured.groups(apply, variables, X)
    narrow, small = structured.narrow(graph, variables, half(graph))
    with pytest.raises(ValueError, match="in this call they stay: it enters reduce_scatter"):
        jax.eval_shape(
            jax.vmap(lambda x: narrow.apply(small, x, train=True), axis_name="data"),
            X.reshape(2, 4, 5),
        )


def test_dropout_draws_for_the_units_that_are_left():
    _, variables, graph = made(rate=0.5, axis_name=None)
    narrow, small = structured.narrow(graph, variables, half(graph))
    rngs = {"dropout": jax.random.key(3)}
    call = quickly(lambda v: narrow.apply(v, X, train=True, mutable=["batch_stats"], rngs=rngs)[0])
    assert np.isfinite(call(small)).all()
    assert dataclasses.is_dataclass(narrow)


@jax.custom_vjp
def mirrored(x):
    return x


mirrored.defvjp(lambda x: (x, None), lambda _, g: (g + g[..., ::-1],))


@pytest.mark.parametrize("several", [False, True])
def test_a_gradient_that_joins_units_which_the_network_does_not_is_refused(several):
    def apply(variables, x):
        return mirrored(x @ variables["hidden"]) @ variables["head"]

    variables = {"hidden": np.ones((5, 6), np.float32), "head": np.ones((6, 3), np.float32)}
    graph = structured.groups(apply, variables, X)
    (group,) = graph.groups
    keep = {group.name: np.arange(6) != 0}
    if several:
        keep = {group.name: np.stack([np.arange(6) != 0, np.arange(6) != 1])}
        variables = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), variables)
    narrow, small = structured.narrow(graph, variables, keep)

    def loss(variables):
        return jnp.sum(narrow.apply(variables, X))

    one, slopes = (jax.vmap(f) if several else f for f in (loss, jax.grad(loss)))
    assert jax.eval_shape(one, small).size == 1 + several
    with pytest.raises(ValueError, match="joins units that are gone with others that are left"):
        jax.eval_shape(slopes, small)
