"""How a compressed network computes: what is tied, factorised or rounded, beside plain numpy."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import form as form_lib
from compress import quantize, share
from compress.form import Form
from groundwork.errors import UserError
from groundwork.traced import reach
from lowrank import factorization
from tests.compress import archives

RNG = np.random.default_rng(0)
PLAN = {"two": {"method": "svd", "rank": 2}}
INPUTS = RNG.normal(size=(7, 4)).astype("f4")


class Pair(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        return nn.Dense(3, name="output")(nn.relu(nn.Dense(5, name="one")(inputs)))


class Block(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(6, name="two")(nn.relu(nn.Dense(6, name="one")(inputs)))


class Deep(nn.Module):
    """Two blocks of equal shapes."""

    @nn.compact
    def __call__(self, inputs, train=False):
        hidden = nn.Dense(6, name="start")(inputs)
        return Block(name="b")(nn.relu(Block(name="a")(hidden)))


class Squared(nn.Dense):
    """A layer whose parameters are squared before it uses them."""

    def param(self, name, *args, **kwargs):
        return super().param(name, *args, **kwargs) ** 2


class Other(nn.Module):
    """A layer that is not reached, and one that is not called."""

    @nn.compact
    def __call__(self, inputs, train=False):
        odd = Squared(5, name="odd")(inputs)
        unused = nn.Dense(2, name="unused")
        return odd if odd.shape[0] else unused(odd)


@pytest.fixture(scope="module")
def pair():
    return archives.drawn(Pair(), (4,))


@pytest.fixture(scope="module")
def deep():
    return archives.drawn(Deep(), (4,))


def _on_grid(values, scale, zero_point, bits):
    """By the definition: the nearest of (k − zero point) × scale, k = 0 … 2**bits − 1."""
    steps = np.clip(np.round(values / scale) + zero_point, 0, 2**bits - 1)
    return (steps - zero_point) * scale


def test_nothing_changed_is_the_modules_own():
    model = Pair()
    assert form_lib.apply_of(Form(model)) == model.apply
    assert form_lib.network(Form(model)).init == model.init


@pytest.mark.parametrize("bits", [{"one": 2}, {"output": 3}, {"one": 3, "output": 2}])
def test_inputs_are_rounded_as_by_hand(pair, bits):
    grids = {"one": (np.float32(0.7), np.int32(2)), "output": (np.float32(0.02), np.int32(0))}
    collection = {path: {"scale": grids[path][0], "zero_point": grids[path][1]} for path in bits}
    apply = form_lib.apply_of(Form(Pair(), activations=bits))
    x, params = INPUTS, pair["params"]
    if "one" in bits:
        x = _on_grid(x, *grids["one"], bits["one"])
    hidden = np.maximum(x @ params["one"]["kernel"] + params["one"]["bias"], 0)
    if "output" in bits:
        hidden = _on_grid(hidden, *grids["output"], bits["output"])
    want = hidden @ params["output"]["kernel"] + params["output"]["bias"]
    jitted = jax.jit(apply)
    for compute in (apply, jitted):
        found = compute({**pair, "activations": collection}, INPUTS)
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    assert np.abs(want - Pair().apply(pair, INPUTS)).max() > 1e-2


def test_inputs_of_a_factorised_layer_are_rounded_before_its_first_factor(pair):
    plan = {"one": {"method": "svd", "rank": 2}}
    before, changed = factorization.factorize(Pair(), pair, plan, INPUTS)
    grid = {"scale": np.float32(0.5), "zero_point": np.int32(3)}
    form = Form(Pair(), plan, activations={"one": 3})
    found = form_lib.apply_of(form)({**changed, "activations": {"one": grid}}, INPUTS)
    want = before(changed, _on_grid(INPUTS, np.float32(0.5), 3, 3))
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


class TestGradients:
    def _gradient(self, variables, key=None, bits=2):
        apply = form_lib.apply_of(Form(Pair(), gradients={"one": bits}))
        rngs = {} if key is None else {"rngs": {"dropout": key}}
        loss = lambda v: jnp.sum(apply(v, INPUTS, train=True, **rngs) ** 2)  # noqa: E731
        return jax.grad(loss)(variables)["params"]

    def test_are_exact_without_a_key_and_behind_the_layer(self, pair):
        exact = jax.grad(lambda v: jnp.sum(Pair().apply(v, INPUTS) ** 2))(pair)["params"]
        jax.tree.map(np.testing.assert_array_equal, self._gradient(pair), exact)
        found = self._gradient(pair, jax.random.key(0))
        jax.tree.map(np.testing.assert_array_equal, found["output"], exact["output"])
        assert np.abs(found["one"]["kernel"] - exact["one"]["kernel"]).max() > 1e-3

    def test_are_right_on_average(self, pair):
        exact = self._gradient(pair)["one"]["kernel"]
        draw = jax.jit(jax.vmap(lambda key: self._gradient(pair, key)["one"]["kernel"]))
        found = draw(jax.random.split(jax.random.key(1), 4000))
        spread = np.std(found, axis=0) / np.sqrt(len(found))
        assert spread.min() > 0
        assert (np.abs(found.mean(0) - exact) < 5 * spread).all()

    def test_of_the_outputs_lie_on_the_grid(self, pair):
        """Of one example: the kernel's gradient is that of the outputs, times the inputs."""
        apply = form_lib.apply_of(Form(Pair(), gradients={"one": 2}))

        def loss(v):
            rngs = {"dropout": jax.random.key(3)}
            return jnp.sum(apply(v, INPUTS[:1], rngs=rngs) ** 2)

        found = np.asarray(jax.grad(loss)(pair)["params"]["one"]["kernel"])[0] / INPUTS[0, 0]
        most = np.abs(found).max()
        places = (found / most + 1) * 3 / 2  # 2 bits: 0, 1, 2, 3
        np.testing.assert_allclose(places, np.round(places), atol=1e-5)


