"""Archives of networks that are tied, factorised or rounded: there and back, or refused."""

import copy
import itertools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress
from compress import form as form_lib
from compress import quantize, share
from compress.archive import plain
from compress.form import Form
from groundwork import architectures
from groundwork.errors import UserError
from lowrank import factorization
from tests.compress import archives
from tests.groundwork.architectures import small

LAYERS, KERNELS = [("fc1", "fc2")], [("fc1/kernel", "fc2/kernel")]
PLAN = {"fc1": {"method": "svd", "rank": 6}}
BITS = {"fc2": 8, "output": 5}


class Scaled(nn.Dense):
    """A layer whose kernel is doubled before it is used: nothing can take its place."""

    def param(self, name, *args, **kwargs):
        return super().param(name, *args, **kwargs) * (1 + (name == "kernel"))


class Convolutions(nn.Module):
    """Two of equal shapes, and a layer that is not reached."""

    @nn.compact
    def __call__(self, inputs, train=False):
        x = nn.Conv(4, (3, 3), name="first")(inputs)
        for name in ("one", "two"):
            x = nn.relu(nn.Conv(4, (3, 3), name=name)(x))
        x = nn.BatchNorm(not train, name="norm")(x)
        return Scaled(3, name="odd")(nn.Dense(5, name="last")(x.mean((1, 2))))


def _mlp():
    """Of 20 inputs and 20 hidden units."""
    return architectures.build(small.section("residual_mlp", 0.04), 3), (20,)


def _made(model, shape, groups=(), plan=None, bits=None):
    """Form, variables, and inputs of a compressed network."""
    variables = archives.drawn(model, shape)
    variables["params"] = share.tie(variables["params"], groups)
    if plan:
        variables, _ = factorization.decompose(variables, plan)
    inputs = np.random.default_rng(1).normal(size=(3, *shape)).astype("f4")
    form = Form(model, plan or {}, groups)
    if bits:
        grids = form_lib.calibrated(form, variables, inputs, bits)
        variables = {**variables, "activations": grids}
    return form._replace(activations=bits or {}), variables, inputs


def _save(path, form, stored, **kwargs):
    kwargs = {"groups": form.groups, "activations": form.activations, **kwargs}
    compress.save(path, form.model, stored, form.plan, **kwargs)


