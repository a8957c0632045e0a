"""`compress.save` and `compress.load`: networks there and back, sizes, the format for ever."""

import json
import os
import re
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress
from compress import quantize
from compress.coding import sparse
from groundwork import architectures
from groundwork.errors import UserError
from lowrank import factorization
from tests.compress import archives
from tests.compress.references import exactly
from tests.groundwork.architectures import small

SCHEMES = {
    "shared": lambda w: archives.shared(w, 4, archives.pruned(w, 0.1)),
    "uniform": lambda w: quantize.uniform(w, 5, axis=w.ndim - 1),
    "affine": lambda w: quantize.uniform(w, 8, symmetric=False),
    "ternary": quantize.ternary,
    "binary": lambda w: quantize.binary(w, scaled=True, axis=w.ndim - 1),
    "plain": lambda w: w,
    "half": lambda w: w.astype("f2"),
    "pruned": lambda w: np.where(archives.pruned(w, 0.1), w, np.float32(0)),
}
NETWORKS = {"lenet_300_100": (0.2, (28, 28, 1)), "resnet_20": (0.25, (32, 32, 3))}


def _network(name):
    width, shape = NETWORKS[name]
    model = architectures.build(small.section(name, width), 10)
    return model, archives.drawn(model, shape)


def _entropy(symbols):
    """Bits each, by the definition."""
    shares = np.unique(symbols, return_counts=True)[1] / symbols.size
    return -np.sum(shares * np.log2(shares))


def _same(found, want):
    """Equal bits, dtypes and paths."""
    assert jax.tree.structure(found) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("lenet_300_100", scheme) for scheme in SCHEMES]
    + [("resnet_20", scheme) for scheme in ("shared", "plain", "mixed")],
)
def test_networks_come_back_bit_for_bit(name, scheme, tmp_path):
    model, variables = _network(name)
    stored = archives.stored(
        variables, [SCHEMES[scheme]] if scheme in SCHEMES else SCHEMES.values()
    )
    compress.save(tmp_path / "a", model, stored)
    apply, found = compress.load(tmp_path / "a")
    _same(found, quantize.materialize(stored))
    assert found.keys() == variables.keys()
    assert apply.__self__ == model
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_are_those_from_before_saving(name, tmp_path):
    model, variables = _network(name)
    stored = archives.stored(variables, SCHEMES.values())
    compress.save(tmp_path / "a", model, stored)
    apply, found = compress.load(tmp_path / "a")
    inputs = np.random.default_rng(1).normal(size=(2, *NETWORKS[name][1])).astype("f4")
    want = small.quickly(model.apply)(quantize.materialize(stored), inputs)
    np.testing.assert_array_equal(small.quickly(apply)(found, inputs), want)
    assert np.ptp(want) > 0


