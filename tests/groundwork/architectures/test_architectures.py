import functools
import itertools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures
from groundwork.architectures import MODELS, build, count, layers, narrowed, registry, shapes
from groundwork.architectures.initializers import scaled
from groundwork.errors import UserError
from tests.groundwork.architectures import references
from tests.groundwork.architectures.references import closed_form
from tests.groundwork.architectures.small import (
    DENSE,
    HIDDEN,
    INPUT,
    NORMED,
    PARAMETERS,
    WIDTHS,
    as_float32,
    by_layer,
    initial,
    inputs_for,
    logits,
    quickly,
    section,
)

# counts


def test_every_model_of_these_tables_is_pinned():
    assert set(PARAMETERS) == set(INPUT) == set(HIDDEN) == set(references.FORWARD)


def test_every_family_has_a_model_whose_values_are_tested():
    def family(name):
        return references.FORWARD[name]

    assert {family(name) for name in WIDTHS} == {family(name) for name in PARAMETERS}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name):
    found = shapes(build(section(name), 10), INPUT[name])
    assert count(found["params"]) == PARAMETERS[name] == closed_form(name, HIDDEN[name])
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}


@pytest.mark.parametrize("name", MODELS)
def test_a_module_tells_the_section_that_it_was_built_from(name):
    width = min(getattr(MODELS[name], "widths", [0.3]))
    given = {"name": name, "width": width, "dtype": "bfloat16"}
    assert architectures.described(build(given, 7)) == (given, 7)
    assert architectures.described(MODELS[name](5)) == (section(name) | {"dtype": "float32"}, 5)
    assert architectures.described(MODELS[name](5, dtype=jnp.float16)) is None


def test_modules_that_no_section_describes():
    assert architectures.described(MODELS["residual_mlp"](5, hidden=40)) is None
    assert architectures.described(MODELS["resnet_20"](5, blocks=5)) is None
    assert architectures.described(layers.nn.Dense(5)) is None


@pytest.mark.parametrize("name", WIDTHS)
def test_shapes_are_those_of_the_variables(name):
    found = shapes(build(section(name, WIDTHS[name]), 10), INPUT[name])
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, initial(name))


def test_conv_6_has_more_than_its_paper_says():
    """1.1 M in convolutions is right, 1.7 M in all is not; with half of fc1's inputs it is."""
    found = shapes(build(section("conv_6"), 10), INPUT["conv_6"])["params"]
    kernels = {layer: leaves["kernel"] for layer, leaves in by_layer(found)}
    convolutions = sum(kernel.size for name, kernel in kernels.items() if name.startswith("conv"))
    assert round(convolutions / 1e6, 1) == 1.1
    assert kernels["fc1"].shape == (4 * 4 * 256, 256)
    assert round((PARAMETERS["conv_6"] - kernels["fc1"].size / 2) / 1e6, 1) == 1.7


def test_layers_have_the_names_that_masks_and_tables_show():
    def names(model):
        found = by_layer(shapes(build(section(model), 10), INPUT[model])["params"])
        return [layer for layer, leaves in found if "kernel" in leaves]

    fc = ["fc1", "fc2", "output"]
    assert sorted(names("conv_4")) == ["conv1", "conv2", "conv3", "conv4", *fc]
    groups = ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2"]
    assert sorted(names("vgg_11")) == [*groups, "conv5_1", "conv5_2", "output"]
    blocks = [f"block{s}_{b}/conv{c}" for s in (1, 2, 3) for b in (1, 2, 3) for c in (1, 2)]
    assert sorted(names("resnet_20")) == [*blocks, "conv1", "output"]
    pairs = [f"{kind}{n}" for kind in ("depthwise", "pointwise") for n in range(2, 9)]
    assert sorted(names("student_net")) == sorted(["conv1", *pairs, "output"])


@pytest.mark.parametrize(
    ("name", "width"),
    [*itertools.product(PARAMETERS, [0.13]), *itertools.product(WIDTHS, [0.5, 2.0, 1e-6])],
)
def test_width_scales_every_hidden_layer_and_nothing_else(name, width):
    hidden = [max(1, round(units * width)) for units in HIDDEN[name]]
    found = shapes(build(section(name, width), 7), INPUT[name])["params"]
    assert count(found) == closed_form(name, hidden, classes=7)
    assert found["output"]["bias"].shape == (7,)


