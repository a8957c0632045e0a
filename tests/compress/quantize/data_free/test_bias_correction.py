"""Means of rounded networks' outputs, layer by layer."""

import equinox as eqx
import jax
import numpy as np
import pytest

from compress.quantize.data_free import correct, equalize
from groundwork import trees
from tests.compress.quantize.data_free import networks
from tests.compress.quantize.data_free.networks import Left, Net, drawn, images


def rounded(variables, step=0.25):
    """Kernels on a coarse grid."""
    return trees.map_with_path(
        lambda path, leaf: np.round(leaf / step) * np.float32(step) if "kernel" in path else leaf,
        variables,
    )


def test_means_are_those_of_the_exact_network_layer_after_layer():
    exact, x = drawn(Net()), images(8)
    rough = rounded(exact)
    new, corrected, left = correct(Net(), exact, rough, x)
    assert corrected == {
        "params/conv/kernel": "params/conv_bn/bias",
        "params/depth/kernel": "params/depth_bn/bias",
        "params/dense/kernel": "params/dense_bn/bias",
        "params/output/kernel": "params/output/bias",
    }
    assert not left
    both = trees.map_with_path(lambda p, a, b: b if "kernel" in p else a, new, rough)
    logits, seen = networks.net(exact, x)
    for variables, fits in ((rough, False), (both, True)):
        others, found = networks.net(variables, x)
        pairs = [(logits, others), *((seen[name], found[name]) for name in seen)]
        for one, two in pairs:
            one, two = (value.reshape(-1, value.shape[-1]).mean(0) for value in (one, two))
            assert (np.abs(one - two).max() < 1e-5 * np.abs(one).max()) == fits
    np.testing.assert_array_equal(
        new["params"]["conv"]["kernel"], exact["params"]["conv"]["kernel"]
    )


def test_layers_without_a_bias_are_listed():
    def bare(variables, x):
        return x @ variables["a"] * variables["c"][None]

    rng = np.random.default_rng(0)
    variables = {"a": rng.normal(size=(3, 3)).astype("f4"), "c": np.ones(3, "f4")}
    rough = {**variables, "a": np.round(variables["a"])}
    new, corrected, left = correct(bare, variables, rough, images()[0, 0])
    assert (corrected, left) == ({}, {"a": "no bias follows that is its own"})
    np.testing.assert_array_equal(new["a"], variables["a"])


def test_a_mean_holds_the_correction_where_there_is_no_bias():
    exact = drawn(Left())
    rough = rounded(exact)
    new, corrected, _ = correct(Left(), exact, rough, images())
    assert corrected["params/plain/kernel"] == "batch_stats/bare/mean"
    both = trees.map_with_path(lambda p, a, b: b if "kernel" in p else a, new, rough)
    answers = [Left().apply(variables, images()).mean(0) for variables in (exact, both, rough)]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-4, atol=1e-5)
    assert np.abs(answers[2] - answers[0]).max() > 1e-2


def test_biases_that_were_rounded_as_well_are_corrected_once():
    exact, x = drawn(Net()), images(8)
    rough = trees.map_with_path(lambda path, leaf: np.round(leaf, 1), exact)
    new, corrected, _ = correct(Net(), exact, rough, x)
    moved = set(corrected.values())
    both = trees.map_with_path(lambda path, a, b: a if path in moved else b, new, rough)
    wanted, got, before = (networks.net(each, x)[0].mean(0) for each in (exact, both, rough))
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max() < np.abs(before - wanted).max()


def test_an_equinox_module_is_mapped_over_its_batch_and_keeps_its_functions():
    module = eqx.nn.MLP(4, 3, 5, 1, key=jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)

    def batched(net, x):
        return jax.vmap(net)(x)

    even = equalize(batched, module, x)
    assert even.pairs == {"layers/0/weight": ("layers/1/weight",)}
    assert even.variables.activation is module.activation
    np.testing.assert_allclose(batched(even.variables, x), batched(module, x), atol=1e-6)

    def round_weights(net):
        return jax.tree.map(lambda a: np.round(a * 4) / 4 if getattr(a, "ndim", 0) == 2 else a, net)

    rough = round_weights(module)
    new, corrected, left = correct(batched, module, rough, x)
    assert corrected == {f"layers/{n}/weight": f"layers/{n}/bias" for n in (0, 1)}
    assert not left
    wanted, found = (np.mean(batched(net, x), 0) for net in (module, round_weights(new)))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(np.mean(batched(rough, x), 0) - wanted).max() > 1e-3


def test_trees_that_differ_are_refused():
    exact = drawn(Net())
    with pytest.raises(ValueError, match="must be a tree like the exact ones"):
        correct(Net(), exact, {"params": exact["params"]}, images(1))
