"""A user's network, in Linen, NNX or functions, computes what it does where its author calls it."""

import subprocess
import sys

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from groundwork import architectures, trees
from groundwork.architectures import own
from groundwork.errors import UserError
from groundwork.traced.digest import digest
from tests import packages
from tests.conftest import ROOT

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(5, 8, 8, 1)), jnp.float32)
FLOATS = IMAGES.reshape(5, -1)[:, :6]
LEARNING = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(7)}}


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch)
    import theirs.nets

    return theirs.nets


def built(name, classes=0, call=None, **kwargs):
    section = {"name": f"theirs.nets:{name}", "kwargs": kwargs, "call": call or {}}
    return architectures.build(section, classes)


def with_variables(network, inputs):
    """The network's variables, which have the shapes that are announced."""
    variables = network.init(KEY, inputs)
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
    shapes = architectures.shapes(network, example)
    assert jax.eval_shape(lambda: variables) == shapes
    return variables


def test_linen_is_called_as_its_author_calls_it(theirs):
    network, module = built("Regression", width=4), theirs.Regression(width=4)
    variables = with_variables(network, FLOATS)
    outputs = network.apply(variables, FLOATS, train=False)
    np.testing.assert_array_equal(outputs, module.apply(variables, FLOATS, deterministic=True))
    noisy, changed = network.apply(variables, FLOATS, **LEARNING)
    expected = module.apply(variables, FLOATS, deterministic=False, rngs=LEARNING["rngs"])
    np.testing.assert_array_equal(noisy, expected)
    assert not np.array_equal(noisy, outputs)
    assert changed == {}


