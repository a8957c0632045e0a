"""Layers of a network in evaluation that oneDNN computes in one call: see `chain.h`.

A `Chain` is what is computed, as data. Its weights are packed once, into the layouts that oneDNN
asks for; then each call takes the packed weights and the inputs.
"""

# N batch, H W image, C channels

import ctypes
import functools
import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork.architectures.cpu import library

Sizes = tuple[int, int, int, int]
Bounds = tuple[float, float]
FREE: Bounds = (-math.inf, math.inf)
KINDS = (
    *("convolve", "dense", "affine", "add", "concat", "shortcut", "total"),
    *("max_pool", "sum_pool", "sparse"),
)
WEIGHTED = (*KINDS[:3], "sparse")  # what has weights
FORMS = ("direct", "im2col", "mec")  # of a convolution: oneDNN's own, and those of `unfold.h`
LONGEST = 1 << 20  # bytes of oneDNN's answer


class Node(NamedTuple):
    """What makes one value.

    Attributes:
      kind: of `KINDS`. A convolution, a product [N, 1, 1, C] × [C, O], and an affine map of
        channels have two weights: the kernel (or scale) and the bias [O] (or shift). A sparse
        layer is either of the first two.
      inputs: numbers of values; a second one of a layer is added to its result.
      result: the number of the value.
      fields: of a convolution its descriptor, and the place of its form in `FORMS`, which may be
        left out where it is direct; of a sparse layer the descriptor and what is stored of its
        kernel, see `sparse.Form`; of a shortcut the strides, and channels before; of a pooling the
        window, the strides, and rows above and columns left of the images (−: fewer).
      bounds: of the result.
    """

    kind: str
    inputs: tuple[int, ...]
    result: int
    fields: tuple[int, ...] = ()
    bounds: Bounds = FREE


class Chain(NamedTuple):
    """Values, of which the first ones are given, and the nodes that make the others, in order."""

    sizes: tuple[Sizes, ...]
    given: int
    results: tuple[int, ...]
    nodes: tuple[Node, ...]

    def program(self) -> np.ndarray:
        """Returns it as `chain.h` reads it, [fields] int64."""
        fields = [len(self.sizes), *(size for one in self.sizes for size in one)]
        fields += [self.given, len(self.results), *self.results]
        for node in self.nodes:
            bounds = () if node.kind == "concat" else map(_bits, node.bounds)
            inputs = (len(node.inputs), *node.inputs)
            body = [KINDS.index(node.kind) + 1, node.result, *inputs, *node.fields, *bounds]
            fields += [len(body) + 1, *body]
        return np.array(fields, np.int64)


def computed(
    chain: Chain, weights: Sequence[jax.Array], given: Sequence[jax.Array]
) -> list[jax.Array]:
    """Returns the results [N, H, W, C] of a chain: by oneDNN where all its nodes are fast there.

    Args:
      chain: what is computed.
      weights: of all nodes, in order.
      given: the first values.
    """
    if any(name.startswith("ref") for name in implementations(chain)):
        return by_lax(chain, weights, given)
    return run(chain, pack(chain, weights), given)


def by_lax(
    chain: Chain, weights: Sequence[jax.Array], given: Sequence[jax.Array]
) -> list[jax.Array]:
    """Returns what `computed` does, by `jax.lax`."""
    values, left = dict(enumerate(given)), iter(weights)
    for node in chain.nodes:
        inputs = [values[value] for value in node.inputs]
        own = [next(left), next(left)] if node.kind in WEIGHTED else []
        made = _by_lax(node, inputs, own, chain.sizes[node.result])
        values[node.result] = jnp.clip(made, *node.bounds) if node.bounds != FREE else made
    return [values[value] for value in chain.results]


