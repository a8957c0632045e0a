"""Training in few bits computes what is stored afterwards."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import quantize, spec
from compress.stages import latent
from compress.stages.latent import Quantizer
from groundwork.architectures.lenet import LeNet300100
from groundwork.traced.network import Network
from tests.compress import small

METHODS = {
    "kmeans": (3, {}),
    "kmeans from drawn weights": (3, {"method": "kmeans", "init": "random"}),
    "uniform": (3, {}),
    "affine": (5, {"method": "uniform", "symmetric": False}),
    "per channel": (3, {"method": "uniform", "per_channel": True}),
    "clipped": (3, {"method": "uniform", "range": "mse"}),
    "ternary": (2, {}),
    "twn": (2, {"method": "ternary", "scales": "twn"}),
    "binary": (1, {}),
    "of size 1": (1, {"method": "binary", "scaled": False}),
    "of a size for each output": (1, {"method": "binary", "per_channel": True}),
}


@pytest.fixture(scope="module")
def trained():
    model = LeNet300100(classes=10, width=0.05)
    inputs = jax.random.normal(jax.random.key(1), (8, 12))
    return model, model.init(jax.random.key(0), inputs), inputs


@pytest.fixture(scope="module")
def settings():
    section = spec.from_config(small.config(quantize={"other_bits": 0})).sections["quantize"]
    return lambda **changes: dataclasses.replace(section, **changes)


def quantizer_of(settings, case, variables):
    bits, changes = METHODS[case]
    paths = latent.kernels(variables["params"])
    return Quantizer(settings(**{"method": case, **changes}), dict.fromkeys(paths, bits))


@pytest.mark.parametrize("case", METHODS)
def test_what_is_trained_computes_what_is_stored(case, trained, settings):
    model, variables, inputs = trained
    quantizer = quantizer_of(settings, case, variables)
    values = latent.begin(quantizer, jax.random.key(2), variables, {})
    moved = {**values, "params": jax.tree.map(lambda leaf: 1.1 * leaf + 1e-3, values["params"])}
    shown = latent.network(quantizer, model).apply(moved, inputs, train=False)
    stored = latent.finish(quantizer, moved)
    assert all(isinstance(form, quantize.Stored) for form in forms(stored))
    assert jax.tree.structure(quantize.materialize(stored)) == jax.tree.structure(variables)
    np.testing.assert_allclose(
        shown, model.apply(quantize.materialize(stored), inputs), rtol=1e-5, atol=1e-6
    )


def forms(stored):
    return [stored["params"][layer]["kernel"] for layer in ("fc1", "fc2", "output")]


@pytest.mark.parametrize("case", ["kmeans", "uniform", "ternary", "twn"])
def test_pruned_weights_stay_zero(case, trained, settings):
    _, variables, _ = trained
    quantizer = quantizer_of(settings, case, variables)
    kernels = latent.kernels(variables["params"])
    mask = {path: leaf > 0 for path, leaf in kernels.items()}
    params = jax.tree.map(lambda leaf: jnp.maximum(leaf, 0), variables["params"])
    values = latent.begin(quantizer, jax.random.key(2), {"params": params}, mask)
    stored = quantize.materialize(latent.finish(quantizer, values))
    for path, kept in mask.items():
        own = latent.kernels(stored["params"])[path]
        assert not np.asarray(own)[~np.asarray(kept)].any()


def test_everything_that_is_trained_has_a_gradient(trained, settings):
    model, variables, inputs = trained
    for case in METHODS:
        quantizer = quantizer_of(settings, case, variables)
        values = latent.begin(quantizer, jax.random.key(2), variables, {})
        network = latent.network(quantizer, model)

        def loss(params, values=values, network=network):
            return jnp.mean(network.apply({**values, "params": params}, inputs, train=True) ** 2)

        gradients = jax.jit(jax.grad(loss))(values["params"])
        assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients)), case


def test_latent_weights_of_binary_stay_within_1(trained, settings):
    _, variables, _ = trained
    quantizer = quantizer_of(settings, "binary", variables)
    optimizer = latent.clipped(quantizer, optax.sgd(100.0))
    params = variables["params"]
    gradients = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    new = optax.apply_updates(params, updates)
    np.testing.assert_allclose(new["fc1"]["kernel"], -1)
    np.testing.assert_allclose(new["fc1"]["bias"], params["fc1"]["bias"] - 100)


def test_signs_are_drawn_in_training_alone(trained, settings):
    model, variables, inputs = trained
    quantizer = quantizer_of(settings, "binary", variables)
    quantizer = quantizer._replace(spec=settings(method="binary", stochastic=True))
    apply = latent.network(quantizer, model).apply
    drawn = [apply(variables, inputs, rngs={"dropout": jax.random.key(k)}) for k in (0, 1)]
    assert not np.allclose(*drawn)
    np.testing.assert_array_equal(*(apply(variables, inputs) for _ in range(2)))


@pytest.fixture
def twins(trained):
    """Two layers of the same weights, and statistics."""
    layer = {"kernel": trained[1]["params"]["fc1"]["kernel"]}
    return {"params": {"one": layer, "two": layer}, "batch_stats": {"mean": jnp.arange(3.0)}}


def computed_with(quantizer, values, **kwargs):
    """The variables that the network inside is given."""
    inner = Network(None, lambda variables, inputs, **_: variables)
    return latent.network(quantizer, inner).apply(values, None, **kwargs)


def test_what_is_drawn_differs_from_layer_to_layer(twins, settings):
    paths = latent.kernels(twins["params"])
    books = Quantizer(settings(method="kmeans", init="random"), dict.fromkeys(paths, 3))
    values = latent.begin(books, jax.random.key(2), twins, {})["params"]
    assert not np.allclose(values["one"]["kernel"], values["two"]["kernel"])
    signs = Quantizer(settings(method="binary", stochastic=True), dict.fromkeys(paths, 1))
    shown = computed_with(signs, twins, rngs={"dropout": jax.random.key(2)})["params"]
    assert not np.allclose(shown["one"]["kernel"], shown["two"]["kernel"])


@pytest.mark.parametrize("method", ["kmeans", "uniform"])
def test_other_collections_are_handed_on(method, twins, settings):
    quantizer = Quantizer(settings(method=method), {"one/kernel": 3})
    values = latent.begin(quantizer, jax.random.key(2), twins, {})
    for found in (computed_with(quantizer, values), latent.finish(quantizer, values)):
        assert found.keys() == twins.keys()
        np.testing.assert_array_equal(found["batch_stats"]["mean"], np.arange(3))
        np.testing.assert_array_equal(
            found["params"]["two"]["kernel"], twins["params"]["two"]["kernel"]
        )


def test_scales_that_are_named_kernel_are_not_quantised(twins):
    params = {**twins["params"], "norm": {"kernel": np.ones(3)}}
    assert list(latent.kernels(params)) == ["one/kernel", "two/kernel"]


def test_biases_get_their_own_bits(trained, settings):
    _, variables, _ = trained
    quantizer = quantizer_of(settings, "uniform", variables)
    quantizer = quantizer._replace(spec=settings(method="uniform", other_bits=8))
    stored = latent.finish(quantizer, variables)
    bias = stored["params"]["fc1"]["bias"]
    assert bias.values.dtype == np.int8
    given = variables["params"]["fc1"]["bias"]
    np.testing.assert_allclose(quantize.dequantize(bias), given, atol=float(bias.scale) / 2)


@pytest.mark.parametrize("case", [case for case in METHODS if "drawn" not in case])
def test_each_layer_of_a_stack_is_quantised_by_itself(case, settings):
    draw = np.random.default_rng(3)
    kernels = jnp.asarray(draw.normal(size=(3, 6, 4)) * [[[1.0]], [[5.0]], [[30.0]]], jnp.float32)
    bits, changes = METHODS[case]
    spec = settings(**{"method": case, **changes})

    def results(kernel, stacks):
        quantizer = Quantizer(spec, {"a/kernel": bits}, stacks)
        begun = latent.begin(
            quantizer, jax.random.key(0), {"params": {"a": {"kernel": kernel}}}, {}
        )
        inner = Network(None, lambda variables, inputs, **_: variables["params"]["a"]["kernel"])
        shown = latent.network(quantizer, inner).apply(begun, None)
        stored = latent.finish(quantizer, begun)["params"]["a"]["kernel"]
        return shown, quantize.materialize(stored)

    one_by_one = [
        jnp.stack(parts) for parts in zip(*(results(k, {}) for k in kernels), strict=True)
    ]
    for got, want in zip(results(kernels, {"a/kernel": 1}), one_by_one, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
        assert np.abs(got).max((1, 2)).min() < 0.2 * np.abs(got).max() or "size 1" in case