@pytest.mark.parametrize(
    ("make", "groups", "plan", "bits"),
    [
        (_mlp, LAYERS, None, None),
        (_mlp, KERNELS, None, None),
        (_mlp, LAYERS, PLAN, None),
        (_mlp, (), PLAN, None),
        (_mlp, (), None, {"fc1": 8, "fc2": 8, "output": 8}),
        (_mlp, LAYERS, PLAN, BITS),
        (lambda: (Convolutions(), (8, 8, 2)), (), None, {"first": 8, "two": 8, "last": 8}),
        (lambda: (Convolutions(), (8, 8, 2)), [("one", "two")], None, {"one": 3, "two": 16}),
    ],
    ids=["layers", "kernels", "tied low rank", "low rank", "dense", "all", "conv", "conv, tied"],
)
def test_networks_come_back_bit_for_bit(make, groups, plan, bits, tmp_path):
    form, variables, inputs = _made(*make(), groups, plan, bits)
    stored = archives.stored(variables, [lambda w: quantize.uniform(w, 5)])
    _save(tmp_path / "a", form, stored)
    whole = quantize.materialize(stored)
    apply, loaded = compress.load(tmp_path / "a", form.model)
    archives.same(loaded, whole)
    expected = form_lib.apply_of(form)(whole, inputs)
    np.testing.assert_array_equal(apply(loaded, inputs), expected)
    untouched = form_lib.apply_of(form._replace(activations={}))(whole, inputs)
    assert (np.abs(expected - untouched).max() > 1e-6) == bool(bits)
    header = compress.describe(tmp_path / "a").header
    assert header.get("share") == ([list(group) for group in groups] or None)
    assert header.get("activations") == bits
    assert header.get("plan") == plan
    _save(tmp_path / "b", form, stored)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tied_layers_are_stored_once(tmp_path):
    model, shape = _mlp()
    form, variables, _ = _made(model, shape, LAYERS)
    _save(tmp_path / "a", form, variables)
    compress.save(tmp_path / "b", model, archives.drawn(model, shape))
    sizes = [(tmp_path / name).stat().st_size for name in "ab"]
    assert sizes[1] - sizes[0] > 0.8 * 420 * 4
    assert "params/fc2/kernel" not in compress.describe(tmp_path / "a").header["arrays"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": [("fc1",)]}, "the network cannot be stored: share has a group of 1"),
        ({"groups": ["fc1"]}, "the network cannot be stored: share has a group that is not a list"),
        ({"groups": [("fc1", "fc3")]}, "unknown layer or leaf 'fc3'; did you mean 'fc"),
        ({"groups": [("fc1", "output")]}, "'output' is stored, and tied to 'fc1': tie the tree"),
        ({"groups": [("fc1", "fc2"), ("fc2", "output")]}, "the network cannot be stored: share t"),
        ({"groups": [("fc2", "fc1")]}, "nothing is stored at 'fc2', to which others are tied"),
        ({"groups": ()}, "not the arrays of ResidualMLP: params/fc2/bias none, not floats (20,)"),
        ({"activations": {"fc2": 17}}, "the network cannot be stored: activations of 'fc2': bits"),
        ({"activations": {"fc1": 8}}, "grid of inputs 'activations/fc1/scale': none, not floats"),
        ({"activations": {"fc2": 8}}, "not the arrays of ResidualMLP: activations/output/scale fl"),
    ],
)
def test_what_does_not_fit_is_not_saved(changes, message, tmp_path):
    form, variables, _ = _made(*_mlp(), LAYERS, None, BITS)
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        _save(tmp_path / "a", form, variables, **changes)
    assert not list(tmp_path.iterdir())


def test_plans_name_the_first_of_tied_layers_and_these_are_tied_whole(tmp_path):
    form, variables, _ = _made(*_mlp(), LAYERS, PLAN)
    second = form._replace(plan={"fc2": PLAN["fc1"]})
    with pytest.raises(UserError, match=r"^unknown layer 'fc2'; did you mean 'fc1'\?"):
        _save(tmp_path / "a", second, variables)
    for groups in ([("fc1/bias", "fc2/bias")], [("fc2/bias", "fc1/bias")]):
        form, variables, _ = _made(*_mlp(), groups, PLAN)
        with pytest.raises(UserError, match=r"^layer 'fc1' is factorised: its 'bias' cannot be ti"):
            _save(tmp_path / "a", form, variables)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("odd", "the inputs of layer 'odd' cannot be rounded: it goes through mul"),
        ("norm", "unknown layer 'norm' (known: first"),
        ("third", "unknown layer 'third' (known: first, last, one, two)"),
    ],
)
def test_inputs_are_rounded_where_a_layer_is_reached(path, message, tmp_path):
    form, variables, _ = _made(Convolutions(), (8, 8, 2))
    grid = {"scale": jnp.float32(0.1), "zero_point": jnp.int32(3)}
    stored = {**variables, "activations": {path: grid}}
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        _save(tmp_path / "a", form, stored, activations={path: 8})


def _set(**changes):
    return lambda header, streams: header.update(changes)


def _without(key, *arrays):
    """A header without a key, and without some arrays."""

    def edit(header, streams):
        if key:
            del header[key]
        for name in arrays:
            del header["arrays"][name]

    return edit


def _number(dtype, place, value):
    """Another number in a common stream: fc2's, then the output's."""

    def edit(header, streams):
        counts = {"float32": 2 + 20 + 3, "int32": 2}
        at = {"float32": -2, "int32": -1}[dtype]
        numbers = plain.unpack(streams[at], counts[dtype], dtype).copy()
        numbers[place] = value
        streams[at] = plain.pack(numbers)

    return edit


