"""Which network a file is of: modules of any kind, examples of any size."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress
from groundwork import architectures
from groundwork.errors import UserError
from tests.compress import archives
from tests.compress.references import exactly
from tests.groundwork.architectures import small


class Words(nn.Module):
    """Takes integers, which no example that is tried has."""

    features: int = 3

    @nn.compact
    def __call__(self, words):
        return nn.Dense(2)(nn.Embed(5, self.features)(words))


class Pair(nn.Module):
    """Any module."""

    units: int = 4

    @nn.compact
    def __call__(self, inputs, train=False):
        x = nn.relu(nn.Dense(self.units, name="fc1")(inputs))
        return nn.Dense(2, name="fc2")(x)


class Flat(nn.Module):
    """Takes examples of any shape, of so many entries."""

    @nn.compact
    def __call__(self, inputs, train=False):
        return nn.Dense(2, name="fc")(inputs.reshape((inputs.shape[0], -1)))


class Counted(nn.Module):
    """Has an integer among its variables."""

    @nn.compact
    def __call__(self, inputs, train=False):
        self.variable("counts", "seen", lambda: jnp.int32(7))
        return nn.Dense(2)(inputs)


class TestOtherModules:
    def test_may_have_integers(self, tmp_path):
        variables = archives.drawn(Counted(), (5,))
        compress.save(tmp_path / "a", Counted(), variables)
        _, loaded = compress.load(tmp_path / "a", Counted())
        archives.same(loaded, jax.tree.map(jnp.asarray, variables))

    def test_are_given_to_load(self, tmp_path):
        variables = archives.drawn(Pair(), (5,))
        compress.save(tmp_path / "a", Pair(), variables)
        assert "model" not in compress.describe(tmp_path / "a").header
        apply, loaded = compress.load(tmp_path / "a", model=Pair())
        archives.same(loaded, jax.tree.map(jnp.asarray, variables))
        assert apply(loaded, jnp.ones((1, 5))).shape == (1, 2)
        message = (
            f"cannot load {tmp_path / 'a'}: it does not describe its network: give the module, "
            "load(path, model)"
        )
        with pytest.raises(UserError, match=exactly(message)):
            compress.load(tmp_path / "a")

    def test_that_do_not_fit_are_refused(self, tmp_path):
        compress.save(tmp_path / "a", Pair(), archives.drawn(Pair(), (5,)))
        message = (
            f"cannot load {tmp_path / 'a'}: not the arrays of Pair: params/fc1/bias floats "
            "(4,), not floats (6,); params/fc1/kernel floats (5, 4), not floats (5, 6); "
            "params/fc2/kernel floats (4, 2), not floats (6, 2)"
        )
        with pytest.raises(UserError, match=exactly(message)):
            compress.load(tmp_path / "a", model=Pair(6))
        lenet = architectures.build(small.section("lenet_5"), 10)
        with pytest.raises(
            UserError, match=r"cannot load .*: LeNet5 cannot take examples of shape"
        ):
            compress.load(tmp_path / "a", model=lenet)

    def test_whose_inputs_are_unknown_are_not_checked(self, tmp_path):
        variables = Words().init(jax.random.key(0), jnp.zeros((1, 2), int))
        compress.save(tmp_path / "a", Words(), variables)
        assert set(compress.describe(tmp_path / "a").header) == {"arrays"}
        _, loaded = compress.load(tmp_path / "a", model=Words())
        archives.same(loaded, variables)

    def test_changed_members_of_the_registry_are_others(self, tmp_path):
        model = architectures.build(small.section("residual_mlp", 0.1), 3)
        compress.save(tmp_path / "a", model, archives.drawn(model, (40,)))
        assert compress.describe(tmp_path / "a").header["classes"] == 3
        other = model.clone(hidden=40)
        compress.save(tmp_path / "b", other, archives.drawn(other, (40,)))
        assert "model" not in compress.describe(tmp_path / "b").header


def test_dtype_and_width_of_the_network_come_back(tmp_path):
    section = {"name": "lenet_5", "width": 0.1 + 0.2, "dtype": "bfloat16"}
    model = architectures.build(section, 7)
    compress.save(tmp_path / "a", model, archives.drawn(model, (28, 28, 1)))
    header = compress.describe(tmp_path / "a").header
    assert (header["model"], header["classes"]) == (section, 7)
    assert header["example"] == [28, 28, 1]
    apply, _ = compress.load(tmp_path / "a")
    assert apply.__self__ == model


def test_images_of_unusual_size(tmp_path):
    """The shape is the one given, or is left open if the parameters cannot tell it."""
    model = architectures.build(small.section("conv_2", 0.1), 10)
    variables = archives.drawn(model, (36, 36, 3))
    compress.save(tmp_path / "a", model, variables)
    assert "example" not in compress.describe(tmp_path / "a").header
    archives.same(compress.load(tmp_path / "a")[1], jax.tree.map(jnp.asarray, variables))
    compress.save(tmp_path / "b", model, variables, example=(36, 36, 3))
    assert compress.describe(tmp_path / "b").header["example"] == [36, 36, 3]
    with pytest.raises(UserError, match=r"^not the arrays of Conv2: params/fc1/kernel floats"):
        compress.save(tmp_path / "c", model, variables, example=(28, 28, 3))


@pytest.mark.parametrize("example", [(-2, -2), (0,), (), 4, "4", (4.0,)])
def test_an_example_that_load_would_refuse_is_refused(example, tmp_path):
    model = Flat()
    variables = {"params": {"fc": {"kernel": np.ones((4, 2), "f4"), "bias": np.zeros(2, "f4")}}}
    compress.save(tmp_path / "a", model, variables, example=(np.int64(2), 2))
    assert compress.describe(tmp_path / "a").header["example"] == [2, 2]
    with pytest.raises(UserError, match=r"^the network cannot be stored: .*example"):
        compress.save(tmp_path / "b", model, variables, example=example)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("model", [None, Flat, "flat"])
def test_what_is_no_module_is_refused(model, tmp_path):
    variables = {"params": {"fc": {"kernel": np.ones((4, 2), "f4"), "bias": np.zeros(2, "f4")}}}
    with pytest.raises(UserError, match=r"^the model must be a Linen module or a function, not "):
        compress.save(tmp_path / "a", model, variables)
    compress.save(tmp_path / "a", Flat(), variables)
    with pytest.raises(UserError, match=r"a: .*"):
        compress.load(tmp_path / "a", model)
