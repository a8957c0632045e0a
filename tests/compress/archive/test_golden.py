"""The versions of the format: files that are read for ever, and still written."""

import json
import zlib

import jax.numpy as jnp
import numpy as np

import compress
from compress import quantize
from compress.archive import codings
from groundwork import architectures
from tests.compress import archives
from tests.groundwork.architectures import small

# A residual MLP of 2 inputs, 20 hidden units and 3 classes, by hand below.
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

GOLDEN_2 = bytes.fromhex(
    "93434e410263df0309c30cf5a2d4e2cc94d2c49cf8dc9c0244a01be8199860863a72081ba30430b6a0050506"
    "baeb8d905d8f3db48c748cb006155ab24436c6089b3d58123224b44d51b5627181010e27901e5bc6b1781c8e"
    "33f6800e30c697002d91931f2cf719d6d6d60200048a5086ce087f1bfe0e018def02d20cf6cc97c7283369dd"
    "0a0cee47bba92a55e2acf9482bb723090816176f578709c8a9003800b82801081e3c78f1e3000000c0bfcdcc"
    "cc3d000040400101000f8df2b0a04c4d1b42b9d7fa9abad3f8f1921f64c4901bce7abcd7bbff37ba20cefdca"
    "909acdcccc3dcdcc4c3e3333333f3c18305a4144a3d00b388410cdcab17f338f759f8f5fa1e1532cbadb1bf0"
    "91cacf4d5dec2ce21043372a0a143f1b81e2d0dea000001400cc4c99cc0019334c66808c99a6b3c0ccd9e6f3"
    "1314cc01138194e064e06578190029875c9f89f81314cd01138194e066e06578190029875c9f89f80338bc40"
    "03000000"
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


def _alike():
    """Rows of zeros, and rows that are alike."""
    model, stored = _golden()
    mask = (np.arange(400) * 37 % 101 < 40).reshape(20, 20) & (np.arange(20)[:, None] > 12)
    clusters = stored["params"]["fc2"]["kernel"]
    indices = np.where(mask, 1 + np.arange(20) % 3, 0).astype("u1")
    stored["params"]["fc2"]["kernel"] = clusters._replace(indices=indices, mask=mask)
    return model, stored


class TestVersion2:
    """With an array that is coded by what is near each entry."""

    def test_loads_and_is_what_is_written_today(self, tmp_path, monkeypatch):
        monkeypatch.setattr(codings, "LEAST_BYTES", 0)
        (tmp_path / "a").write_bytes(GOLDEN_2)
        model, stored = _alike()
        archives.same(compress.load(tmp_path / "a")[1], quantize.materialize(stored))
        compress.save(tmp_path / "b", model, stored)
        head, expected = archives.head((tmp_path / "b").read_bytes()), archives.head(GOLDEN_2)
        assert head.json == expected.json
        assert head.json["arrays"]["params/fc2/kernel"]["group"] == 0
        assert head.streams == expected.streams
        assert GOLDEN_2[:5] == b"\x93CNA\x02"
        alone = zlib.compress(json.dumps(head.json, separators=(",", ":")).encode(), 9, -15)
        assert len(head.packed) < 0.5 * len(alone)  # most of the header is in the dictionary


class TestGoldenFile:
    def test_loads_to_the_numbers_that_were_saved(self, tmp_path):
        (tmp_path / "a").write_bytes(GOLDEN)
        apply, loaded = compress.load(tmp_path / "a")
        model, stored = _golden()
        assert apply.__self__ == model
        archives.same(loaded, quantize.materialize(stored))

    def test_is_what_is_written_today(self, tmp_path):
        """But for the packed header, which another zlib may pack in another way."""
        compress.save(tmp_path / "a", *_golden())
        written = (tmp_path / "a").read_bytes()
        head, expected = archives.head(written), archives.head(GOLDEN)
        assert head.json == expected.json
        assert [written[:5], *head.streams] == [GOLDEN[:5], *expected.streams]

    def test_header_is_readable_json(self):
        packed = archives.head(GOLDEN).packed
        header = json.loads(zlib.decompress(packed, -15))
        assert header["model"] == {"name": "residual_mlp", "width": 0.04, "dtype": "float32"}
        assert header["arrays"]["params/fc2/kernel"]["shape"] == [20, 20]
