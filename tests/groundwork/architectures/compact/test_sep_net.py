"""SEP-Net's binarisation, blocks and sizes beside numpy and the paper's figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import trees
from groundwork.architectures import build, shapes
from groundwork.architectures.compact.sep_net import SEPModule, binarized
from groundwork.errors import UserError
from groundwork.traced import reach
from tests.groundwork.architectures.references import Evaluated, convolve, dense, relu
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype("f")
STAGES = (1, 1, 2, 2, 1)  # modules of each


def patterns(kernel):
    """In numpy: the mean of what is not 0, with each entry's sign."""
    return np.sign(kernel) * np.abs(kernel[kernel != 0]).mean()


def test_a_kernel_becomes_two_values_and_pruned_entries_stay_zero():
    found = np.asarray(binarized(jnp.asarray(KERNEL)))
    np.testing.assert_allclose(found, patterns(KERNEL), rtol=1e-6)
    for factor in (1, 1.1, 1.3):  # exactly: nothing is rounded apart
        assert len(np.unique(binarized(jnp.asarray(factor * KERNEL, jnp.float32)))) == 2
    holes = np.where(np.arange(KERNEL.size).reshape(KERNEL.shape) % 3, KERNEL, 0)
    found = np.asarray(binarized(jnp.asarray(holes)))
    np.testing.assert_allclose(found, patterns(holes), rtol=1e-6)
    np.testing.assert_array_equal(found == 0, holes == 0)
    np.testing.assert_array_equal(binarized(jnp.zeros((3, 3))), np.zeros((3, 3)))


def test_no_other_size_of_two_values_is_nearer():
    best = ((patterns(KERNEL) - KERNEL) ** 2).sum()
    for factor in (0.99, 1.01):
        assert ((factor * patterns(KERNEL) - KERNEL) ** 2).sum() > best


def test_the_gradient_passes_straight_through():
    weights = jnp.asarray(np.random.default_rng(1).normal(size=KERNEL.shape), jnp.float32)
    found = jax.grad(lambda kernel: jnp.sum(weights * binarized(kernel)))(jnp.asarray(KERNEL))
    np.testing.assert_array_equal(found, weights)


class _Evaluating:
    """A block whose `train` is given."""

    def __init__(self, block):
        self.block = block

    def init(self, key, x):
        return self.block.init(key, x, train=False)

    def apply(self, variables, x):
        return self.block.apply(variables, x, train=False)


def grouped(kernel, x, padding):
    """Four groups of channels, each by its own kernels."""
    kernels, parts = np.split(kernel, 4, -1), np.split(x, 4, -1)
    pairs = zip(kernels, parts, strict=True)
    return np.concatenate([convolve({"kernel": k}, part, padding) for k, part in pairs], -1)


def module(p, norm, place, x, pattern):
    y = relu(norm(f"{place}bn1", convolve(p["conv1"], x)))
    for block in ("pattern1", "pattern2"):
        extracted = grouped(pattern(p[block]["pattern"]["kernel"]), y, 1)
        y = extracted + grouped(p[block]["conv1"]["kernel"], y, 0)
        y = relu(norm(f"{place}{block}/bn1", y))
    return relu(x + norm(f"{place}bn2", convolve(p["conv2"], y)))


@pytest.mark.parametrize(("binary", "pattern"), [(False, np.copy), (True, patterns)])
def test_a_module_is_that_of_numpy(binary, pattern):
    block = _Evaluating(SEPModule(binary, jnp.float32))
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 32))
    tree = drawn_by_numpy(block, x.shape[1:])
    found = quickly(block.apply)(*as_float32((tree, x)))
    norm = Evaluated(tree["params"], tree["batch_stats"])
    expected = module(tree["params"], norm, "", x, pattern)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_logits_are_those_of_numpy():
    network = build({"name": "sep_net_small", "width": 0.05, "binary": True}, 5)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    tree = drawn_by_numpy(network, x.shape[1:])
    found = quickly(network.apply)(*as_float32((tree, x)))
    p, norm = tree["params"], Evaluated(tree["params"], tree["batch_stats"])
    for stage, modules in enumerate(STAGES, 1):
        kernel = p[f"conv{stage}"]["kernel"]
        if stage > 2:
            parts = zip(np.split(kernel, 4, -1), np.split(x, 4, -1), strict=True)
            x = np.concatenate([convolve({"kernel": k}, y, 1, 2) for k, y in parts], -1)
        else:
            x = convolve({"kernel": kernel}, x, 2 if stage == 1 else 1)
        x = relu(norm(f"bn{stage}", x))
        for number in range(1, modules + 1):
            place = f"block{stage}_{number}"
            x = module(p[place], norm, f"{place}/", x, patterns)
    expected = dense(p["output"], x.mean((1, 2)))
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


def test_sizes_are_near_the_published_ones():
    """1.3 M; with one bit a pattern's entry 4.2 MB; with 8 bits for the rest, 1.3 MB."""
    found = trees.flatten(shapes(build({"name": "sep_net"}, 1000), (224, 224, 3))["params"])
    binary = sum(leaf.size for path, leaf in found.items() if path.endswith("pattern/kernel"))
    rest = sum(leaf.size for leaf in found.values()) - binary
    assert (binary, rest) == (293_760, 1_006_472)
    assert round((4 * rest + binary / 8) / 1e6, 2) == 4.06
    assert round((rest + binary / 8) / 1e6, 2) == 1.04
    assert round((rest + binary) / 1e6, 1) == 1.3


def test_what_cannot_reach_a_pattern_lists_it():
    block, x = SEPModule(True, jnp.float32), (5, 4, 32)
    model = _Evaluating(block)
    reached, refused = reach.layers(model, shapes(model, x), jax.ShapeDtypeStruct((1, *x), "f"))
    assert reached.keys() == {"conv1", "conv2", "pattern1/conv1", "pattern2/conv1"}
    assert refused == {
        f"pattern{number}/pattern/kernel": "it goes through stop_gradient" for number in (1, 2)
    }


def test_binary_is_true_or_false():
    with pytest.raises(UserError, match=r"model\.kwargs\.binary=2 must be True or False"):
        build({"name": "sep_net", "binary": 2}, 10)
