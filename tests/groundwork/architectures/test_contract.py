"""What every network promises: masks, units, ranks, files, counts and training work on it.

Each is tested in its smallest form: few channels, few blocks, small images. Networks that differ in
numbers alone, of channels, blocks or pixels, share a form.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress
from groundwork import trees
from groundwork.architectures import (
    MODELS,
    build,
    densenet,
    pretrained,
    resnet_imagenet,
    shapes,
    vgg,
    vgg_imagenet,
)
from groundwork.architectures.blocks import Stage
from groundwork.architectures.compact import (
    efficientnet,
    mobilenet,
    sep_net,
    shufflenet,
    squeezenet,
    student_net,
    xception,
)
from groundwork.errors import UserError
from groundwork.traced import storage
from groundwork.traced.macs import multiply_adds
from lowrank import factorization
from lowrank.factorization.methods import METHODS
from pruning import masks, structured
from tests.groundwork.architectures.small import drawn_by_numpy, quickly

CLASSES, BATCH = 3, 2


class Form(NamedTuple):
    """A network in its smallest form, and those that it stands for.

    Attributes:
      make: returns the module.
      names: of `MODELS`, one or several separated by spaces.
      shape: of one example.
      shallow: (module, constant, value) that make it shallow.
      drops: whether training draws which units are dropped.
      trains: whether its gradient is computed; those of the others are traced.
      tokens: whether it takes integers below `CLASSES`.
    """

    make: Callable[[], Any]
    names: str
    shape: tuple[int, ...] = (8, 8, 3)
    shallow: tuple[Any, str, Any] | None = None
    drops: bool = False
    trains: bool = False
    tokens: bool = False

    @property
    def example(self) -> Any:
        return jax.ShapeDtypeStruct((1, *self.shape), jnp.int32) if self.tokens else self.shape


def section(name, width, **settings):
    return lambda: build({"name": name, "width": width, **settings}, CLASSES)


def residual(**fields):
    return lambda: resnet_imagenet.ResNetImageNet(
        CLASSES, 0.07, blocks=(1, 1, 0, 0), small=True, **fields
    )


def dense(**fields):
    return lambda: densenet.DenseNet(CLASSES, 0.3, blocks=(2, 1), **fields)


FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128)}
INVERTED = (Stage(1, 3, 1, 16, 1), Stage(6, 5, 2, 24, 2))
FORMS = {
    "conv": Form(section("conv_2", 0.1), "conv_2 conv_4 conv_6"),
    "crelu": Form(section("crelu_small", 0.3), "crelu_small"),
    "cyclic": Form(section("cyclic_small", 1.0), "cyclic_small"),
    "doubly": Form(section("doubly_small", 0.3), "doubly_small"),
    "plain": Form(section("plain_small", 0.3), "plain_small"),
    "alexnet": Form(
        section("alexnet_small", 0.05, towers=2), "alexnet alexnet_small", (32, 32, 3), drops=True
    ),
    "densenet": Form(
        dense(bottleneck=True, compression=0.5),
        "densenet_40 densenet_bc_100 densenet_121 densenet_121_small",
        trains=True,
    ),
    "efficientnet": Form(
        section("efficientnet_b0_small", 0.1),
        "efficientnet_b0 efficientnet_b0_small efficientnet_lite0 efficientnet_lite0_small",
        shallow=(efficientnet, "STAGES", INVERTED),
        drops=True,
        trains=True,
    ),
    "lenet dense": Form(section("lenet_300_100", 0.1), "lenet_300_100", (8, 8, 1)),
    "lenet": Form(section("lenet_5", 0.2), "lenet_5", (16, 16, 1)),
    "mobilenet v1": Form(
        section("mobilenet_v1_small", 0.1),
        "mobilenet_v1 mobilenet_v1_small",
        shallow=(mobilenet, "V1", ((64, 1), (128, 1))),
    ),
    "mobilenet v2": Form(
        section("mobilenet_v2_small", 0.1),
        "mobilenet_v2 mobilenet_v2_small",
        shallow=(mobilenet, "V2", INVERTED),
        drops=True,
    ),
    "nin": Form(section("nin_small", 0.05), "nin nin_small", (16, 16, 3), drops=True, trains=True),
    "residual mlp": Form(section("residual_mlp", 0.02), "residual_mlp", (40,)),
    "residual": Form(residual(), "resnet_18 resnet_18_small resnet_20 resnet_32 resnet_56"),
    "bottleneck": Form(residual(bottleneck=True), "resnet_50 resnet_50_small"),
    "sep_net": Form(
        section("sep_net_small", 0.3),
        "sep_net sep_net_small",
        shallow=(sep_net, "STAGES", ((64, 0), (128, 0), (256, 1))),
        trains=True,
    ),
    "shufflenet v1": Form(
        section("shufflenet_v1_small", 0.4, groups=2),
        "shufflenet_v1 shufflenet_v1_small",
        shallow=(shufflenet, "BLOCKS", (2, 1)),
    ),
    "shufflenet v2": Form(
        section("shufflenet_v2_small", 0.5),
        "shufflenet_v2 shufflenet_v2_small",
        shallow=(shufflenet, "BLOCKS", (2, 1)),
    ),
    "squeezedet": Form(
        section("squeezedet_small", 0.1, anchors=2),
        "squeezedet squeezedet_small",
        (16, 16, 1),
        shallow=(squeezenet, "FIRES", FIRES),
        drops=True,
    ),
    "squeezenet": Form(
        section("squeezenet_1_1_small", 0.2, bypass="complex"),
        "squeezenet_1_0 squeezenet_1_0_small squeezenet_1_1 squeezenet_1_1_small",
        (16, 16, 3),
        shallow=(squeezenet, "FIRES", FIRES),
        drops=True,
    ),
    "student": Form(
        section("student_net", 0.3),
        "student_net",
        (16, 16, 3),
        shallow=(student_net, "MULTIPLES", (1, 2, 2, 2, 2, 2, 4)),
    ),
    "lstm": Form(section("lstm", 1.0, features=5), "lstm", (4,), tokens=True, trains=True),
    "transformer": Form(
        section("transformer", 1.0, layers=1, heads=2, features=8),
        "transformer",
        (4,),
        tokens=True,
        trains=True,
    ),
    "tied transformer": Form(
        section("transformer", 1.0, layers=1, heads=2, features=8, tied=True),
        "transformer",
        (4,),
        tokens=True,
    ),
    "vgg": Form(lambda: vgg.VGG(CLASSES, 0.05, groups=(1, 2)), "vgg_11 vgg_13 vgg_16 vgg_19"),
    "vgg with dense layers": Form(
        section("vgg_16_imagenet_small", 0.05),
        "vgg_16_imagenet vgg_16_imagenet_small",
        (32, 32, 3),
        shallow=(vgg_imagenet, "GROUPS", (1, 1, 1, 1, 1)),
        drops=True,
    ),
    "xception": Form(
        section("xception_small", 0.05),
        "xception xception_small",
        shallow=(xception, "BLOCKS", (((64, 64), 2), ((64, 64), 1))),
        drops=True,
    ),
}
every = pytest.mark.parametrize("form", FORMS)


class Made(NamedTuple):
    """A form, and what this module's tests compare."""

    module: Any
    variables: Any
    inputs: np.ndarray
    graph: Any
    reached: Mapping[str, Any]
    refused: Mapping[str, str]
    keep: Mapping[str, Any]
    macs: int
    sizes: tuple[int, int]  # of the parameters: whole, and narrow
    whole: Any  # logits
    masked: Any
    narrow: Any
    low_rank: Any