class TestTied:
    @pytest.mark.parametrize(
        ("groups", "plan", "others"),
        [
            ([("a/one", "a/two", "b/two")], {"a/one": PLAN["two"]}, ["a/two", "b/two"]),
            ([("a", "b")], {"a/two": PLAN["two"]}, ["b/two"]),
        ],
    )
    def test_layers_share_the_plan_of_the_first(self, deep, groups, plan, others):
        tied = {"params": share.tie(deep["params"], groups)}
        changed, _ = factorization.decompose(tied, plan)
        assert form_lib.spread(plan, groups).keys() == {*plan, *others}
        found = form_lib.apply_of(Form(Deep(), plan, groups))(changed, INPUTS)
        flat = form_lib.flatten_dict(changed["params"], sep="/")
        for path, entry in plan.items():
            factors = (f"{path}/left", f"{path}/right")
            flat = {name: leaf for name, leaf in flat.items() if not name.startswith(factors)}
            flat[f"{path}/kernel"] = factorization.reconstruct(changed, path, entry)
        plain = share.materialize(form_lib.unflatten_dict(flat, sep="/"), groups)
        np.testing.assert_allclose(found, Deep().apply({"params": plain}, INPUTS), atol=1e-5)
        assert np.abs(found - Deep().apply(deep, INPUTS)).max() > 1e-3

    def test_layers_have_grids_of_their_own(self, deep):
        groups, bits = [("a", "b")], {"a/one": 4, "b/one": 4}
        tied = {"params": share.tie(deep["params"], groups)}
        grids = form_lib.calibrated(Form(Deep(), groups=groups), tied, INPUTS, bits)
        assert grids["a"]["one"]["scale"] != grids["b"]["one"]["scale"]


class TestCalibrated:
    def test_is_calibrate_of_what_the_layers_are_given(self, deep):
        bits = {"start": 8, "a/two": 3, "b/one": 16}
        grids = form_lib.calibrated(Form(Deep()), deep, INPUTS, bits, range="percentile")
        seen = reach.inputs_of(Deep(), deep, tuple(bits), INPUTS)
        for path, count in bits.items():
            found = form_lib.flatten_dict(grids, sep="/")
            want = quantize.calibrate([seen[path][0].ravel()], count, range="percentile")
            assert found[f"{path}/scale"] == want.scale
            assert found[f"{path}/zero_point"] == want.zero_point
        assert len(found) == 2 * len(bits)

    def test_of_a_module_that_is_one_layer(self):
        model = nn.Dense(3)
        variables = model.init(jax.random.key(0), INPUTS)
        form = Form(_Plain(model), activations={"": 8})
        grids = form_lib.calibrated(Form(_Plain(model)), variables, INPUTS, {"": 8})
        assert grids.keys() == {"scale", "zero_point"}
        found = form_lib.apply_of(form)({**variables, "activations": grids}, INPUTS)
        np.testing.assert_allclose(found, model.apply(variables, INPUTS), atol=0.05)

    def test_needs_layers(self, deep):
        with pytest.raises(UserError, match=r"^unknown layer 'c/one'; did you mean '\w/one'\?"):
            form_lib.calibrated(Form(Deep()), deep, INPUTS, {"c/one": 8})
        odd = archives.drawn(Other(), (4,))
        with pytest.raises(
            ValueError, match=r"^layer 'odd' cannot be computed in another way: it goes through"
        ):
            form_lib.calibrated(Form(Other()), odd, INPUTS, {"odd": 8})
        spare = {"params": {**odd["params"], "unused": {"kernel": np.ones((5, 2), "f4")}}}
        with pytest.raises(ValueError, match=r"^layer 'unused' is not called: it has no inputs"):
            form_lib.calibrated(Form(Other()), spare, INPUTS, {"unused": 8})


class _Plain:
    """A module whose `apply` takes no `train`."""

    def __init__(self, model):
        self.model = model

    def apply(self, variables, inputs, train=False):
        return self.model.apply(variables, inputs)


@pytest.mark.parametrize("of", ["activations", "gradients"])
def test_paths_without_a_layer_are_refused(pair, of):
    message = "unknown layer 'onw'; did you mean 'one'? (known: one, output)"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        form_lib.apply_of(Form(Pair(), **{of: {"onw": 8}}))(pair, INPUTS)


def test_a_layer_needs_its_grid(pair):
    apply = form_lib.apply_of(Form(Pair(), activations={"one": 8}))
    message = (
        "layer 'one' has no grid for its inputs: variables['activations'] lacks one/scale and "
        "one/zero_point (see `form.calibrated`)"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        apply(pair, INPUTS)
    with pytest.raises(UserError, match=r"lacks one/zero_point \("):
        apply({**pair, "activations": {"one": {"scale": np.float32(1)}}}, INPUTS)
