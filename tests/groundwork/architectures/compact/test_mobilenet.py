"""MobileNets beyond their counts and the logits of their peers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import build, shapes
from groundwork.errors import UserError
from groundwork.traced.macs import multiply_adds
from tests.groundwork.architectures import references
from tests.groundwork.architectures.layer_tables import mobilenet
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly

V1_STRIDES = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]  # Howard et al., Table 1


def v1(tree, x, limit):
    """The network by Table 1, at these images' size, with min(max(x, 0), limit)."""
    norm = references.Evaluated(tree["params"], tree["batch_stats"])
    params = tree["params"]
    x = references.convolve(params["conv1"], x, padding=1, strides=2)
    x = np.clip(norm("bn1", x), 0, limit)
    places = [name for name in sorted(params) if name.startswith("block")]
    for place, strides in zip(places, V1_STRIDES, strict=True):
        kernel = {"kernel": params[place]["depthwise"]["kernel"], "bias": 0}
        x = references.depthwise(kernel, x)[:, ::strides, ::strides]
        x = np.clip(norm(f"{place}/depthwise_bn", x), 0, limit)
        x = references.convolve(params[place]["pointwise"], x)
        x = np.clip(norm(f"{place}/pointwise_bn", x), 0, limit)
    return references.dense(params["output"], x.mean((1, 2)))


@pytest.mark.parametrize(("activation", "limit"), [("relu6", 6), ("relu", np.inf)])
def test_logits_of_v1_equal_a_numpy_forward_pass(activation, limit):
    module = build({"name": "mobilenet_v1", "width": 0.05, "activation": activation}, 3)
    tree = drawn_by_numpy(module, (17, 17, 3))
    inputs = 9 * np.random.default_rng(0).normal(size=(2, 17, 17, 3))
    expected = v1(tree, inputs, limit)
    assert not np.allclose(expected, v1(tree, inputs, 6 if limit > 6 else np.inf))
    found = quickly(module.apply)(as_float32(tree), as_float32(inputs))
    np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize(
    ("resolution", "published"), [(224, 569), (192, 418), (160, 290), (128, 186)]
)
def test_the_resolution_multiplier_is_the_papers(resolution, published):
    """Howard et al., Table 7, in millions of multiply-adds."""
    counted = sum(layer.multiply_adds for layer in mobilenet.v1(1000, resolution=resolution))
    assert abs(counted / 1e6 - published) < 1  # 290.7 is rounded down, 568.7 up
    if resolution == 160:
        module = build({"name": "mobilenet_v1"}, 1000)
        image = jax.ShapeDtypeStruct((1, resolution, resolution, 3), jnp.float32)
        found = multiply_adds(module.apply, shapes(module, module.image), image)
        assert found == counted


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"name": "mobilenet_v1", "activation": "swish"}, r"'swish' is none of relu6, relu"),
        ({"name": "mobilenet_v2", "activation": "6"}, r"activation='6' is none of relu6, relu"),
        (
            {"name": "mobilenet_v2", "dropout": 1},
            r"dropout=1\.0 must be at least 0 and less than 1",
        ),
    ],
)
def test_wrong_settings_are_refused(section, said):
    with pytest.raises(UserError, match=said):
        build(section, 10)