def shallow(form, function):
    """The result of a function under which a form's module is traced."""
    with pytest.MonkeyPatch.context() as patch:
        if FORMS[form].shallow:
            patch.setattr(*FORMS[form].shallow)
        return function()


@functools.cache
def made(form):
    return shallow(form, lambda: _made(FORMS[form]))


def _made(form):
    module = form.make()
    variables = jax.tree.map(np.float32, drawn_by_numpy(module, form.example))
    inputs = np.random.default_rng(0).normal(size=(BATCH, *form.shape)).astype(np.float32)
    if form.tokens:
        inputs = np.random.default_rng(0).integers(0, CLASSES, inputs.shape).astype(np.int32)
    graph = structured.groups(module, variables, inputs[:1])
    draw = np.random.default_rng(1)
    keep = {g.name: draw.permutation(g.units) < max(1, g.units // 2) for g in graph.groups}
    narrow, small = structured.narrow(graph, variables, keep)
    reached, refused = factorization.decomposable(module, variables, inputs[:1])
    plan, factors = at_full_rank(variables, reached)
    apply = quickly(module.apply)
    return Made(
        module,
        variables,
        inputs,
        graph,
        reached,
        refused,
        keep,
        multiply_adds(module.apply, variables, inputs[:1]),
        (trees.count(variables["params"]), trees.count(small["params"])),
        apply(variables, inputs),
        apply(structured.mask(graph, variables, keep), inputs),
        quickly(narrow.apply)(small, inputs),
        quickly(factorization.override(module, plan, reached))(factors, inputs),
    )


def at_full_rank(variables, reached):
    """A plan, and variables with the factors of NumPy's singular value decompositions."""
    plan, params, leaves = {}, variables["params"], trees.flatten(variables["params"])
    for path, layer in reached.items():
        kernel = leaves[layer.parameter].reshape(layer.kernel)  # axes of heads are one
        left, sizes, right = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), False)
        window = (1,) * (kernel.ndim - 2)
        pair = (left * sizes).reshape(*kernel.shape[:-1], -1), right.reshape(*window, *right.shape)
        names = METHODS[layer.layer.kind]["svd"].names
        stages = {name: {"kernel": one} for name, one in zip(names, pair, strict=True)}
        params = storage.put(params, layer.parameter, stages)
        plan[path] = {"method": "svd", "rank": len(sizes)}
    return plan, {**variables, "params": params}


