import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures
from groundwork.errors import UserError
from msdnet import cost, networks, plan
from msdnet.model import Classifier, MSDNet
from tests.groundwork.architectures.small import as_float32, quickly
from tests.msdnet import references
from tests.msdnet.references import PAPER

CIFAR = (32, 32, 3)

# counts


def test_the_cifar_100_anytime_network_has_the_published_layers_and_costs():
    model = MSDNet(100)
    assert cost.parameters(model, CIFAR) == 3_067_960
    found, expected = cost.costs(model, CIFAR), references.counts(PAPER, CIFAR)
    assert [(c.params, c.macs, c.macs_cumulative) for c in found] == [
        (row[0], row[1], row[3]) for row in expected
    ]
    assert [c.macs for c in found] == [
        14_967_296,
        21_707_264,
        28_792_320,
        34_801_152,
        41_694_720,
        46_337_536,
        51_891_712,
    ]
    # all heads so far, in millions
    cumulative = [round(c.macs_cumulative / 1e6, 2) for c in found]
    assert cumulative == [14.97, 25.26, 36.78, 45.97, 56.93, 66.53, 75.49]
    assert found[-1].macs_cumulative == 75_487_744
    assert all(type(n) is int for c in found for n in c)


def test_the_paper_s_defaults_are_ours():
    given = {key: getattr(MSDNet(100), key) for key in PAPER}
    assert given == PAPER


SMALL = {**PAPER, "classes": 5, "blocks": 3, "base": 2, "step": 1, "head": 4}
SMALL |= {"channels": 3, "growth": 2}
COUNTED = {
    "max": (SMALL, (17, 15, 3)),
    "min, growing": (
        {
            **SMALL,
            "step_mode": "lin_grow",
            "step": 2,
            "prune": "min",
            "head": 0,
            "reduction": 0.3,
        },
        CIFAR,
    ),
    "imagenet": (
        {
            **SMALL,
            "blocks": 2,
            "growth_factors": (1, 2, 4, 4),
            "bottleneck_factors": (1, 0, 4, 4),
            "stem": "imagenet",
            "head": 0,
        },
        (224, 224, 3),
    ),
    "one scale": (
        {**SMALL, "growth": 3, "growth_factors": (1,), "bottleneck_factors": (2,)},
        (8, 8, 1),
    ),
    "no transitions": (
        {**SMALL, "base": 1, "reduction": 0.0, "bottleneck_factors": (0,) * 3},
        CIFAR,
    ),
    "fewer layers than scales": ({**SMALL, "blocks": 1, "base": 1, "prune": "min"}, CIFAR),
    "one pixel": ({**SMALL, "blocks": 1, "base": 1, "stem": "imagenet"}, (1, 1, 1)),
}


@pytest.mark.parametrize("name", COUNTED)
def test_every_exit_costs_what_the_layer_rules_add_up_to(name):
    given, shape = COUNTED[name]
    model = MSDNet(**given)
    found, expected = cost.costs(model, shape), references.counts(given, shape)
    assert [c.params for c in found] == [row[0] for row in expected]
    assert [c.macs for c in found] == [row[1] for row in expected]
    assert [c.macs_cumulative for c in found] == [row[3] for row in expected]


def test_parameters_with_all_heads_so_far_are_those_known_of_the_cifar_network():
    found = [round(row[2] / 1e6, 3) for row in references.counts(PAPER, CIFAR)]
    assert found == [0.434, 0.877, 1.275, 1.696, 2.178, 2.603, 3.068]


# plan


def flat(blocks):
    return [layer for block in blocks for layer in block]


@pytest.mark.parametrize(("blocks", "depth"), [(4, 10), (5, 15), (6, 21), (7, 28), (8, 36)])
def test_linearly_growing_spans_have_the_paper_s_depths(blocks, depth):
    assert plan.spans(blocks, 1, 1, "lin_grow") == list(range(1, blocks + 1))
    assert sum(plan.spans(blocks, 1, 1, "lin_grow")) == depth


def test_the_anytime_network_has_24_layers_and_exits_after_every_second():
    spans = plan.spans(11, 4, 2, "even")
    assert np.cumsum(spans).tolist() == [2 * (i + 1) for i in range(1, 12)]
    assert sum(spans) == 24


def test_max_drops_a_scale_after_each_third_and_halves_what_is_kept():
    """24 layers, 16 channels growing by 6: 16 + 9 · 6 = 70 → 35; 35 + 8 · 6 = 83 → 41."""
    layers = flat(plan.layers(plan.spans(11, 4, 2, "even"), 3, 16, 6, 0.5, "max"))
    assert [layer.outputs for layer in layers] == [3] * 8 + [2] * 8 + [1] * 8
    assert [layer.inputs for layer in layers] == [3] * 9 + [2] * 8 + [1] * 7
    assert {n: layer.transition for n, layer in enumerate(layers, 1) if layer.transition} == {
        9: 35,
        17: 41,
    }


def test_min_keeps_scales_as_long_as_an_exit_sees_them_and_reduces_after_thirds():
    """16 + 8 · 6 = 64 → 32; 32 + 8 · 6 = 80 → 40."""
    layers = flat(plan.layers(plan.spans(11, 4, 2, "even"), 3, 16, 6, 0.5, "min"))
    assert [layer.outputs for layer in layers] == [3] * 22 + [2, 1]
    assert [layer.inputs for layer in layers] == [3] * 23 + [2]
    assert {n: layer.transition for n, layer in enumerate(layers, 1) if layer.transition} == {
        8: 32,
        16: 40,
    }


