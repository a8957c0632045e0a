import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures
from groundwork.errors import UserError
from msdnet import cost, networks
from msdnet.model import MSDNet
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly
from tests.msdnet import references
from tests.msdnet.references import PAPER, SMALL

CIFAR = (32, 32, 3)

# forward

FORWARD = {
    "max": (SMALL, (16, 12, 3)),
    "min": ({**SMALL, "prune": "min"}, (16, 12, 3)),
    "imagenet": (
        {
            **SMALL,
            "base": 1,
            "step_mode": "lin_grow",
            "prune": "min",
            "bottleneck_factors": (0, 1, 2),
            "stem": "imagenet",
            "head": 0,
            "reduction": 0.7,
        },
        (37, 30, 2),
    ),
    "one layer": ({**SMALL, "blocks": 1, "base": 1, "prune": "min"}, (33, 40, 1)),
}


@functools.cache
def case(name):
    """Model, variables, images, logits by jit: compiled once a configuration."""
    given, shape = FORWARD[name]
    model = MSDNet(**given)
    variables = drawn_by_numpy(model, shape)
    images = np.random.default_rng(2).normal(size=(2, *shape))
    found = quickly(model.apply)(as_float32(variables), as_float32(images))
    return model, variables, images, found


def assert_near(found, expected, tolerance=1e-4):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("name", FORWARD)
def test_logits_equal_a_numpy_forward_pass(name):
    model, variables, images, found = case(name)
    expected = references.forward(FORWARD[name][0], variables, images)
    assert all(logits.std() > 0.05 for logits in expected)
    assert len(expected) == model.exits
    assert_near(found, expected)


def test_block_by_block_is_the_whole_network():
    model, variables, images, expected = case("max")
    variables, features = as_float32(variables), as_float32(images)

    @quickly
    def walk(variables, features):
        found = []
        for k in range(model.exits):
            after, logits = model.apply(variables, k, features, method="block")
            advanced = model.apply(variables, k, features, method="advance")
            classified = model.apply(variables, k, advanced, method="classify")
            found.append((logits, classified))
            features = after
        return found

    for (logits, classified), whole in zip(walk(variables, features), expected, strict=True):
        np.testing.assert_allclose(logits, whole, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(classified, whole, rtol=1e-5, atol=1e-5)


def test_jit_equals_eager():
    model, variables, images, expected = case("one layer")
    found = model.apply(as_float32(variables), as_float32(images))
    assert_near(found, expected, 1e-5)


def test_bfloat16_computes_in_it_and_keeps_parameters_and_statistics():
    given, shape = FORWARD["max"]
    model = MSDNet(**given, dtype=jnp.bfloat16)
    variables = architectures.shapes(model, shape)
    plain = architectures.shapes(MSDNet(**given), shape)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), variables) == jax.tree.map(
        lambda x: (x.shape, np.dtype("float32")), plain
    )
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    features, logits = jax.eval_shape(
        lambda variables, x: model.apply(variables, 0, x, method="block"), variables, images
    )
    assert {x.dtype for x in [*features, logits]} == {jnp.dtype("bfloat16")}


def test_training_moves_every_statistic_and_reaches_every_parameter():
    given, shape = FORWARD["one layer"]
    model = MSDNet(**given)
    variables = as_float32(drawn_by_numpy(model, shape))
    images = as_float32(np.random.default_rng(3).normal(size=(4, *shape)))

    @quickly
    def moved(variables, images):
        def loss(params):
            given = {**variables, "params": params}
            logits, updated = jax.vmap(  # the devices of a batch
                lambda x: model.apply(given, x, train=True, mutable="batch_stats"),
                axis_name="data",
            )(images[None])
            return sum(jnp.sum(jnp.sin(x)) for x in logits), updated["batch_stats"]

        return jax.grad(loss, has_aux=True)(variables["params"])

    gradients, updated = moved(variables, images)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.abs(leaf).max() > 0, path
    jax.tree.map(
        lambda new, old: np.testing.assert_array_less(0, np.abs(new[0] - old).max()),
        updated,
        variables["batch_stats"],
    )


