"""`compress.describe`: the bytes and the entropy of each part of a file."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

import compress
from compress import quantize
from compress.archive import codings
from compress.coding import sparse
from groundwork import architectures, trees
from tests.compress import archives
from tests.groundwork.architectures import small


def _entropy(symbols):
    """Bits per symbol, by the definition."""
    shares = np.unique(symbols, return_counts=True)[1] / symbols.size
    return -np.sum(shares * np.log2(shares))


class TestSizes:
    def test_add_up_to_the_file(self, mixed):
        _, stored, path = mixed("resnet_20")
        header, streams = compress.describe(path)
        assert sum(stream.bytes for stream in streams) == os.path.getsize(path)
        kinds = {stream.kind for stream in streams}
        assert kinds == {"header", "codebook", "index", "weights", "other"}
        assert set(header["arrays"]) == set(trees.flatten(quantize.materialize(stored)))
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
        by_kind = {(stream.path, stream.kind): stream for stream in streams}
        weights = by_kind["params/fc1/kernel", "weights"]
        index = by_kind["params/fc1/kernel", "index"]
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
        assert by_kind["params/fc1/kernel", "codebook"].bytes == 60
        assert by_kind["", "other"].symbols == 410
        assert by_kind["", "header"].bytes < 400
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
            archives.same(
                compress.load(tmp_path / name)[1]["params"]["fc1"]["kernel"],
                make(shapes["params"]["fc1"]["kernel"]),
            )
        weights = 784 * 60 + 60 * 20 + 20 * 10
        assert sizes["half"] < 2 * weights + 1000
        assert sizes["equal"] < 1000
        assert weights / 8 < sizes["two"] < weights / 8 + 1000
        assert 3.2 * weights < sizes["whole"] < 4 * weights

    def test_of_groups_are_those_of_the_groups(self, tmp_path, monkeypatch):
        """Where weights are coded together: bits a weight, of the entropy of all groups."""
        monkeypatch.setattr(codings, "LEAST_ADAPTIVE", 1 << 40)  # which takes yet fewer bytes
        model = architectures.build(small.section("residual_mlp", 0.04), 3)
        variables = archives.drawn(model, (40,))
        stored = archives.stored(variables, [lambda w: jnp.where(w > 0.2, 0.5, -0.5)])
        compress.save(tmp_path / "a", model, stored)
        header, streams = compress.describe(tmp_path / "a")
        group = header["arrays"]["params/fc1/kernel"]["group"]
        assert group > 1
        (stream,) = (s for s in streams if (s.path, s.kind) == ("params/fc1/kernel", "weights"))
        assert stream.symbols == 800
        assert stream.bits == 1
        signs = np.asarray(stored["params"]["fc1"]["kernel"]).ravel() < 0
        signs = np.append(signs, np.zeros(-800 % group, bool)).reshape(-1, group)
        joint = signs @ (1 << np.arange(group))
        assert stream.entropy_bits == pytest.approx(joint.size * _entropy(joint) / 800)


def test_streams_without_a_symbol_have_no_bits_of_one(tmp_path):
    zeros = {"params": {"bias": jnp.zeros(64), "kernel": jnp.ones((4, 4))}}
    compress.save(tmp_path / "a", lambda variables, x: x, zeros)
    _, streams = compress.describe(tmp_path / "a")
    empty = [s for s in streams if not s.symbols and s.kind != "header"]
    assert empty
    assert all((s.coded_bits, s.entropy_bits) == (0, 0) for s in empty)
