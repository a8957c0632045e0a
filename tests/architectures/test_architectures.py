import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal, stats

import architectures
from architectures import MODELS, build, count, narrowed, shapes
from architectures.initializers import scaled
from experiment.errors import UserError

INPUT = {"lenet_300_100": (28, 28, 1), "lenet_5": (28, 28, 1), "residual_mlp": (40,)}
PARAMETERS = {"lenet_300_100": 266_610, "lenet_5": 431_080, "residual_mlp": 276_010}
HIDDEN = {"lenet_300_100": (300, 100), "lenet_5": (20, 50, 500), "residual_mlp": (500, 500)}


def section(name, width=1.0):
    return {"name": name, "width": width}


@functools.cache
def initializer(name):
    return jax.jit(build(section(name), 10).init)


def params_of(name, key=0):
    variables = initializer(name)(jax.random.key(key), jnp.zeros((1, *INPUT[name])))
    return jax.tree.map(lambda x: np.asarray(x, float), variables["params"])


@pytest.fixture(scope="module")
def params():
    """Model → initial parameters, numpy float64."""
    return {name: params_of(name) for name in MODELS}


def closed_form(name, hidden, classes=10):
    """Parameters of a model with these hidden widths, by hand."""
    if name == "lenet_300_100":
        layers = zip((784, *hidden), (*hidden, classes), strict=True)
    elif name == "residual_mlp":
        layers = zip((40, *hidden), (*hidden, classes), strict=True)
    else:  # 28 → 24 → 12 → 8 → 4
        first, second, dense = hidden
        layers = [(25, first), (25 * first, second), (16 * second, dense), (dense, classes)]
    return sum((inputs + 1) * outputs for inputs, outputs in layers)


# counts


def test_every_model_is_pinned():
    assert set(MODELS) == set(PARAMETERS) == set(INPUT) == set(HIDDEN)


@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts_are_the_published_ones(name, params):
    assert count(params[name]) == PARAMETERS[name] == closed_form(name, HIDDEN[name])
    found = shapes(build(section(name), 10), INPUT[name])["params"]
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, params[name])
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("width", [0.5, 0.13, 2.0, 1e-6])
def test_width_scales_every_hidden_layer_and_nothing_else(name, width):
    hidden = [max(1, round(units * width)) for units in HIDDEN[name]]
    found = shapes(build(section(name, width), 7), INPUT[name])["params"]
    assert count(found) == closed_form(name, hidden, classes=7)
    assert found["output"]["bias"].shape == (7,)


def test_a_scaled_width_is_rounded_and_at_least_1():
    assert [scaled(10, w) for w in (1.0, 0.24, 0.26, 0.01, 3)] == [10, 2, 3, 1, 30]


# initialisers


def kernels_and_fans(params):
    """Layer → kernel, fan in, fan out, where a convolution's fans count its window."""
    for layer, leaves in params.items():
        kernel = leaves["kernel"]
        window = math.prod(kernel.shape[:-2])
        yield layer, kernel.ravel(), window * kernel.shape[-2], window * kernel.shape[-1]


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5"])
def test_lenet_kernels_are_glorot_normal(name, params):
    # Glorot & Bengio 2010: variance 2 / (fan_in + fan_out). Flax draws the normal cut at two
    # deviations, widened so that the variance after the cut is that; Kolmogorov-Smirnov against
    # exactly this distribution, then its deviation and its bound.
    for layer, kernel, fan_in, fan_out in kernels_and_fans(params[name]):
        deviation = math.sqrt(2 / (fan_in + fan_out))
        cut = stats.truncnorm(-2, 2)
        drawn = stats.truncnorm(-2, 2, scale=deviation / cut.std())
        assert stats.kstest(kernel, drawn.cdf).pvalue > 1e-3, layer
        error = deviation / math.sqrt(2 * kernel.size)
        assert abs(kernel.std() - deviation) < 4 * error, layer
        assert abs(kernel).max() <= 2 * deviation / cut.std() * (1 + 1e-6), layer


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5"])
def test_lenet_biases_are_zero(name, params):
    for layer in params[name].values():
        np.testing.assert_array_equal(layer["bias"], np.zeros(layer["bias"].shape))