LONG = "".join(map(str, range(10_000)))
MANY = [[f"x{number}", f"y{number}"] for number in range(5000)]
FORGED = {
    "share of text": (_set(share="fc1"), "share is not a list of groups of paths"),
    "share of a dict": (_set(share={"fc1": "fc2"}), "share is not a list of groups of paths"),
    "share of nothing": (_set(share=None), "share is not a list of groups of paths"),
    "group of text": (_set(share=["fc1"]), "share has a group that is not a list of paths"),
    "group of numbers": (_set(share=[[1, 2]]), "share has a group that is not a list of paths"),
    "empty path": (_set(share=[["fc1", ""]]), "share has a group that is not a list of paths"),
    "path upwards": (_set(share=[["fc1", "../fc2"]]), "unknown layer or leaf '../fc2'"),
    "path of two lines": (_set(share=[["fc1", "a\nb"]]), "share has a group that is not a list"),
    "deep path": (_set(share=[["fc1", "x/" * 64 + "x"]]), "share has a group that is not a list"),
    "long path": (_set(share=[["fc1", LONG]]), "unknown layer or leaf '0123456"),
    "group of one": (_set(share=[["fc1"]]), "share has a group of 1: two paths or more are tied"),
    "group of none": (_set(share=[[]]), "share has a group of 0: two paths or more are tied"),
    "one path twice": (_set(share=[["fc1", "fc1"]]), "share ties 'fc1' and others, one of them"),
    "two groups": (_set(share=[["fc1", "fc2"], ["fc2", "output"]]), "share ties 'fc2' twice"),
    "path within": (
        _set(share=[["fc1", "fc2"], ["fc1/kernel", "output/kernel"]]),
        "share ties 'fc1/kernel', and 'fc1' around it",
    ),
    "thousands of groups": (_set(share=MANY), "share has more than 4096 paths"),
    "a thousand unknown": (_set(share=MANY[:1000]), "nothing is stored at 'x0', to which others"),
    "a large group": (
        _set(share=[list(itertools.chain(["fc1"], *MANY[:2000]))]),
        "unknown layer or leaf 'x0'",
    ),
    "unknown first": (_set(share=[["fc3", "fc2"]]), "nothing is stored at 'fc3', to which others"),
    "unknown other": (_set(share=[["fc1", "fc3"]]), "unknown layer or leaf 'fc3'; did you mean"),
    "tied and stored": (_set(share=[["fc1", "output"]]), "'output' is stored, and tied to 'fc1'"),
    "leaf of a low-rank layer": (
        _set(share=[["fc1/kernel", "fc2/kernel"]], plan=PLAN),
        "layer 'fc1' is factorised: its 'kernel' cannot be tied alone",
    ),
    "one leaf alone": (_set(share=[["fc1/kernel", "fc2/kernel"]]), "not the arrays of ResidualML"),
    "layer and leaf": (
        _set(share=[["fc1", "fc2/kernel"]]),
        "only layers of the same leaves can be tied: fc1/bias, fc1/kernel and fc2/kernel",
    ),
    "other shapes": (
        lambda h, s: (
            _set(share=[["fc1", "output"]])(h, s),
            _without("", "params/output/bias", "params/output/kernel")(h, s),
            [s.pop(2) for _ in range(2)],
        ),
        "only equal shapes can be tied: fc1/bias is float32[20], output/bias float32[3]",
    ),
    "no share": (_without("share"), "not the arrays of ResidualMLP: params/fc2/bias none, not"),
    "bits of a list": (_set(activations=["fc2"]), "activations must give bits by path"),
    "bits of nothing": (_set(activations=None), "activations must give bits by path"),
    "bits of thousands": (
        _set(activations={f"x{number}": 8 for number in range(5000)}),
        "activations must give bits by path, for at most 4096 layers",
    ),
    **{
        f"bits {bits!r}": (
            _set(activations={"fc2": bits, "output": 5}),
            "activations of 'fc2': bits must be an integer in 2…16",
        )
        for bits in (1, 17, -8, 10**400, 8.0, True, "8", None, [8])
    },
    "rounded nowhere": (
        _set(activations={"a//b": 8}),
        "activations has 'a//b', which is not the path",
    ),
    "rounded far away": (_set(activations={LONG: 8}), "grid of inputs 'activations/0123"),
    "no grid": (
        _without("", "activations/fc2/scale"),
        "grid of inputs 'activations/fc2/scale': none, not floats ()",
    ),
    "another's grid": (
        _set(activations={"fc1": 8, "output": 5}),
        "grid of inputs 'activations/fc1/scale': none, not floats ()",
    ),
    "grid of no layer": (
        _set(activations={"output": 5}),
        "not the arrays of ResidualMLP: activations/fc2/scale floats (), not none",
    ),
    "no bits": (_without("activations"), "not the arrays of ResidualMLP: activations/fc2/scale"),
    "grid of an axis": (
        lambda h, s: h["arrays"]["activations/fc2/scale"].update(shape=[20]),
        "grid of inputs 'activations/fc2/scale': floats (20,), not floats ()",
    ),
    "huge grid": (
        lambda h, s: h["arrays"]["activations/fc2/scale"].update(shape=[1 << 20]),
        "grid of inputs 'activations/fc2/scale': floats (1048576,), not floats ()",
    ),
    "zero points of bytes": (
        lambda h, s: (
            [e.update(dtype="uint8") for e in h["arrays"].values() if "dtype" in e],
            s.append(plain.pack(plain.unpack(s.pop(), 2, "int32").astype("u1"))),
        ),
        "layer 'fc2': the zero point of its inputs, uint8 0, is not an int32 in 0…255",
    ),
    "scale 0": (_number("float32", 0, 0), "layer 'fc2': the scale of its inputs is 0.0"),
    "scale below 0": (_number("float32", 1, -1), "layer 'output': the scale of its inputs is -1.0"),
    "scale that is 0 to XLA": (_number("float32", 0, 1e-40), "layer 'fc2': the scale of its inpu"),
    "scale not a number": (_number("float32", 0, np.nan), "a number is not finite"),
    "scale without end": (_number("float32", 0, np.inf), "a number is not finite"),
    "zero point below 0": (
        _number("int32", 0, -1),
        "layer 'fc2': the zero point of its inputs, int32 -1, is not an int32 in 0…255",
    ),
    "zero point above": (
        _number("int32", 1, 32),
        "layer 'output': the zero point of its inputs, int32 32, is not an int32 in 0…31",
    ),
    "low rank of the second": (_set(plan={"fc2": PLAN["fc1"]}), "unknown layer 'fc2'; did you"),
    "low rank of the whole": (_set(plan=PLAN), "not the arrays of ResidualMLP: params/fc1/kernel"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_forms_are_refused(name, formed, loaded):
    edit, message = FORGED[name]
    head = archives.head(formed[0])
    header, streams = copy.deepcopy(head.json), list(head.streams)
    edit(header, streams)
    outcome = loaded(archives.forged(header, streams))
    assert isinstance(outcome, str)
    assert outcome.startswith(message), outcome


def test_forged_forms_of_unknown_networks_are_refused_by_their_arrays(tmp_path):
    """Where no example is known, to which the network could be compared."""

    class Words(nn.Module):
        @nn.compact
        def __call__(self, words):
            return nn.Dense(2)(nn.Embed(5, 3)(words))

    variables = Words().init(jax.random.key(0), jnp.zeros((1, 2), int))
    for kwargs, message in [
        ({"groups": [("Dense_1", "Dense_2")]}, "nothing is stored at 'Dense_1'"),
        ({"groups": [("Dense_0", "Embed_0")]}, "'Embed_0' is stored, and tied to 'Dense_0'"),
        ({"activations": {"Dense_0": 8}}, "grid of inputs 'activations/Dense_0/scale': none"),
    ]:
        with pytest.raises(UserError, match=f"^{message}"):
            compress.save(tmp_path / "a", Words(), variables, **kwargs)