@pytest.mark.parametrize("prune", plan.PRUNE)
def test_a_transition_keeps_at_least_one_channel(prune):
    layers = flat(plan.layers([6], 3, 1, 2, 0.01, prune))
    kept = [layer.transition for layer in layers]
    assert (max(kept), sum(kept)) == (1, 2)
    bare = flat(plan.layers([6], 3, 1, 2, 0.0, prune))
    assert not any(layer.transition for layer in bare)


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


def drawn_by_numpy(model, shape):
    """Variables of the right shapes, none of them 0 or 1, so that a forgotten one is seen."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key in ("var", "scale"):
            return rng.uniform(0.5, 2, leaf.shape)
        return rng.normal(size=leaf.shape) / math.prod(leaf.shape[:-1]) ** 0.5

    return jax.tree_util.tree_map_with_path(draw, architectures.shapes(model, shape))


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
    ({"growth_factors": (), "bottleneck_factors": ()}, r"msdnet\.growth_factors=\(\).*an entry"),
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
    smaller = {"msdnet": {"blocks": 1, "base": 1}, "resnets": {"blocks": [1]}}
    model = networks.build(name, smaller.get(name, {"blocks": 1}), 10)
    with pytest.raises(UserError, match=f"{type(model).__name__} cannot take examples of"):
        cost.costs(model, shape)


def test_lists_and_numpy_integers_are_taken():
    given = {"blocks": 1, "base": 1, "head": 4}
    factors = {"growth_factors": [1, 2], "bottleneck_factors": [1, 2]}
    listed = MSDNet(np.int64(10), growth=np.int32(6), **given, **factors)
    same = MSDNet(10, **given, growth_factors=(1, 2), bottleneck_factors=(1, 2))
    assert listed == same
    assert cost.costs(listed, (8, 8, 1)) == cost.costs(same, (8, 8, 1))


# what is drawn at the start


def test_kernels_start_as_the_authors_draw_them():
    """Normal, √(2 / (k² outputs)); the linear layers uniform up to 1 / √inputs, as PyTorch's."""
    head = Classifier(classes=100, channels=128, dtype=jnp.float32)
    features = (jnp.zeros((1, 4, 4, 24)),)
    params = jax.jit(head.init, static_argnums=2)(jax.random.key(0), features, False)["params"]
    kernel = np.asarray(params["conv1"]["conv"]["kernel"])  # [3, 3, 24, 128]
    assert kernel.std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert np.abs(kernel).max() > 3 * kernel.std()  # not cut at two deviations
    linear = np.asarray(params["linear"]["kernel"])
    assert np.abs(linear).max() == pytest.approx(128**-0.5, rel=0.01)
    assert linear.std() == pytest.approx(128**-0.5 / 3**0.5, rel=0.02)
    assert not np.any(params["linear"]["bias"])


# milliseconds


class Halving(nn.Module):
    """A block takes the features of the block before: half of its pixels."""

    exits = 2

    def block(self, k, features):
        assert features.shape[1] == 8 // 2**k
        return features[:, ::2], features


def test_milliseconds_of_an_exit_are_medians_of_all_blocks_until_there(monkeypatch):
    spent = [1, 50, 2, 4, 0, 3]  # seconds of a run: three of each block
    ticks = iter(np.cumsum([x for seconds in spent for x in (10, seconds)]).tolist())
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(ticks))
    found = cost.milliseconds(Halving(), {}, np.zeros((4, 8, 1, 1), np.float32), repeats=3)
    assert found == [1e3 * 2 / 4, 1e3 * (2 + 3) / 4]


# networks.build


def test_a_section_s_keys_become_attributes():
    given = {**PAPER, "growth_factors": [1, 2, 4], "dtype": "bfloat16"}  # JSON has no tuples
    del given["classes"]
    model = networks.build("msdnet", given, 100)
    assert model == MSDNet(100, dtype=jnp.bfloat16)
    assert networks.build("resnets", {"blocks": [1, 2]}, 10).blocks == (1, 2)


@pytest.mark.parametrize(
    ("name", "section", "message"),
    [
        ("msd_net", {}, "unknown network 'msd_net'; did you mean 'msdnet'"),
        ("msdnet", {"block": 7}, "unknown config key of msdnet 'block'; did you mean 'blocks'"),
        ("msdnet", {"classes": 7}, "unknown config key of msdnet 'classes'"),
        ("msdnet", {"name": "x"}, "unknown config key of msdnet 'name'"),
        ("msdnet", {"parent": None}, "unknown config key of msdnet 'parent'"),
        ("resnet_exits", {"growth": 1}, "unknown config key of resnet_exits 'growth'"),
        ("resnets", {"every": 1}, "unknown config key of resnets 'every'"),
        ("msdnet", {"dtype": "float16"}, "unknown msdnet.dtype 'float16'"),
        ("resnets", {"dtype": None}, "unknown resnets.dtype None"),
    ],
)
def test_unknown_names_are_refused_in_one_line(name, section, message):
    with pytest.raises(UserError, match=message) as caught:
        networks.build(name, section, 10)
    assert "\n" not in str(caught.value)