def test_residual_mlp_kernels_and_biases_are_pytorchs(params):
    # torch.nn.Linear.reset_parameters: weight and bias uniform in ±1/√fan_in
    fans = {}
    for layer, kernel, fan_in, _ in kernels_and_fans(params["residual_mlp"]):
        fans[layer] = fan_in
        bound = 1 / math.sqrt(fan_in)
        for values in (kernel, params["residual_mlp"][layer]["bias"]):
            assert abs(values).max() <= np.float32(bound), layer
            # the largest of n uniform draws: below bound × p^(1/n) with probability p
            assert abs(values).max() > bound * 1e-4 ** (1 / values.size), layer
            assert stats.kstest(values, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3, layer
    assert fans == {"fc1": 40, "fc2": 500, "output": 500}


@pytest.mark.parametrize("name", MODELS)
def test_the_same_key_gives_the_same_parameters_and_another_others(name, params):
    first, same, other = params[name], params_of(name), params_of(name, key=1)
    jax.tree.map(np.testing.assert_array_equal, first, same)
    for layer in first:
        assert np.mean(first[layer]["kernel"] == other[layer]["kernel"]) < 1e-3


def test_layers_of_one_shape_are_drawn_apart():
    one = build(section("residual_mlp", 0.2), 100).init(jax.random.key(0), jnp.zeros((1, 100)))
    kernels = [layer["kernel"] for layer in one["params"].values()]
    assert {kernel.shape for kernel in kernels} == {(100, 100)}
    for i in range(3):
        assert np.mean(kernels[i] == kernels[i - 1]) < 1e-3


# forward passes


def inputs_for(name, batch=3):
    return np.random.default_rng(0).normal(size=(batch, *INPUT[name]))


def logits(name, tree, inputs, width=1.0, **kwargs):
    module = build(section(name, width), 10)
    tree = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)
    return module.apply({"params": tree}, jnp.asarray(inputs, jnp.float32), **kwargs)


def drawn_by_numpy(name, width):
    """Parameters of the right shapes; biases are not zero, so that a forgotten one is seen."""
    rng = np.random.default_rng(1)
    found = shapes(build(section(name, width), 10), INPUT[name])["params"]
    return jax.tree.map(lambda x: rng.normal(size=x.shape) / math.prod(x.shape[:-1]) ** 0.5, found)


def dense(leaves, x):
    return x @ leaves["kernel"] + leaves["bias"]


def relu(x):
    return np.maximum(x, 0)


def lenet_300_100_in_numpy(p, x):
    x = relu(dense(p["fc1"], x.reshape(len(x), -1)))
    return dense(p["output"], relu(dense(p["fc2"], x)))


def residual_mlp_in_numpy(p, x):
    x = relu(dense(p["fc1"], x))
    return dense(p["output"], x + relu(dense(p["fc2"], x)))


def lenet_5_in_numpy(p, x):
    for layer in ("conv1", "conv2"):
        kernel, bias = p[layer]["kernel"], p[layer]["bias"]
        x = np.stack([  # [B, H, W, channels out]
            np.stack([
                sum(
                    signal.correlate2d(image[..., i], kernel[..., i, o], "valid")
                    for i in range(kernel.shape[2])
                ) + bias[o]
                for o in range(kernel.shape[3])
            ], axis=-1)
            for image in x
        ])  # fmt: skip
        batch, height, width, channels = x.shape
        x = relu(x).reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
    return dense(p["output"], relu(dense(p["fc1"], x.reshape(len(x), -1))))


REFERENCES = {
    "lenet_300_100": (lenet_300_100_in_numpy, 1.0),
    "lenet_5": (lenet_5_in_numpy, 0.2),
    "residual_mlp": (residual_mlp_in_numpy, 1.0),
}


def test_every_model_has_a_reference():
    assert set(REFERENCES) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_a_numpy_forward_pass(name):
    reference, width = REFERENCES[name]
    tree = drawn_by_numpy(name, width)
    inputs = inputs_for(name)
    expected = reference(tree, inputs)
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits(name, tree, inputs, width), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [1, 4])
def test_logits_are_float32_of_shape_batch_by_classes(name, batch, params):
    found = logits(name, params[name], inputs_for(name, batch))
    assert (found.shape, found.dtype) == ((batch, 10), jnp.float32)


@pytest.mark.parametrize("name", MODELS)
def test_logits_under_jit_and_train_are_those_without(name, params):
    inputs = inputs_for(name)
    plain = logits(name, params[name], inputs)
    np.testing.assert_array_equal(logits(name, params[name], inputs, train=True), plain)
    jitted = jax.jit(lambda tree: logits(name, tree, inputs))(params[name])
    np.testing.assert_allclose(jitted, plain, rtol=1e-5, atol=1e-5)