def test_a_low_rank_plan_travels_along(tmp_path):
    model, variables = _network("lenet_300_100")
    plan = {"fc1": {"method": "svd", "rank": 6}}
    before, changed = factorization.factorize(model, variables, plan)
    stored = archives.stored(changed, [SCHEMES["uniform"]])
    compress.save(tmp_path / "a", model, stored, plan)
    apply, found = compress.load(tmp_path / "a")
    _same(found, quantize.materialize(stored))
    inputs = np.random.default_rng(1).normal(size=(2, 28, 28, 1)).astype("f4")
    np.testing.assert_array_equal(
        apply(found, inputs), before(quantize.materialize(stored), inputs)
    )
    assert compress.describe(tmp_path / "a").header["plan"] == plan
    with pytest.raises(UserError, match=r"^not the arrays of LeNet300100: params/fc1/kernel none"):
        compress.save(tmp_path / "b", model, stored)
    with pytest.raises(UserError, match=r"^unknown layer 'fc3'"):
        compress.save(tmp_path / "b", model, stored, {"fc3": plan["fc1"]})
    with pytest.raises(UserError, match=r"^layer 'fc1': rank 99 is outside 1…60"):
        compress.save(tmp_path / "b", model, stored, {"fc1": {"method": "svd", "rank": 99}})
    assert not (tmp_path / "b").exists()


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
        _same(compress.load(tmp_path / "a", Counted())[1], jax.tree.map(jnp.asarray, variables))

    def test_are_given_to_load(self, tmp_path):
        variables = archives.drawn(Pair(), (5,))
        compress.save(tmp_path / "a", Pair(), variables)
        assert "model" not in compress.describe(tmp_path / "a").header
        apply, found = compress.load(tmp_path / "a", model=Pair())
        _same(found, jax.tree.map(jnp.asarray, variables))
        assert apply(found, jnp.ones((1, 5))).shape == (1, 2)
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
        _, found = compress.load(tmp_path / "a", model=Words())
        _same(found, variables)

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
    """Found for what the parameters tell; else as given, or left open."""
    model = architectures.build(small.section("conv_2", 0.1), 10)
    variables = archives.drawn(model, (36, 36, 3))
    compress.save(tmp_path / "a", model, variables)
    assert "example" not in compress.describe(tmp_path / "a").header
    _same(compress.load(tmp_path / "a")[1], jax.tree.map(jnp.asarray, variables))
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
    with pytest.raises(UserError, match=r"^the model must be a Linen module, not "):
        compress.save(tmp_path / "a", model, variables)
    compress.save(tmp_path / "a", Flat(), variables)
    with pytest.raises(UserError, match=r"a: .*"):
        compress.load(tmp_path / "a", model)


class TestSizes:
    def test_add_up_to_the_file(self, tmp_path):
        model, variables = _network("resnet_20")
        compress.save(tmp_path / "a", model, archives.stored(variables, SCHEMES.values()))
        header, streams = compress.describe(tmp_path / "a")
        assert sum(stream.bytes for stream in streams) == os.path.getsize(tmp_path / "a")
        kinds = {stream.kind for stream in streams}
        assert kinds == {"header", "codebook", "index", "weights", "other"}
        assert set(header["arrays"]) == set(archives.flat(variables))
        for stream in streams:
            assert 0 <= stream.entropy_bits <= stream.coded_bits
            if stream.kind in ("codebook", "other"):
                assert stream.entropy_bits == stream.coded_bits

    def test_of_deep_compression(self, tmp_path):
        """LeNet-300-100, 5 % kept, 4 bits: of a weight and an index, before and after coding."""
        model = architectures.build(small.section("lenet_300_100"), 10)
        stored = archives.stored(
            archives.drawn(model, (784,)),
            [lambda w: archives.shared(w, 4, archives.pruned(w, 0.05))],
        )
        compress.save(tmp_path / "a", model, stored)
        _, streams = compress.describe(tmp_path / "a")
        found = {(stream.path, stream.kind): stream for stream in streams}
        weights = found["params/fc1/kernel", "weights"]
        index = found["params/fc1/kernel", "index"]
        assert weights.symbols == index.symbols >= 11_760
        assert weights.bits == 4
        assert 3 < weights.coded_bits < 4
        assert 5 <= index.bits <= 8
        assert 4.5 < index.coded_bits < 6.5
        for stream in (weights, index):
            assert 0.9 * stream.coded_bits < stream.entropy_bits < stream.coded_bits
        shared = stored["params"]["fc1"]["kernel"]
        kept = sparse.gaps(shared.indices != 0, index.bits)
        symbols = np.zeros(kept.gaps.size, int)
        symbols[kept.kept] = np.asarray(shared.indices)[shared.indices != 0]
        assert index.entropy_bits == pytest.approx(_entropy(kept.gaps))
        assert weights.entropy_bits == pytest.approx(_entropy(symbols))
        assert found["params/fc1/kernel", "codebook"].bytes == 60
        assert found["", "other"].symbols == 410
        assert found["", "header"].bytes < 400
        assert os.path.getsize(tmp_path / "a") < 266_610 * 4 / 58

    def test_what_all_weights_share_costs_next_to_nothing(self, tmp_path):
        """Of half floats, of constants, of two values."""
        model = architectures.build(small.section("lenet_300_100", 0.2), 10)
        shapes = archives.drawn(model, (784,))
        sizes = {}
        for name, make in {
            "whole": lambda w: w,
            "half": lambda w: w.astype("f2").astype("f4"),
            "equal": lambda w: np.full_like(w, 0.3),
            "two": lambda w: np.where(w > 0, np.float32(0.3), np.float32(-0.7)),
        }.items():
            compress.save(tmp_path / name, model, archives.stored(shapes, [make]))
            sizes[name] = os.path.getsize(tmp_path / name)
            _same(
                compress.load(tmp_path / name)[1]["params"]["fc1"]["kernel"],
                make(shapes["params"]["fc1"]["kernel"]),
            )
        weights = 784 * 60 + 60 * 20 + 20 * 10
        assert sizes["half"] < 2 * weights + 1000
        assert sizes["equal"] < 1000
        assert weights / 8 < sizes["two"] < weights / 8 + 1000
        assert 3.2 * weights < sizes["whole"] < 4 * weights

    def test_of_groups_are_those_of_the_groups(self, tmp_path):
        """Where weights are coded together: bits a weight, of the entropy of all groups."""
        model = architectures.build(small.section("residual_mlp", 0.04), 3)
        variables = archives.drawn(model, (40,))
        stored = archives.stored(variables, [lambda w: jnp.where(w > 0.2, 0.5, -0.5)])
        compress.save(tmp_path / "a", model, stored)
        header, streams = compress.describe(tmp_path / "a")
        group = header["arrays"]["params/fc1/kernel"]["group"]
        assert group > 1
        (found,) = (s for s in streams if (s.path, s.kind) == ("params/fc1/kernel", "weights"))
        assert found.symbols == 800
        assert found.bits == 1
        signs = np.asarray(stored["params"]["fc1"]["kernel"]).ravel() < 0
        signs = np.append(signs, np.zeros(-800 % group, bool)).reshape(-1, group)
        joint = signs @ (1 << np.arange(group))
        assert found.entropy_bits == pytest.approx(joint.size * _entropy(joint) / 800)


