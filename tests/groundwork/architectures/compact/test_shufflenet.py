"""Units of ShuffleNets against numpy; wrong settings."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import build, narrowed
from groundwork.architectures.compact.shufflenet import UnitV1, UnitV2
from groundwork.errors import UserError
from groundwork.traced.macs import multiply_adds
from groundwork.trees import count
from tests.groundwork.architectures import references
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly

IMAGES = np.random.default_rng(3).normal(size=(2, 5, 7, 12))


class Alone(nn.Module):
    """A unit in evaluation, as a network."""

    kind: object
    arguments: tuple

    @nn.compact
    def __call__(self, x):
        return self.kind(*self.arguments, jnp.float32, name="unit")(x, train=False)


def grouped(leaves, x, groups):
    inputs, outputs = x.shape[-1] // groups, leaves["kernel"].shape[-1] // groups
    parts = []
    for number in range(groups):
        kernel = leaves["kernel"][..., number * outputs : (number + 1) * outputs]
        part = x[..., number * inputs : (number + 1) * inputs]
        parts.append(references.convolve({"kernel": kernel}, part))
    return np.concatenate(parts, -1)


def shuffled(x, groups):
    """Zhang et al., Section 3.1: the channels as a table of groups × n, read by columns."""
    order = np.arange(x.shape[-1]).reshape(groups, -1).T.ravel()
    return x[..., order]


def windows(leaves, x, strides):
    kernel = {"kernel": leaves["kernel"], "bias": 0}
    return references.depthwise(kernel, x)[:, ::strides, ::strides]


def averaged(x):
    """The mean of 3×3, strides 2, a zero on every side."""
    ninth = {"kernel": np.full((3, 3, 1, x.shape[-1]), 1 / 9), "bias": 0}
    return references.depthwise(ninth, x)[:, ::2, ::2]


def unit_v1(tree, x, groups, first, strides):
    params, relu = tree["params"]["unit"], references.relu
    norm = references.Evaluated(params, tree["batch_stats"]["unit"])
    y = relu(norm("bn1", grouped(params["pointwise1"], x, first)))
    y = norm("depthwise_bn", windows(params["depthwise"], shuffled(y, groups), strides))
    y = norm("bn2", grouped(params["pointwise2"], y, groups))
    return relu(x + y) if strides == 1 else relu(np.concatenate([averaged(x), y], -1))


def unit_v2(tree, x, strides):
    params, relu = tree["params"]["unit"], references.relu
    norm = references.Evaluated(params, tree["batch_stats"]["unit"])

    def mixed(name, x):
        return relu(norm(f"{name}_bn", references.convolve(params[name], x)))

    def filtered(name, x):
        return norm(f"{name}_bn", windows(params[name], x, strides))

    kept, taken = np.split(x, 2, -1) if strides == 1 else (x, x)
    if strides == 2:
        kept = mixed("shortcut_pointwise", filtered("shortcut_depthwise", kept))
    taken = mixed("pointwise2", filtered("depthwise", mixed("pointwise1", taken)))
    return shuffled(np.concatenate([kept, taken], -1), 2)


def compared(module, reference):
    tree = drawn_by_numpy(module, IMAGES.shape[1:])
    expected = reference(tree, IMAGES)
    found = quickly(module.apply)(as_float32(tree), as_float32(IMAGES))
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())
    image = np.float32(IMAGES[:1])
    return count(tree["params"]), multiply_adds(module.apply, as_float32(tree), image)


@pytest.mark.parametrize(("groups", "first", "strides"), [(3, 3, 1), (2, 1, 2), (1, 1, 1)])
def test_a_unit_of_v1_equals_numpy_and_costs_what_it_says(groups, first, strides):
    channels = 12 if strides == 1 else 20
    module = Alone(UnitV1, (channels, groups, first, strides))
    found = compared(module, lambda tree, x: unit_v1(tree, x, groups, first, strides))
    m, f = {(3, 1): (3, 12), (2, 2): (6, 8), (1, 1): (3, 12)}[groups, strides]  # 20 / 4 = 5 → 6
    assert found[0] == m * (12 // first + 9 + f // groups) + 2 * (2 * m + f)
    after = 35 if strides == 1 else 12
    assert found[1] == 35 * m * 12 // first + after * m * (9 + f // groups)


@pytest.mark.parametrize("strides", [1, 2])
def test_a_unit_of_v2_equals_numpy_and_costs_what_it_says(strides):
    channels = 12 if strides == 1 else 16
    found = compared(Alone(UnitV2, (channels, strides)), lambda *given: unit_v2(*given, strides))
    n = channels // 2
    if strides == 1:
        assert found == (n * (2 * n + 9) + 6 * n, 35 * n * (2 * n + 9))
    else:
        parameters = n * (2 * 12 + n + 9) + 9 * 12 + 2 * 12 + 8 * n
        assert found == (parameters, 35 * n * 12 + 12 * (n * (n + 9 + 12) + 9 * 12))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"name": "shufflenet_v1", "groups": 5}, r"groups=5 .* must be one of 1, 2, 3, 4, 8"),
        ({"name": "shufflenet_v2", "width": 0.75}, r"width=0\.75 .* one of 0\.5, 1\.0, 1\.5, 2\.0"),
    ],
)
def test_what_the_papers_have_not_is_refused(section, said):
    with pytest.raises(UserError, match=said):
        build(section, 10)


def test_a_narrowed_v2_is_one_of_the_papers():
    section = {"name": "shufflenet_v2_small", "width": 1.0}
    assert narrowed(section, 10, (32, 32, 3), 1_000_000)["width"] == 0.5