# dtype


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_computed_in_and_float32_is_stored(name, params):
    short = build({**section(name), "dtype": "bfloat16"}, 10)
    inputs = jnp.asarray(inputs_for(name), jnp.float32)
    stored = {leaf.dtype for leaf in jax.tree.leaves(shapes(short, INPUT[name]))}
    assert stored == {jnp.dtype("float32")}
    tree = {"params": jax.tree.map(jnp.float32, params[name])}
    trace = str(jax.make_jaxpr(short.apply)(tree, inputs))
    products = re.findall(r":(\w+)\[[\d,]*\] = (?:dot_general|conv_general_dilated)\[", trace)
    assert set(products) == {"bf16"}
    whole = logits(name, params[name], inputs_for(name))
    found = short.apply(tree, inputs).astype(jnp.float32)
    assert not np.array_equal(found, whole)
    np.testing.assert_allclose(found, whole, atol=0.03 * np.abs(whole).max())  # 8 bits of fraction


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UserError, match=r"model\.dtype 'float16'.*bfloat16, float32"):
        build({**section("lenet_5"), "dtype": "float16"}, 10)


# narrowed


def next_width(name, width):
    """The least multiplier above `width` at which some hidden layer gains a unit."""
    steps = [(max(1, round(units * width)) + 0.5) / units for units in HIDDEN[name]]
    return min(steps) * (1 + 1e-9)


def size_of(name, width):
    return count(shapes(build(section(name, width), 10), INPUT[name])["params"])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("share", [0.9, 0.13, 0.004])
def test_narrowed_is_the_widest_network_within_the_parameters(name, share):
    parameters = int(share * PARAMETERS[name])
    found = narrowed(section(name), 10, INPUT[name], parameters)
    assert found["name"] == name
    assert size_of(name, found["width"]) <= parameters
    assert size_of(name, next_width(name, found["width"])) > parameters


@pytest.mark.parametrize("name", MODELS)
def test_narrowed_hits_a_count_that_exists_exactly(name):
    exact = size_of(name, 0.25)
    assert size_of(name, narrowed(section(name), 10, INPUT[name], exact)["width"]) == exact
    less = narrowed(section(name), 10, INPUT[name], exact - 1)
    assert size_of(name, less["width"]) < exact


@pytest.mark.parametrize("extra", [0, 1, 10**9])
def test_narrowed_never_widens(extra):
    enough = PARAMETERS["residual_mlp"] + extra
    found = narrowed(section("residual_mlp"), 10, (40,), enough)
    assert found == section("residual_mlp")


def test_narrowed_starts_from_the_configs_own_width():
    whole = {"levels": 3, "model": section("lenet_300_100", 0.5)}
    assert narrowed(whole, 10, (28, 28, 1), 10**9) == whole["model"]
    assert narrowed(whole, 10, (28, 28, 1), 10_000)["width"] < 0.5


def test_narrowed_below_one_unit_a_layer_gives_one_unit_a_layer():
    found = narrowed(section("lenet_300_100"), 10, (28, 28, 1), 3)
    assert size_of("lenet_300_100", found["width"]) == closed_form("lenet_300_100", (1, 1))


# build


@pytest.mark.parametrize("name", MODELS)
def test_build_takes_the_whole_config_and_the_section(name):
    whole = {"seed": 0, "model": section(name, 0.5), "data": {"name": "digits"}}
    assert build(whole, 10) == build(section(name, 0.5), 10)
    assert isinstance(build(whole, 10), MODELS[name])
    assert build(whole, 10) != build(section(name, 0.6), 10)


@pytest.mark.parametrize("width", [0, 0.0, -1, -0.5, math.nan, math.inf])
def test_a_width_that_is_not_positive_and_finite_is_refused(width):
    with pytest.raises(UserError, match=rf"model\.width={width} must be"):
        build(section("lenet_5", width), 10)


def test_an_unknown_model_suggests_the_near_one_and_lists_all():
    with pytest.raises(UserError) as caught:
        build(section("lenet_300"), 10)
    said = str(caught.value)
    assert "'lenet_300'; did you mean 'lenet_300_100'?" in said
    assert all(name in said for name in MODELS)


@pytest.mark.parametrize("shape", [(8, 8, 1), (40,), (28, 28)])
def test_examples_that_a_model_cannot_take_are_a_users_error(shape):
    module = build(section("lenet_5"), 10)
    with pytest.raises(UserError, match=r"lenet_5|LeNet5"):
        architectures.shapes(module, shape)