class TestWriting:
    def test_a_write_that_fails_leaves_the_older_file(self, tmp_path, monkeypatch):
        model, variables = _network("lenet_300_100")
        compress.save(tmp_path / "a", model, variables)
        before = (tmp_path / "a").read_bytes()

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        zeros = jax.tree.map(np.zeros_like, variables)
        with pytest.raises(OSError, match="No space left"):
            compress.save(tmp_path / "a", model, zeros)
        assert (tmp_path / "a").read_bytes() == before
        monkeypatch.undo()
        compress.save(tmp_path / "a", model, zeros)
        assert (tmp_path / "a").read_bytes() != before
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_equal_networks_give_equal_bytes(self, tmp_path):
        model, variables = _network("resnet_20")
        for name in "ab":
            compress.save(tmp_path / name, model, archives.stored(variables, SCHEMES.values()))
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda v: v["params"],
                "the variables have no params: {'params': …, 'batch_stats': …}",
            ),
            (
                lambda v: {"params": [1.0, 2.0]},
                "['params'][0] is not within nested dicts with string keys",
            ),
            (lambda v: {"params": {"a/b": 1.0}}, "['params']['a/b'] is not within nested dicts"),
            (lambda v: {"params": {"a": "text"}}, "params/a is"),
            (
                lambda v: {"params": {"a": np.ones(2, complex)}},
                "params/a is an array of complex128",
            ),
            (
                lambda v: {"params": {"a": np.float32([1, np.nan, np.inf])}},
                "params/a: 2 of 3 entries are not finite",
            ),
            (lambda v: {**v, "more": {"a": np.ones(2)}}, "not the arrays of LeNet300100: more/a"),
            (
                lambda v: jax.tree.map(lambda x: np.stack([x, x]), v),
                "not the arrays of LeNet300100: params/fc1/bias floats (2, 60), not floats (60,)",
            ),
        ],
    )
    def test_what_is_no_network_is_refused(self, change, message, tmp_path):
        model, variables = _network("lenet_300_100")
        with pytest.raises(UserError, match=f"^{re.escape(message)}"):
            compress.save(tmp_path / "a", model, change(variables))
        assert not list(tmp_path.iterdir())