def test_a_scaled_width_is_rounded_and_at_least_1():
    assert [scaled(10, w) for w in (1.0, 0.24, 0.26, 0.01, 3)] == [10, 2, 3, 1, 30]


# convolutions


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name not in DENSE])
def test_every_convolution_is_made_by_one_function(name, monkeypatch):
    made, conv = [], layers.conv
    monkeypatch.setattr(layers, "conv", lambda *a, **k: made.append(k["name"]) or conv(*a, **k))
    registry._traced.cache_clear()
    found = by_layer(shapes(build(section(name), 10), INPUT[name])["params"])
    kernels = [layer for layer, leaves in found if getattr(leaves.get("kernel"), "ndim", 0) == 4]
    assert sorted(made) == sorted(layer.rpartition("/")[-1] for layer in kernels)


# dtype


@pytest.mark.parametrize("name", WIDTHS)
def test_bfloat16_is_computed_in_and_float32_is_stored(name):
    short = build({**section(name, WIDTHS[name]), "dtype": "bfloat16"}, 10)
    inputs = jnp.asarray(inputs_for(name), jnp.float32)
    stored = {leaf.dtype for leaf in jax.tree.leaves(shapes(short, INPUT[name]))}
    assert stored == {jnp.dtype("float32")}
    tree, apply = as_float32(initial(name)), quickly(short.apply)
    trace = str(apply.trace(tree, inputs).jaxpr)
    products = re.findall(r":(\w+)\[[\d,]*\] = (?:dot_general|convolution)\[", trace)
    assert set(products) == {"bf16"}
    whole = logits(name, initial(name), inputs_for(name))
    found = apply(tree, inputs).astype(jnp.float32)
    assert not np.array_equal(found, whole)
    np.testing.assert_allclose(found, whole, atol=0.03 * np.abs(whole).max())  # 8 bits of fraction


@pytest.mark.parametrize("name", NORMED)
def test_statistics_are_float32_in_bfloat16_training_too(name):
    short = build({**section(name, WIDTHS[name]), "dtype": "bfloat16"}, 10)
    step = functools.partial(
        short.apply, as_float32(initial(name)), train=True, mutable=["batch_stats"]
    )
    shares = jax.ShapeDtypeStruct((2, 3, *INPUT[name]), jnp.float32)
    found, updated = jax.eval_shape(jax.vmap(step, axis_name="data"), shares)
    assert found.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UserError, match=r"model\.dtype 'float16'.*bfloat16, float32"):
        build({**section("lenet_5"), "dtype": "float16"}, 10)


# narrowed


def next_width(name, width):
    """The least multiplier above `width` at which some hidden layer gains a unit."""
    steps = [(max(1, round(units * width)) + 0.5) / units for units in HIDDEN[name]]
    return min(steps) * (1 + 1e-9)


NAMES = {kind: name for name, kind in MODELS.items()}
TRACED = {}


def shapes_by_hidden_widths(module, shape):
    """As `shapes`, which traces a network once for all multipliers that round to it."""
    name = NAMES[type(module)]
    key = (name, shape, *(scaled(units, module.width) for units in HIDDEN[name]))
    if key not in TRACED:
        TRACED[key] = shapes(module, shape)
    return TRACED[key]


@pytest.fixture
def traced_once(monkeypatch):
    """Bisection traces no network twice."""
    monkeypatch.setattr(registry, "shapes", shapes_by_hidden_widths)


def size_of(name, width):
    return count(shapes_by_hidden_widths(build(section(name, width), 10), INPUT[name])["params"])


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5", "residual_mlp"])
@pytest.mark.parametrize("share", [0.9, 0.13, 0.004])
def test_narrowed_is_the_widest_network_within_the_parameters(name, share):
    parameters = int(share * PARAMETERS[name])
    found = narrowed(section(name), 10, INPUT[name], parameters)
    assert found["name"] == name
    assert size_of(name, found["width"]) <= parameters
    assert size_of(name, next_width(name, found["width"])) > parameters


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5", "residual_mlp", "resnet_20"])
def test_narrowed_hits_a_count_that_exists_exactly(name):
    exact = size_of(name, 0.25)
    found = narrowed(section(name), 10, INPUT[name], exact)["width"]
    assert size_of(name, found) == exact
    assert size_of(name, next_width(name, found)) > exact