def step_of(one):
    """(parameters, key) → the gradient of training, and logits, on one device of a mesh."""

    def loss(params, key):
        logits, _ = one.module.apply(
            {**one.variables, "params": params},
            one.inputs,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        return jnp.mean(jnp.square(logits - 1)), logits

    step = jax.vmap(jax.grad(loss, has_aux=True), in_axes=(None, 0), axis_name="data")
    return lambda params, key: step(params, key[None])


def assert_near(ours, theirs):
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


def test_every_network_has_a_form():
    assert {name for form in FORMS.values() for name in form.names.split()} == MODELS.keys()


@every
def test_masks_are_of_all_kernels_and_count(form):
    one = made(form)
    mask = masks.ones(one.variables["params"])
    paths = trees.flatten(one.variables["params"])
    assert mask.keys() == {path for path in paths if path.rpartition("/")[2] == "kernel"}
    assert masks.density(mask) == 1
    size = sum(leaf.size for leaf in mask.values())
    path = next(iter(mask))
    mask[path] = mask[path].at[(0,) * mask[path].ndim].set(False)
    assert masks.density(mask) == np.float32((size - 1) / size)


@every
def test_units_that_are_taken_away_are_zeros_in_the_whole_network(form):
    one = made(form)
    assert all(group.exact for group in one.graph.groups)
    assert_near(one.narrow, one.masked)
    assert np.abs(one.masked - one.whole).max() > 1e-3 * np.abs(one.whole).max()
    assert one.sizes[1] < 0.8 * one.sizes[0]


@every
def test_at_full_rank_logits_are_the_same_and_other_layers_have_a_reason(form):
    one = made(form)
    assert one.reached
    assert_near(one.low_rank, one.whole)
    kernels = masks.ones(one.variables["params"])
    layers = {masks.layer_of(path) for path in kernels}
    assert layers == {*one.reached} | ({*one.refused} & layers)


@every
def test_a_file_gives_back_every_bit(form, tmp_path):
    one, file = made(form), tmp_path / "a.cna"

    def there_and_back():
        compress.save(file, one.module, one.variables, example=FORMS[form].example)
        return compress.load(file, one.module)[1]

    jax.tree.map(np.testing.assert_array_equal, shallow(form, there_and_back), one.variables)


def test_a_file_knows_the_settings_of_its_network(tmp_path):
    module = build({"name": "doubly_small", "width": 0.1, "meta": 6, "pool": 2}, CLASSES)
    variables = jax.tree.map(np.float32, drawn_by_numpy(module, (8, 8, 3)))
    compress.save(tmp_path / "a.cna", module, variables, example=(8, 8, 3))
    apply, again = compress.load(tmp_path / "a.cna")
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    inputs = np.ones((1, 8, 8, 3), np.float32)
    ours, theirs = quickly(apply)(again, inputs), quickly(module.apply)(again, inputs)
    np.testing.assert_array_equal(ours, theirs)


@every
def test_multiply_adds_are_counted(form):
    one = made(form)
    kernels = masks.ones(one.variables["params"]).values()
    assert one.macs >= sum(kernel.size for kernel in kernels)  # each is used at one pixel at least


@pytest.mark.parametrize("form", [form for form in FORMS if FORMS[form].trains])
def test_one_step_of_training_has_a_finite_gradient_and_drops_where_it_says(form):
    one = made(form)
    step = shallow(form, lambda: quickly(step_of(one)))
    first, second = (
        shallow(form, lambda seed=seed: step(one.variables["params"], jax.random.key(seed)))
        for seed in range(2)
    )
    gradient = trees.flatten(first[0])
    assert all(np.isfinite(leaf).all() for leaf in gradient.values())
    still = [path for path, leaf in gradient.items() if not np.any(leaf)]
    assert len(still) < 0.2 * len(gradient), still
    assert np.array_equal(first[1], second[1]) != FORMS[form].drops


@pytest.mark.parametrize("form", [form for form in FORMS if not FORMS[form].trains])
def test_other_networks_have_a_gradient_of_their_shapes(form):
    one = made(form)
    key = jax.random.key(0)
    gradient, _ = shallow(form, lambda: jax.eval_shape(step_of(one), one.variables["params"], key))
    wanted = jax.tree.map(lambda leaf: (1, *leaf.shape), one.variables["params"])
    assert jax.tree.map(lambda leaf: leaf.shape, gradient) == wanted


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("alexnet", "the image is too small"),
        ("nin", "the image is too small"),
        ("squeezenet_1_0", "the image is too small"),
        ("squeezedet_small", "images must be multiples of 8 pixels high and wide, not 7×7"),
        ("vgg_16_imagenet", "the image is too small"),
    ],
)
def test_images_too_small_for_the_strides_are_refused_in_one_line(name, said):
    with pytest.raises(
        UserError, match=rf"cannot take examples of shape \(7, 7, 3\): {said}"
    ) as caught:
        shapes(build({"name": name, "width": 0.1}, CLASSES), (7, 7, 3))
    assert "\n" not in str(caught.value)


def test_a_width_that_a_family_has_not_is_refused_with_those_that_it_has():
    said = "model: width=0.7 of ShuffleNet v2 must be one of 0.5, 1.0, 1.5, 2.0"
    for function in (
        lambda: build({"name": "shufflenet_v2", "width": 0.7}, CLASSES),
        lambda: pretrained.load({"name": "shufflenet_v2", "width": 0.7}, "a.npz"),
    ):
        with pytest.raises(UserError) as caught:
            function()
        assert str(caught.value) == said
