"""Networks to store, and a reader of archives written from the format's description."""

import itertools
import json
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import quantize
from groundwork import architectures


def drawn(model, shape, seed=0):
    """Variables of a network, normal; variances are positive. Nothing is compiled."""
    generator = np.random.default_rng(seed)

    def draw(keys, leaf):
        values = generator.normal(scale=0.1, size=leaf.shape).astype(leaf.dtype)
        return np.abs(values) + np.float32(0.5) if keys[-1].key == "var" else values

    return jax.tree_util.tree_map_with_path(draw, architectures.shapes(model, shape))


def pruned(weights, density):
    """A mask of the largest weights."""
    size = np.abs(np.asarray(weights))
    return size >= np.quantile(size, 1 - density)


def shared(weights, bits, mask):
    """Clusters as `quantize.kmeans` gives them, of centroids used equally often."""
    weights, count = np.asarray(weights), 2**bits - 1
    codebook = np.quantile(weights[mask], (np.arange(count) + 0.5) / count).astype("f4")
    nearest = np.searchsorted((codebook[1:] + codebook[:-1]) / 2, weights) + 1
    codebook = jnp.asarray(np.append(np.float32(0), codebook))
    return quantize.Clusters(codebook, np.uint8(np.where(mask, nearest, 0)), mask, np.array(True))


def stored(variables, schemes):
    """The variables, their kernels by these functions in turn."""
    turn = itertools.cycle(schemes)

    def store(keys, leaf):
        return next(turn)(jnp.asarray(leaf)) if keys[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(store, variables)


def flat(tree):
    return {
        jax.tree_util.keystr(keys, simple=True, separator="/"): leaf
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


class Head(NamedTuple):
    packed: bytes
    json: dict
    table: int  # where it begins
    streams: list  # bytes


def head(data):
    """A file's parts; checksums are not looked at."""
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
    return Head(text, json.loads(zlib.decompress(text, -15)), table, streams)


def sealed(data):
    """The same bytes with all checksums made right, as far as they can be found."""
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
    found = []
    for _ in range(count):
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        found.append(value)
    return found, at


def forged(header, streams, size=None):
    """A file with right checksums of any header, JSON values or bytes; `size` as it is declared."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(text) + deflate.flush()
    fields = (len(packed), len(text) if size is None else size, len(streams))
    data = b"\x93CNA\x01" + b"".join(map(number, fields)) + packed
    data += b"".join(number(len(stream)) + bytes(4) for stream in streams)
    return sealed(data + bytes(4) + b"".join(streams))
