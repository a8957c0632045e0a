"""`compress.save` and `compress.load`: networks there and back, and what is refused."""

import os
import re

import jax
import numpy as np
import pytest

import compress
from compress import quantize
from groundwork.errors import UserError
from lowrank import factorization
from tests.compress import archives
from tests.groundwork.architectures import small


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("lenet_300_100", scheme) for scheme in archives.SCHEMES]
    + [("resnet_20", scheme) for scheme in ("shared", "plain")],
)
def test_networks_come_back_bit_for_bit(name, scheme, tmp_path):
    model, variables = archives.network(name)
    stored = archives.stored(variables, [archives.SCHEMES[scheme]])
    compress.save(tmp_path / "a", model, stored)
    apply, loaded = compress.load(tmp_path / "a")
    archives.same(loaded, quantize.materialize(stored))
    assert loaded.keys() == variables.keys()
    assert apply.__self__ == model
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))


@pytest.mark.parametrize("name", archives.NETWORKS)
def test_kernels_of_all_schemes_come_back_and_predict_as_before(name, mixed):
    model, stored, path = mixed(name)
    apply, loaded = compress.load(path)
    materialized = quantize.materialize(stored)
    archives.same(loaded, materialized)
    inputs = np.random.default_rng(1).normal(size=(2, *archives.NETWORKS[name][1])).astype("f4")
    expected = small.quickly(model.apply)(materialized, inputs)
    np.testing.assert_array_equal(small.quickly(apply)(loaded, inputs), expected)
    assert np.ptp(expected) > 0


def test_a_low_rank_plan_travels_along(tmp_path):
    model, variables = archives.network("lenet_300_100")
    plan = {"fc1": {"method": "svd", "rank": 6}}
    changed, _ = factorization.decompose(variables, plan)
    before = factorization.override(model, plan)
    stored = archives.stored(changed, [archives.SCHEMES["uniform"]])
    compress.save(tmp_path / "a", model, stored, plan)
    apply, loaded = compress.load(tmp_path / "a")
    archives.same(loaded, quantize.materialize(stored))
    inputs = np.random.default_rng(1).normal(size=(2, 28, 28, 1)).astype("f4")
    np.testing.assert_array_equal(
        apply(loaded, inputs), before(quantize.materialize(stored), inputs)
    )
    assert compress.describe(tmp_path / "a").header["plan"] == plan
    with pytest.raises(UserError, match=r"^not the arrays of LeNet300100: params/fc1/kernel none"):
        compress.save(tmp_path / "b", model, stored)
    with pytest.raises(UserError, match=r"^unknown layer 'fc3'"):
        compress.save(tmp_path / "b", model, stored, {"fc3": plan["fc1"]})
    with pytest.raises(UserError, match=r"^layer 'fc1': rank 99 is outside 1…60"):
        compress.save(tmp_path / "b", model, stored, {"fc1": {"method": "svd", "rank": 99}})
    assert not (tmp_path / "b").exists()


class TestWriting:
    def test_a_write_that_fails_leaves_the_older_file(self, tmp_path, monkeypatch):
        model, variables = archives.network("lenet_300_100")
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

    def test_equal_networks_give_equal_bytes(self, mixed, tmp_path):
        model, stored, path = mixed("resnet_20")
        compress.save(tmp_path / "a", model, stored)
        assert (tmp_path / "a").read_bytes() == path.read_bytes()

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
        model, variables = archives.network("lenet_300_100")
        with pytest.raises(UserError, match=f"^{re.escape(message)}"):
            compress.save(tmp_path / "a", model, change(variables))
        assert not list(tmp_path.iterdir())