# refusals

REFUSED = [
    ({"step_mode": "linear"}, "unknown msdnet.step_mode 'linear'"),
    ({"prune": "mix"}, "unknown msdnet.prune 'mix'.*known: max, min"),
    ({"stem": "cifar10"}, "unknown msdnet.stem 'cifar10'; did you mean 'cifar'"),
    *(
        ({name: value}, rf"msdnet\.{name}={value} must be")
        for name in ("classes", "blocks", "base", "step", "channels", "growth")
        for value in (0, -1, 2.5, True)
    ),
    ({"blocks": "7"}, r"msdnet\.blocks=7 must be an integer"),
    ({"head": -1}, r"msdnet\.head=-1 must be"),
    ({"head": 1.5}, r"msdnet\.head=1\.5 must be"),
    ({"reduction": 1.0}, r"msdnet\.reduction=1\.0 must be in \[0, 1\)"),
    ({"reduction": -0.1}, r"msdnet\.reduction=-0\.1 must be in"),
    ({"reduction": math.nan}, r"msdnet\.reduction=nan must be in"),
    ({"reduction": "half"}, r"msdnet\.reduction=half must be in"),
    ({"growth_factors": (1, 2)}, r"msdnet\.growth_factors=\(1, 2\) and msdnet\.bottleneck_factors"),
    (
        {"growth_factors": (), "bottleneck_factors": ()},
        r"msdnet\.growth_factors=\(\).*one entry per scale",
    ),
    ({"growth_factors": 4}, r"msdnet\.growth_factors=4 "),
    ({"bottleneck_factors": 4}, r"msdnet\.bottleneck_factors=4 "),
    ({"growth_factors": (1, 0, 4)}, r"msdnet\.growth_factors=\(1, 0, 4\)"),
    ({"growth_factors": (1, 1, 1), "growth": 3}, r"msdnet\.growth=3 .* must be even"),
    ({"growth_factors": (1, 2.5, 4)}, r"msdnet\.growth_factors=\(1, 2\.5, 4\)"),
    ({"bottleneck_factors": (-1, 2, 4)}, r"msdnet\.bottleneck_factors=\(-1, 2, 4\)"),
    ({"bottleneck_factors": (1, 0.5, 4)}, r"msdnet\.bottleneck_factors=\(1, 0\.5, 4\)"),
]


@pytest.mark.parametrize(("wrong", "message"), REFUSED)
def test_what_cannot_be_built_is_refused_by_its_key_in_one_line(wrong, message):
    model = MSDNet(**{**PAPER, **wrong})
    with pytest.raises(UserError, match=message) as caught:
        cost.costs(model, CIFAR)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", networks.NETWORKS)
@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 32, 3), (32, 32, 0), (40,), (32, 32), ()])
def test_what_are_no_images_or_have_no_pixels_is_refused(name, shape):
    widths = {"model": {"name": "lenet_5", "width": 0.2}}
    heads = {"model": {"name": "lenet_5", "width": 0.2}, "layers": ["conv1"]}
    smaller = {
        "msdnet": {"blocks": 1, "base": 1}, "resnets": {"blocks": [1]}, "slimmable": widths,
        "separate": widths, "heads": heads, "heads_2": heads,
    }  # fmt: skip
    model = networks.build(name, smaller.get(name, {"blocks": 1}), 10)
    with pytest.raises(UserError, match=r"cannot take (examples|inputs) of"):
        cost.costs(model, shape)


def test_lists_and_numpy_integers_are_taken():
    given = {"blocks": 1, "base": 1, "head": 4}
    factors = {"growth_factors": [1, 2], "bottleneck_factors": [1, 2]}
    listed = MSDNet(np.int64(10), growth=np.int32(6), **given, **factors)
    same = MSDNet(10, **given, growth_factors=(1, 2), bottleneck_factors=(1, 2))
    assert listed == same
    assert cost.costs(listed, (8, 8, 1)) == cost.costs(same, (8, 8, 1))