def test_nnx_is_two_pure_functions_of_its_variables(theirs):
    network = built("Convolutional", classes=3)
    variables = with_variables(network, IMAGES)
    assert set(variables) == {"params", "batch_stats"}
    module = theirs.Convolutional(3, rngs=nnx.Rngs(KEY))
    module.eval()
    np.testing.assert_allclose(network.apply(variables, IMAGES), module(IMAGES), rtol=1e-5)
    module.train()
    module(IMAGES)  # changes its statistics
    one, changed = network.apply(variables, IMAGES, **LEARNING)
    for name in ("mean", "var"):
        after = getattr(module.norm, name)[...]
        np.testing.assert_allclose(changed["batch_stats"]["norm"][name], after, rtol=1e-5)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, variables, network.init(KEY, IMAGES)))
    again, _ = network.apply(variables, IMAGES, **LEARNING)
    other, _ = network.apply(
        variables, IMAGES, **{**LEARNING, "rngs": {"dropout": jax.random.key(8)}}
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_nnx_is_differentiated_mapped_and_compiled(theirs):
    network = built("Convolutional", classes=3)

    def loss(params, rest, key):
        outputs, changed = network.apply(
            {**rest, "params": params}, IMAGES, **{**LEARNING, "rngs": {"dropout": key}}
        )
        return jnp.square(outputs).mean(), changed

    keys = jax.random.split(KEY, 2)
    variables = jax.vmap(lambda key: network.init(key, IMAGES))(keys)
    rest = {"batch_stats": variables["batch_stats"]}
    step = jax.jit(jax.vmap(jax.grad(loss, has_aux=True)))
    gradients, _ = step(variables["params"], rest, keys)
    one = jax.grad(loss, has_aux=True)(*trees.replicate((variables["params"], rest, keys), 1))[0]
    for path, leaf in trees.flatten(one).items():
        np.testing.assert_allclose(trees.flatten(gradients)[path][1], leaf, atol=1e-5)


def test_functions_are_given_parameters_alone_and_a_key_where_they_take_one(theirs):
    network = built("pair")
    variables = with_variables(network, FLOATS)
    np.testing.assert_array_equal(
        network.apply(variables, FLOATS), FLOATS @ variables["params"]["w"]
    )
    assert network.apply(variables, FLOATS, **LEARNING)[1] == {}

    def forward(x, is_training):
        x = hk.Linear(4)(x)
        return hk.dropout(hk.next_rng_key(), 0.5, x) if is_training else x

    theirs.haiku = transformed = hk.transform(forward)
    network = built("haiku")
    variables = with_variables(network, FLOATS)
    key = LEARNING["rngs"]["dropout"]
    expected = transformed.apply(variables["params"], key, FLOATS, True)
    np.testing.assert_array_equal(network.apply(variables, FLOATS, **LEARNING)[0], expected)


def test_several_inputs_are_several_arguments_by_place_or_by_name(theirs):
    call = {"train": {"noisy": True}, "eval": {"noisy": False}}
    network = built("Two", call=call)
    left, right = FLOATS, jnp.arange(5)
    variables = with_variables(network, (left, right))
    expected = theirs.Two().apply(variables, left, right, noisy=False)
    for inputs in ((left, right), {"right": right, "left": left}):
        np.testing.assert_array_equal(network.apply(variables, inputs), expected)
    noisy, _ = network.apply(variables, (left, right), **LEARNING)
    assert (noisy == 0).sum() > 2


def test_a_function_is_given_the_classes_that_it_asks_for(theirs):
    assert with_variables(built("make", 3, width=2), FLOATS)["params"]["hidden"]["bias"].size == 6
    section = {"name": "theirs.nets:make", "kwargs": {"width": 2, "classes": 5}}
    given = architectures.build(section, 3)
    assert with_variables(given, FLOATS)["params"]["hidden"]["bias"].size == 10
    assert with_variables(built("ready"), FLOATS)["params"]["hidden"]["bias"].size == 5


def test_equal_networks_are_one_and_their_section_builds_them(theirs):
    network = built("Convolutional", 3, width=2)
    assert network != built("Convolutional", 4, width=2)
    assert architectures.build(architectures.section(network), 3) is network
    assert built("sized", sizes=[2]) is built("sized", sizes=(2,))
    assert architectures.described(network) is None  # a file must not run it


@pytest.mark.parametrize(
    ("name", "call", "kwargs", "inputs", "match"),
    [
        ("Two", {}, {}, (6,), r"Two cannot take inputs of float32\[1, 6\]: TypeError.*model.call"),
        ("Regression", {"train": {}}, {}, (6,), "model.call=.* keywords in training and in eval"),
        ("Regression", {}, {"width": "x"}, (6,), "Regression cannot take inputs"),
        ("Convolutional", {}, {}, (8, 8, 1), "model.kwargs={}.*missing.*'num_classes'"),
        ("pair", {}, {"width": 3}, (6,), "is made already, and takes no arguments"),
        ("KEYS", {}, {}, (6,), "is no Linen or NNX module, nor a pair"),
        ("nothing", {}, {}, (6,), "is no Linen or NNX module, nor a pair"),
        ("wrong", {}, {}, (6,), "has rngs, but makes a <class 'int'>"),
        ("empty", {}, {}, (6,), "theirs.nets:empty has no parameters"),
    ],
)
def test_anything_else_is_refused_in_one_line(theirs, name, call, kwargs, inputs, match):
    theirs.KEYS, theirs.nothing, theirs.wrong = 3, lambda: None, lambda rngs: 3
    theirs.empty = (lambda key, x: {}, lambda params, x: x)
    with pytest.raises(UserError, match=match) as caught:
        architectures.shapes(built(name, call=call, **kwargs), inputs)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_is_named_with_its_line(tmp_path, monkeypatch):
    for text, match in [
        ("import json\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*nets.py, line 2\)"),
        ("x = (\n", r"SyntaxError: .*nets.py, line 1\)"),
        ("import no_such_library\n", "theirs.nets needs 'no_such_library', which is not installed"),
    ]:
        packages.write(tmp_path, monkeypatch, nets=text)
        with pytest.raises(UserError, match=match):
            built("Regression")


DIGESTS = """
import jax
from groundwork import architectures
from groundwork.traced.digest import digest
network = architectures.build({"name": "theirs.nets:Convolutional"}, 3)
shapes = architectures.shapes(network, (8, 8, 1))
example = jax.ShapeDtypeStruct((1, 8, 8, 1), "float32")
def computed(key, variables, x):
    learning = dict(train=True, mutable=["batch_stats"], rngs={"dropout": key})
    trained = network.apply(variables, x, **learning)
    return network.init(key, x), network.apply(variables, x), trained
print(digest(computed, jax.random.key(0), shapes, example))
"""


def test_digests_are_the_same_in_every_process(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch)
    printed = set()
    for seed in ("1", "2"):
        environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTHONHASHSEED": seed}
        printed.add(
            subprocess.run(
                [sys.executable, "-c", DIGESTS],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
    assert len(printed) == 1
    assert len(printed.pop()) == 65


def test_digests_tell_constants_shapes_and_equations_apart():
    x = jax.ShapeDtypeStruct((3,), jnp.float32)
    table, other = np.arange(3.0, dtype="f4"), np.ones(3, "f4")
    functions = [
        lambda x: x + 1,
        lambda x: x + 2,
        lambda x: {"a": x + 1},
        lambda x: x * jnp.asarray(table),
        lambda x: x * jnp.asarray(other),
        jax.nn.relu,
        jax.nn.gelu,
    ]
    found = [digest(function, x) for function in functions]
    assert len(set(found)) == len(functions)
    assert found == [digest(function, x) for function in functions]
    assert digest(functions[0], jax.ShapeDtypeStruct((4,), jnp.float32)) not in found


NAMED = """
import sys

class Lazy:
    @property
    def net(self):
        raise RuntimeError("no net")

lazy = Lazy()
"""


@pytest.mark.parametrize(
    ("text", "name", "match"),
    [
        (NAMED, "theirs.nets:", "must be PACKAGE.MODULE:NAME"),
        (NAMED, ":net", "must be PACKAGE.MODULE:NAME"),
        (NAMED, "theirs.nets:lazy.net", "'net' cannot be read: RuntimeError: no net"),
        ("import sys\nsys.exit(3)", "theirs.nets:net", "importing theirs.nets ends the program"),
    ],
)
def test_names_that_cannot_be_loaded_are_refused_in_one_line(
    text, name, match, tmp_path, monkeypatch
):
    packages.write(tmp_path, monkeypatch, nets=text)
    with pytest.raises(UserError, match=match):
        own.build(name, {}, {}, 3)


CALLED = """
import flax.linen as nn
import jax
from flax import nnx


class Noisy(nnx.Module):
    def __init__(self, *, rngs):
        self.linear = nnx.Linear(3, 2, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)

    def __call__(self, x, rngs):
        return self.linear(self.dropout(x, rngs=rngs))


class Drawn(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x) + jax.random.normal(self.make_rng("noise"), (2,))[None]


class Apart(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(use_running_average=not train, axis_name="batch")(nn.Dense(2)(x))
"""


def test_random_numbers_of_any_name_are_given(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch, nets=CALLED)
    for name in ("Noisy", "Drawn"):
        network = own.build(f"theirs.nets:{name}", {}, {}, 2)
        variables = network.init(jax.random.key(0), jnp.ones((1, 3)))
        x, key = jnp.ones((4, 3)), jax.random.key(1)
        calm = [network.apply(variables, x, train=False) for _ in range(2)]
        np.testing.assert_array_equal(*calm)
        noisy = network.apply(variables, x, train=True, rngs={"dropout": key})
        assert not np.allclose(noisy, calm[0])


def test_a_batch_norm_of_another_axis_is_refused_with_the_remedy(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch, nets=CALLED)
    network = own.build("theirs.nets:Apart", {}, {}, 2)
    with pytest.raises(UserError, match=r"\(the axis_name of its BatchNorm must be 'data' or None"):
        architectures.shapes(network, jax.ShapeDtypeStruct((1, 3), "float32"))


def test_what_is_no_network_is_refused():
    with pytest.raises(
        ValueError, match="a network is a Linen module, a function or a pair, not 3"
    ):
        own.of(3)
    with pytest.raises(ValueError, match="this network is a function of its parameters, and makes"):
        own.of(lambda params, x: x).init(jax.random.key(0), jnp.ones(3))
