import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from groundwork.architectures import build, initializers
from tests.groundwork.architectures.small import (
    NORMED,
    WIDTHS,
    by_layer,
    drawn,
    initial,
    quickly,
    section,
)

TORCH = ("residual_mlp", "student_net")


def kernels_and_fans(params):
    """Layer → kernel, fan in, fan out, where a convolution's fans count its window."""
    for layer, leaves in by_layer(params):
        if "kernel" in leaves:
            kernel = leaves["kernel"]
            window = math.prod(kernel.shape[:-2])
            yield layer, kernel.ravel(), window * kernel.shape[-2], window * kernel.shape[-1]


@pytest.mark.parametrize(
    ("name", "fans"),
    [  # Glorot & Bengio 2010: variance 2 / (fan in + fan out); He et al. 2015: 2 / fan in
        ("lenet_300_100", lambda inward, outward: inward + outward),
        ("lenet_5", lambda inward, outward: inward + outward),
        ("conv_4", lambda inward, outward: inward + outward),
        ("resnet_20", lambda inward, outward: inward),
        ("vgg_11", lambda inward, outward: inward),
    ],
)
def test_kernels_are_glorot_or_he_normal(name, fans):
    # Flax draws the normal cut at two deviations, widened so that the variance after the cut is
    # right; Kolmogorov-Smirnov against exactly this distribution, then its deviation and bound.
    for layer, kernel, fan_in, fan_out in kernels_and_fans(initial(name)["params"]):
        deviation = math.sqrt(2 / fans(fan_in, fan_out))
        cut = stats.truncnorm(-2, 2)
        drawn = stats.truncnorm(-2, 2, scale=deviation / cut.std())
        assert stats.kstest(kernel, drawn.cdf).pvalue > 1e-3, layer
        error = deviation / math.sqrt(2 * kernel.size)
        assert abs(kernel.std() - deviation) < 4 * error, layer
        assert abs(kernel).max() <= 2 * deviation / cut.std() * (1 + 1e-6), layer


@pytest.mark.parametrize("name", [name for name in WIDTHS if name not in TORCH])
def test_biases_are_zero_and_batchnorm_begins_as_the_identity(name):
    for layer, leaves in by_layer(initial(name)["params"]):
        normed = "scale" in leaves
        assert ("bias" in leaves) == (normed or layer == "output" or name not in NORMED)
        for key, expected in (("bias", 0), ("scale", 1)):
            if key in leaves:
                np.testing.assert_array_equal(leaves[key], np.full(leaves[key].shape, expected))
    for _, leaves in by_layer(initial(name).get("batch_stats", {})):
        np.testing.assert_array_equal(leaves["mean"], np.zeros(leaves["mean"].shape))
        np.testing.assert_array_equal(leaves["var"], np.ones(leaves["var"].shape))


@pytest.mark.parametrize("name", TORCH)
def test_kernels_and_biases_are_pytorchs(name):
    # reset_parameters of torch.nn.Linear and Conv2d: weight and bias uniform in ±1/√fan_in
    fans, params = {}, initial(name)["params"]
    for layer, kernel, fan_in, _ in kernels_and_fans(params):
        fans[layer] = fan_in
        bound = 1 / math.sqrt(fan_in)
        for values in (kernel, params[layer]["bias"]):
            assert abs(values).max() <= np.float32(bound), layer
            # the largest of n uniform draws: below bound × p^(1/n) with probability p
            assert abs(values).max() > bound * 1e-4 ** (1 / values.size), layer
            assert stats.kstest(values, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3, layer
    if name == "residual_mlp":
        assert fans == {"fc1": 40, "fc2": 500, "output": 500}
    else:
        assert {fans[f"depthwise{block}"] for block in range(2, 9)} == {9}
        assert [fans[f"pointwise{block}"] for block in (2, 5, 8)] == [8, 64, 128]
        assert (fans["conv1"], fans["output"]) == (27, 128)


@pytest.mark.parametrize("name", WIDTHS)
def test_the_same_key_gives_the_same_parameters_and_another_others(name):
    first, same, other = initial(name), drawn(name), drawn(name, key=1)
    jax.tree.map(np.testing.assert_array_equal, first, same)
    others = dict(by_layer(other["params"]))
    for layer, leaves in by_layer(first["params"]):
        if "kernel" in leaves:
            assert np.mean(leaves["kernel"] == others[layer]["kernel"]) < 1e-3


def test_layers_of_one_shape_are_drawn_apart():
    init = quickly(build(section("residual_mlp", 0.2), 100).init)
    one = init(jax.random.key(0), jnp.zeros((1, 100)))
    kernels = [layer["kernel"] for layer in one["params"].values()]
    assert {kernel.shape for kernel in kernels} == {(100, 100)}
    for i in range(3):
        assert np.mean(kernels[i] == kernels[i - 1]) < 1e-3


def test_orthogonal_matrices_are_drawn_from_all_alike():
    """Of the uniform measure over O(D), traces have mean 0 and mean square 1, for every D ≥ 2."""
    drawn = jax.vmap(lambda key: initializers.orthogonal(key, (4, 6, 6)))(
        jax.random.split(jax.random.key(0), 500)
    )
    drawn = np.asarray(drawn, np.float64).reshape(-1, 6, 6)
    np.testing.assert_allclose(
        drawn @ drawn.swapaxes(1, 2), np.tile(np.eye(6), (2000, 1, 1)), atol=1e-5
    )
    traces = np.trace(drawn, axis1=1, axis2=2)
    assert abs(traces.mean()) < 0.1
    assert (traces**2).mean() == pytest.approx(1, abs=0.15)
    assert np.linalg.det(drawn).mean() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_no_decomposition_of_lapack_is_in_the_start_of_a_language_model(name):
    """Two of them at once, of several replicates, never end on a CPU."""
    program = jax.make_jaxpr(build(section(name), classes=5).init)(
        jax.random.key(0), np.zeros((1, 4), np.int32)
    )
    assert "random_bits" in str(program)
    assert not re.search(r"\b(qr|geqrf|householder_product|svd|cholesky|eigh)\[", str(program))