def test_narrowed_to_one_less_than_a_count_that_exists_is_smaller():
    exact = size_of("lenet_5", 0.25)
    less = narrowed(section("lenet_5"), 10, INPUT["lenet_5"], exact - 1)
    assert size_of("lenet_5", less["width"]) < exact


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
    assert build(whole, 10) != build(section(name, 2.0), 10)


@pytest.mark.parametrize("width", [0, 0.0, -1, -0.5, math.nan, math.inf])
def test_a_width_that_is_not_positive_and_finite_is_refused(width):
    with pytest.raises(UserError, match=rf"model\.width={float(width)} must be"):
        build(section("lenet_5", width), 10)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"name": "squeezedet", "anchors": ((1, 2),)},
            r"model\.kwargs\.anchors=.* must be an integer",
        ),
        (
            {"name": "shufflenet_v1", "groups": 3.0},
            r"model\.kwargs\.groups=3\.0 must be an integer",
        ),
        (
            {"name": "shufflenet_v1", "groups": True},
            r"model\.kwargs\.groups=True must be an integer",
        ),
        ({"name": "efficientnet_b0", "depth": "x"}, r"model\.kwargs\.depth='x' must be a number"),
        ({"name": "mobilenet_v1", "kwargs": {"shallow": 2}}, r"shallow=2 must be True or False"),
        ({"name": "sep_net", "binary": True, "kwargs": {"binary": False}}, "binary .*give it once"),
        ("resnet_18", "model='resnet_18' must be a section"),
    ],
)
def test_settings_of_another_type_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        build(given, 10)


@pytest.mark.parametrize("classes", [-5, 2.5, "x"])
def test_classes_that_are_no_number_of_outputs_are_refused(classes):
    with pytest.raises(UserError, match=rf"classes={classes!r} must be a positive integer"):
        build(section("resnet_18"), classes)


def test_an_unknown_model_suggests_the_near_one_and_says_where_all_are_listed():
    with pytest.raises(UserError) as caught:
        build(section("lenet_300"), 10)
    said = str(caught.value)
    assert "'lenet_300'; did you mean 'lenet_300_100'?" in said
    page = Path(__file__).parents[3] / "groundwork/architectures/README.md"
    assert "groundwork/architectures/README.md" in said
    listed = page.read_text()
    assert all(
        f"`{name}`" in listed or f"`{name.removesuffix('_small')}`" in listed for name in MODELS
    )


@pytest.mark.parametrize("shape", [(8, 8, 1), (40,), (28, 28)])
@pytest.mark.parametrize("name", ["lenet_5", "vgg_11"])
def test_examples_that_a_model_cannot_take_are_a_users_error(name, shape):
    module = build(section(name), 10)
    with pytest.raises(UserError, match=rf"{type(module).__name__} cannot take"):
        architectures.shapes(module, shape)


@pytest.mark.parametrize(
    ("name", "side"), [("lenet_5", 8), ("conv_6", 4), ("vgg_11", 8), ("student_net", 15)]
)
def test_images_of_which_no_pixel_would_be_left_are_said_to_be_too_small(name, side):
    with pytest.raises(UserError, match=r"too small.*pad.*data\.pad") as caught:
        architectures.shapes(build(section(name), 10), (side, side, 1))
    assert "zero" not in str(caught.value)


@pytest.mark.parametrize("name", ["conv_6", "resnet_20"])
def test_what_is_not_an_image_is_a_users_error(name):
    for shape in [(40,), (28, 28)]:
        with pytest.raises(UserError, match=r"cannot take.*\[height, width, channels\]"):
            architectures.shapes(build(section(name), 10), shape)
    assert architectures.shapes(build(section(name), 10), (8, 8, 1))
