"""Networks to store, and a reader of archives written from the format's description."""

import itertools
import json
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import quantize
from compress.archive import container
from groundwork import architectures


def drawn(model, shape, seed=0):
    """Normal variables of a network, with positive variances. Nothing is compiled."""
    generator = np.random.default_rng(seed)

    def draw(keys, leaf):
        values = generator.normal(scale=0.1, size=leaf.shape).astype(leaf.dtype)
        return np.abs(values) + np.float32(0.5) if keys[-1].key == "var" else values

    return jax.tree_util.tree_map_with_path(draw, architectures.shapes(model, shape))


def pruned(weights, density):
    """A mask of the largest weights."""
    size = np.abs(np.asarray(weights))
    return size >= np.quantile(size, 1 - density)


def shared(weights, bits, mask=None):
    """Clusters like those of `quantize.kmeans`, used about equally often. Nothing is compiled."""
    weights, count = np.asarray(weights), 2**bits - (mask is not None)
    kept = weights if mask is None else weights[mask]
    codebook = np.zeros(count, "f4")
    if kept.size:
        codebook = np.quantile(kept, (np.arange(count) + 0.5) / count).astype("f4")
    indices = np.searchsorted((codebook[1:] + codebook[:-1]) / 2, weights)
    if mask is not None:
        codebook, indices = np.append(np.float32(0), codebook), np.where(mask, indices + 1, 0)
    indices = indices.astype("u1" if bits <= 8 else "u2")
    return quantize.Clusters(jnp.asarray(codebook), indices, mask, np.array(True))


def stored(variables, schemes):
    """The variables, with their kernels made by these functions in turn."""
    turn = itertools.cycle(schemes)

    def store(keys, leaf):
        return next(turn)(jnp.asarray(leaf)) if keys[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(store, variables)


SCHEMES = {
    "shared": lambda w: shared(w, 4, pruned(w, 0.1)),
    "uniform": lambda w: quantize.uniform(w, 5, axis=w.ndim - 1),
    "affine": lambda w: quantize.uniform(w, 8, symmetric=False),
    "ternary": quantize.ternary,
    "binary": lambda w: quantize.binary(w, scaled=True, axis=w.ndim - 1),
    "plain": lambda w: w,
    "half": lambda w: w.astype("f2"),
    "pruned": lambda w: np.where(pruned(w, 0.1), w, np.float32(0)),
}
NETWORKS = {"lenet_300_100": (0.2, (28, 28, 1)), "resnet_20": (0.25, (32, 32, 3))}


def network(name):
    """A module and its variables."""
    width, shape = NETWORKS[name]
    model = architectures.build({"name": name, "width": width}, 10)
    return model, drawn(model, shape)


def same(loaded, expected):
    """Equal bits, dtypes and paths."""
    assert jax.tree.structure(loaded) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


class Head(NamedTuple):
    packed: bytes
    json: dict
    table: int  # where it begins
    streams: list  # bytes


def head(data):
    """The parts of a file, whose checksums are ignored."""
    (packed, _, count), at = _numbers(data, 5, 3)
    text, table = data[at : at + packed], at + packed
    lengths, at = [], table
    for _ in range(count):
        (length,), at = _numbers(data, at, 1)
        lengths.append(length)
        at += 4
    at += 4
    streams = []
    for length in lengths:
        streams.append(data[at : at + length])
        at += length
    inflate = zlib.decompressobj(-15, **_dictionary(data[4]))
    return Head(text, json.loads(inflate.decompress(text)), table, streams)


def sealed(data):
    """The same bytes, with all checksums that can be found made right."""
    data = bytearray(data)
    (packed, _, count), at = _numbers(data, 5, 3)
    at += packed
    table = []
    for _ in range(min(count, len(data))):
        (length,), at = _numbers(data, at, 1)
        table.append((length, at))
        at += 4
    begin = at + 4
    for length, place in table:
        data[place : place + 4] = zlib.crc32(data[begin : begin + length]).to_bytes(4, "little")
        begin += length
    data[at : at + 4] = zlib.crc32(data[:at]).to_bytes(4, "little")
    return bytes(data)


def number(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _numbers(data, at, count):
    numbers = []
    for _ in range(count):
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        numbers.append(value)
    return numbers, at


def _dictionary(version):
    return {"zdict": container.DICTIONARY} if version > 1 else {}


def forged(header, streams, size=None, version=None):
    """A file of any header (JSON values or bytes) with right checksums; it declares `size`."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    version = version or 1 + (b'"group": 0' in text)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, **_dictionary(version))
    packed = deflate.compress(text) + deflate.flush()
    fields = (len(packed), len(text) if size is None else size, len(streams))
    data = b"\x93CNA" + bytes([version]) + b"".join(map(number, fields)) + packed
    data += b"".join(number(len(stream)) + bytes(4) for stream in streams)
    return sealed(data + bytes(4) + b"".join(streams))