# Version 1, for ever: a residual MLP of 2 inputs, 20 hidden units and 3 classes, by hand below.
GOLDEN = bytes.fromhex(
    "93434e4101d601d5030a7d905b4ec3301045f732df86e64191f0565084a6f144b118d796c7a1adaaec9d6979"
    "1525f037b2cebde7ca6708d111833dc31e0381854ce2dd84fc12388181837765045bdd570f065c39a50b3370"
    "c4d236301be8194548c0b606e88821b102cf4d670073c6935c9a13660cb219fa7ab3f3787d9211d315ac3a2d"
    "b9015e29ef3ff67c2346210343cc41d509994a215d3612bbaf2df523dcd6346b9e45c2c0ce17a5b6bfa32b0b"
    "aa3f262cf2712a692a0b7bdbfd33f733b3aa6d7facd2abd6a994e381a480bd7bd29bde8855d56cf5bf8f5eaf"
    "7a9ee777048a5086ce087f1bfe0e018def02d20cfa431f64089991073d07102e5a4e0cee47bba92a55e2acf9"
    "482bb723090816176f5782c707ce003800b82801081e3c78f1e300cdcccc3d000040400000c0bf0d1e0f1dc1"
    "607ff80d030f505ad6b0cdcccc3dcdcc4c3e3333333f3c18305a4144a3d00b388410cdcab17f338f759f8f5f"
    "a1e1532cbadb1bf091cacf4d5dec2ce21043372a0a143f1b81e2d0dea000001400cc4c99cc0019334c66808c"
    "99a6b3c0ccd9e6f31314cc01138194e064e06578190029875c9f89f81314cd01138194e066e0657819002987"
    "5c9f89f80338bc4003000000"
)


def _golden():
    model = architectures.build(small.section("residual_mlp", 0.04), 3)
    rising = np.arange(400).reshape(20, 20)
    mask = rising % 31 == 7  # 13 of them
    codebook = jnp.float32([0, -1.5, 0.1, 3])
    indices = np.where(mask, 1 + rising % 3, 0).astype("u1")
    signs = np.where(rising[:2] % 7 < 3, 1, -1).astype("i1")
    params = {
        "fc1": {
            "kernel": quantize.Binary(jnp.asarray(signs), jnp.float32(0.5)),
            "bias": np.float32(0.1) * np.arange(20, dtype="f4"),
        },
        "fc2": {
            "kernel": quantize.Clusters(codebook, indices, mask, jnp.array(True)),
            "bias": np.zeros(20, "f4"),
        },
        "output": {
            "kernel": quantize.Uniform(
                np.uint8(rising[:3].T % 16),
                np.float32([[0.1, 0.2, 0.7]]),
                np.uint8([[4, 9, 0]]),
            ),
            "bias": np.float32([0.5, -1, 2]),
        },
    }
    return model, {"params": params}


class TestGoldenFile:
    def test_loads_to_the_numbers_that_were_saved(self, tmp_path):
        (tmp_path / "a").write_bytes(GOLDEN)
        apply, found = compress.load(tmp_path / "a")
        model, stored = _golden()
        assert apply.__self__ == model
        _same(found, quantize.materialize(stored))

    def test_is_what_is_written_today(self, tmp_path):
        """But for the packed header, which another zlib may pack in another way."""
        compress.save(tmp_path / "a", *_golden())
        found = (tmp_path / "a").read_bytes()
        head, want = archives.head(found), archives.head(GOLDEN)
        assert head.json == want.json
        assert [found[:5], *head.streams] == [GOLDEN[:5], *want.streams]

    def test_header_is_readable_json(self):
        packed = archives.head(GOLDEN).packed
        header = json.loads(zlib.decompress(packed, -15))
        assert header["model"] == {"name": "residual_mlp", "width": 0.04, "dtype": "float32"}
        assert header["arrays"]["params/fc2/kernel"]["shape"] == [20, 20]