def _by_lax(node: Node, inputs: list[jax.Array], own: list[jax.Array], sizes: Sizes) -> jax.Array:
    """Returns what a node makes, without its bounds."""
    match node.kind:
        case "convolve" | "sparse":
            descriptor = node.fields[:20]
            top, bottom, left, right = descriptor[13:17]
            made = lax.conv_general_dilated(
                inputs[0].reshape(descriptor[2:6]),
                own[0].reshape(*descriptor[6:8], -1, descriptor[8]),
                descriptor[11:13],
                ((top, bottom), (left, right)),
                rhs_dilation=descriptor[17:19],
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=descriptor[19],
            )
            return sum(inputs[1:], (made + _wide(own[1], made)).reshape(sizes))
        case "dense":
            product = inputs[0].reshape(sizes[0], -1) @ own[0]
            return (product + _wide(own[1], product)).reshape(sizes)
        case "affine":
            return inputs[0] * _wide(own[0], inputs[0]) + _wide(own[1], inputs[0])
        case "add":
            return inputs[0] + inputs[1]
        case "concat":
            return jnp.concatenate(inputs, 3)
        case "total":
            return inputs[0].sum((1, 2), keepdims=True)
        case "max_pool" | "sum_pool":
            return _pooled(node, inputs[0], sizes)
    down, across, before = node.fields
    picked = inputs[0][:, ::down, ::across]
    after = sizes[3] - before - picked.shape[3]
    return jnp.pad(picked, [(0, 0)] * 3 + [(before, after)])


def _pooled(node: Node, images: jax.Array, sizes: Sizes) -> jax.Array:
    """Returns the result [N, H, W, C] of a pooling."""
    axes = zip(*(node.fields[place : place + 2] for place in (0, 2, 4)), strict=True)
    pads = [
        (before, (out - 1) * stride + size - before - within)
        for (size, stride, before), out, within in zip(
            axes, sizes[1:3], images.shape[1:3], strict=True
        )
    ]
    is_max = node.kind == "max_pool"
    return lax.reduce_window(
        images,
        jnp.asarray(-jnp.inf if is_max else 0, images.dtype),
        lax.max if is_max else lax.add,
        (1, *node.fields[:2], 1),
        (1, *node.fields[2:4], 1),
        ((0, 0), *pads, (0, 0)),
    )


def _wide(numbers: jax.Array, like: jax.Array) -> jax.Array:
    """Returns numbers [C] along the last axis of an array."""
    return jnp.broadcast_to(numbers, like.shape)


def pack(chain: Chain, weights: Sequence[jax.Array]) -> jax.Array:
    """Returns the weights of all nodes, in order, in oneDNN's layouts: [bytes] uint8."""
    shape = jax.ShapeDtypeStruct((_planned(chain)[0],), jnp.uint8)
    call = jax.ffi.ffi_call("architectures_pack", shape, vmap_method="sequential")
    return call(*weights, program=chain.program())


def run(chain: Chain, packed: jax.Array, given: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns the results [N, H, W, C] of a chain.

    Args:
      chain: what is computed.
      packed: see `pack`.
      given: the first values.
    """
    given = [jnp.asarray(array, jnp.float32) for array in given]
    shapes = [jax.ShapeDtypeStruct(chain.sizes[value], jnp.float32) for value in chain.results]
    call = jax.ffi.ffi_call("architectures_chain", shapes, vmap_method="sequential")
    return list(call(packed, *given, program=chain.program()))


def implementations(chain: Chain) -> list[str]:
    """Returns what oneDNN computes each node by; "" for what it does not."""
    return _planned(chain)[1].split("\n")[:-1]


@functools.lru_cache(maxsize=1024)
def scratch_bytes(chain: Chain) -> list[int]:
    """Returns the bytes of memory that each node needs beside weights, inputs and results.

    Raises:
      ValueError: oneDNN does not compute it; the error has its reason.
    """
    return list(map(int, _ask("architectures_scratch", chain)[1].split()))


@functools.lru_cache(maxsize=64)
def _planned(chain: Chain) -> tuple[int, str]:
    """Returns the bytes of the packed weights, and the names of implementations.

    Raises:
      ValueError: oneDNN does not compute it; the error has its reason.
    """
    return _ask("architectures_packed", chain)


def _ask(function: str, chain: Chain) -> tuple[int, str]:
    """Calls a function of the library and returns its number and its answer.

    Raises:
      ValueError: oneDNN does not compute the chain; the error has its reason.
    """
    loaded = library.load()
    if loaded is None:
        raise ValueError("oneDNN is not used here")
    program = chain.program()
    answer = ctypes.create_string_buffer(LONGEST)
    fields = program.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))
    call = getattr(loaded, function)
    call.restype = ctypes.c_int64
    number = call(answer, ctypes.c_int64(LONGEST), fields, ctypes.c_int64(program.size))
    if number < 0:
        raise ValueError(f"oneDNN: {answer.value.decode()}")
    return number, answer.value.decode()


def _bits(value: float) -> int:
    """Returns the bits of a double, as an integer."""
    return struct.unpack("<q", struct.pack("<d", value))[0]
