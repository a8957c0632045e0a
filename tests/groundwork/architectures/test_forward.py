import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import (
    VGG11,
    Conv2,
    LeNet5,
    LeNet300100,
    ResidualMLP,
    ResNet20,
    StudentNet,
    build,
    shapes,
)
from tests.groundwork.architectures import references
from tests.groundwork.architectures.references import CONV, RESNET, VGG
from tests.groundwork.architectures.small import (
    INPUT,
    NORMED,
    WIDTHS,
    as_float32,
    by_layer,
    drawn_by_numpy,
    inputs_for,
    logits,
    quickly,
    section,
)

TINY = {  # widths at which the numpy forward passes are quick
    "lenet_300_100": 1.0,
    "lenet_5": 0.2,
    "residual_mlp": 1.0,
    "student_net": 0.2,
    **dict.fromkeys(CONV, 0.04),
    **dict.fromkeys(RESNET, 0.2),
    **dict.fromkeys(VGG, 0.04),
}
DEEPER = (
    "resnet_56",
    "vgg_13",
    "vgg_16",
)  # others of their families are as they are, at two depths


def tiny(name):
    return build(section(name, TINY[name]), 10)


def in_numpy(name, tree, inputs, kind=references.Evaluated):
    """Logits, and the BatchNorm that took part in them."""
    norm = kind(tree["params"], tree.get("batch_stats"))
    return references.FORWARD[name](name, tree["params"], inputs, norm), norm


@pytest.mark.parametrize("name", [name for name in references.FORWARD if name not in DEEPER])
def test_logits_equal_a_numpy_forward_pass_and_statistics_stay(name):
    tree, inputs = drawn_by_numpy(tiny(name), INPUT[name]), inputs_for(name)
    expected, _ = in_numpy(name, tree, inputs)
    assert expected.std() > 0.1
    found, updated = logits(name, tree, inputs, TINY[name], mutable=["batch_stats"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    same = as_float32({key: tree[key] for key in tree if key == "batch_stats"})
    jax.tree.map(np.testing.assert_array_equal, dict(updated), same)


@pytest.mark.parametrize("name", ["conv_2", *NORMED])
def test_images_of_odd_sizes_are_taken_as_in_numpy(name):
    """28 → 14 → 7 → 3 → 1: what is odd is pooled and strided over in the same places."""
    tree = drawn_by_numpy(tiny(name), (28, 28, 1))
    inputs = np.random.default_rng(2).normal(size=(2, 28, 28, 1))
    expected, _ = in_numpy(name, tree, inputs)
    found = logits(name, tree, inputs, TINY[name])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("batch", [1, 4])
def test_logits_are_float32_of_shape_batch_by_classes(name, batch):
    module = build(section(name, WIDTHS[name]), 10)
    inputs = jax.ShapeDtypeStruct((batch, *INPUT[name]), jnp.float32)
    found = jax.eval_shape(module.apply, shapes(module, INPUT[name]), inputs)
    assert (found.shape, found.dtype) == ((batch, 10), jnp.float32)


SMALLEST = {  # of each family: without jit, every operation of every shape is compiled apart
    "conv_2": Conv2(10, width=0.25),
    "lenet_300_100": LeNet300100(10),
    "lenet_5": LeNet5(10),
    "residual_mlp": ResidualMLP(10),
    "resnet_20": ResNet20(10, width=0.5, blocks=1),
    "student_net": StudentNet(10, width=0.5),
    "vgg_11": VGG11(10, width=0.125, groups=(1,) * 5),
}


@pytest.mark.parametrize("name", [name for name in SMALLEST if name not in NORMED])
def test_training_computes_the_same_without_normalisation(name):
    module, inputs = SMALLEST[name], as_float32(inputs_for(name))
    variables = as_float32(drawn_by_numpy(module, INPUT[name]))
    evaluated, trained = (
        jax.make_jaxpr(functools.partial(module.apply, train=train))(variables, inputs)
        for train in (False, True)
    )
    assert str(evaluated) == str(trained)


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5", "vgg_11"])
def test_logits_under_jit_are_those_without(name):
    module, inputs = SMALLEST[name], as_float32(inputs_for(name))
    variables = as_float32(drawn_by_numpy(module, INPUT[name]))
    plain = module.apply(variables, inputs)
    jitted = quickly(module.apply)(variables, inputs)
    np.testing.assert_allclose(jitted, plain, rtol=1e-5, atol=1e-5)


def test_every_family_is_among_them():
    families = set(references.FORWARD.values())
    assert {references.FORWARD[name] for name in SMALLEST} == families


# BatchNorm


@pytest.mark.parametrize("name", NORMED)
def test_training_normalises_by_the_whole_batch_and_moves_the_statistics_by_a_tenth(name):
    module, inputs = SMALLEST[name], inputs_for(name, 8)
    tree = drawn_by_numpy(module, INPUT[name])
    expected, norm = in_numpy(name, tree, inputs, references.Trained)

    def train(variables, inputs):
        return module.apply(variables, inputs, train=True, mutable=["batch_stats"])

    for devices, axis in ((1, None), (1, "data"), (2, "data")):  # a loop of one's own has no axis
        spread = quickly(jax.vmap(train, (None, 0), axis_name=axis))
        shares = inputs.reshape(devices, -1, *INPUT[name])
        found, updated = spread(as_float32(tree), as_float32(shares))
        found = found.reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=2e-3 * abs(expected).max())
        statistics = dict(by_layer(updated["batch_stats"]))
        assert statistics.keys() == norm.updated.keys()
        for layer, leaves in statistics.items():
            for key, rows in leaves.items():
                for row in rows:  # the same on every device
                    np.testing.assert_allclose(row, norm.updated[layer][key], rtol=1e-3, atol=1e-4)
