"""A network of integers as `integers.h` reads it: its program, and its weights in one array."""

# C O channels in and out, g channels of a group, b blocks of 16 outputs

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from groundwork.architectures.cpu.integers_nodes import (
    Factor,
    Join,
    Network,
    Node,
    Pick,
    Pool,
    Product,
    Range,
    Round,
    Scale,
    Shuffle,
    Sum,
    Table,
    Total,
    View,
    Weights,
)

WORDS = 1  # the form of products that takes 16 bits; all others take 8
LANES = 16
# Numbers of inputs that go by integers_winograd.h: with fewer it takes longer than it saves, and
# with more, four times a sum would leave 32 bits.
TILED = range(32, 1800, 2)
# Twice the transform of kernels, which has halves.
TRANSFORM = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])
ROUND, PRODUCT, DEEP, SUM, SCALE, TABLE, VIEW, JOIN, LARGEST, AVERAGE, TOTAL, PICK, SHUFFLE = range(
    1, 14
)


def packed(
    network: Network, weights: Sequence[Weights], form: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the program [fields] int64 and the packed weights [bytes] uint8."""
    parts: list[np.ndarray] = []
    nodes: list[int] = []
    for node, own in zip(network.nodes, weights, strict=True):
        kind, fields = _fields(node, own, form, parts)
        body = [kind, node.result, len(node.inputs), *node.inputs, *fields]
        nodes += [len(body) + 1, *body]
    whole = np.concatenate([np.zeros(0, np.uint8), *parts])
    sizes = [size for value in network.values for size in value]
    head = [form, whole.size, len(network.values), *sizes, network.given, len(network.results)]
    return np.array([*head, *network.results, *nodes], np.int64), whole


def _place(parts: list[np.ndarray], array: np.ndarray) -> int:
    """Adds the bytes of an array, and zeros up to 64; returns where they begin."""
    start = sum(part.size for part in parts)
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    parts.append(np.pad(flat, (0, -flat.size % 64)))
    return start


def _fields(node: Node, own: Weights, form: int, parts: list[np.ndarray]) -> tuple[int, list[int]]:
    """Returns the kind of a node and what it asks for; adds its weights to the parts."""
    match node.work:
        case Product() as work:
            return _product(work, own, form, parts)
        case Round(scale, limits):
            return ROUND, [struct.unpack("<i", struct.pack("<f", scale))[0], *limits]
        case Sum() as work:
            return SUM, list(_flat(work))
        case Scale() as work:
            return SCALE, list(_flat(work))
        case Total() as work:
            return TOTAL, list(_flat(work))
        case Table():
            return TABLE, [_place(parts, own["table"])]
        case View():
            return VIEW, []
        case Join():
            return JOIN, []
        case Pool(average, window, strides, before, fill, limits):
            rest = limits if average else ()
            return (AVERAGE if average else LARGEST), [*window, *strides, *before, fill, *rest]
        case Pick(rows, columns, channels, fill):
            return PICK, [*rows, *columns, *channels, fill]
        case Shuffle(groups):
            return SHUFFLE, [groups]
    raise AssertionError(node.work)


def _flat(work: Any) -> Iterator[int]:
    for field in work:
        if isinstance(field, Factor | Range):
            yield from field
        else:
            yield field


def _product(
    work: Product, own: Weights, form: int, parts: list[np.ndarray]
) -> tuple[int, list[int]]:
    """Returns kind and fields of a convolution."""
    kernel, bias = own["kernel"], own["bias"].astype(np.int64)
    groups, outputs = work.groups, work.kernel[3]
    if work.is_deep:
        width, block, lanes = LANES, 2 * LANES, _deep(kernel.reshape(-1, outputs))
    else:
        width, block = outputs // groups, LANES
        lanes = _tiled(kernel) if _is_tiled(work, form) else _lanes(kernel, work, form)
        if form != WORDS:  # the codes of the input are not less their zero
            bias = bias - work.zero * kernel.astype(np.int64).sum((0, 1, 2))
    channels = _channels(own, bias, width if not work.is_deep else outputs, block)
    (top, bottom), (left, right) = work.padding
    fields = [*work.kernel[:3], outputs // groups, groups, *work.strides, top, left, bottom, right]
    fields += [*work.dilation, work.zero, int(_is_tiled(work, form))]
    fields += [_place(parts, lanes), _place(parts, channels)]
    fields += [int(work.left), *work.range, *(_flat(work.sum) if work.sum else ())]
    return DEEP if work.is_deep else PRODUCT, fields


def _lanes(kernel: np.ndarray, work: Product, form: int) -> np.ndarray:
    """Returns a kernel as products take it.

    Its order: groups; parts of 4, 2 or 1 blocks of 16 outputs; taps; steps of four bytes; blocks of
    the part; outputs; the numbers of a step.
    """
    dtype, each = (np.int16, 2) if form == WORDS else (np.int8, 4)
    h, w, inputs = kernel.shape[:3]
    taps = kernel.reshape(h, w, inputs, work.groups, -1).transpose(3, 0, 1, 2, 4)
    if work.groups == 1 and work.dilation[1] == 1:  # taps of a row lie side by side
        taps = taps.reshape(work.groups, h, w * inputs, -1)
    else:
        taps = taps.reshape(work.groups, h * w, inputs, -1)
    empty = ((0, 0), (0, 0), (0, -taps.shape[2] % each), (0, -taps.shape[3] % LANES))
    taps = np.pad(taps, empty).astype(dtype)
    blocks = taps.shape[3] // LANES
    steps = taps.reshape(work.groups, taps.shape[1], -1, each, blocks, LANES)
    made = [
        steps[..., first : first + count, :].transpose(0, 1, 2, 4, 5, 3)
        for first, count in _parts(blocks)
    ]
    rows = [part.reshape(work.groups, -1) for part in made]
    return np.concatenate(rows, axis=1)


def _is_tiled(work: Product, form: int) -> bool:
    """Returns whether a convolution goes by tiles, with fewer products."""
    simple = work.groups == 1 and (work.strides, work.dilation) == ((1, 1), (1, 1))
    return form == WORDS and simple and work.kernel[:2] == (3, 3) and work.kernel[2] in TILED


def _tiled(kernel: np.ndarray) -> np.ndarray:
    """Returns the transformed kernel: 16 places, then parts of blocks as `_lanes` has them."""
    sums = np.einsum("ai,bj,ijcd->abcd", TRANSFORM, TRANSFORM, kernel.astype(np.int64))
    inputs, outputs = kernel.shape[2:]
    padded = np.pad(sums.reshape(16, inputs, outputs), ((0, 0), (0, 0), (0, -outputs % LANES)))
    blocks = padded.shape[2] // LANES
    steps = padded.astype(np.int16).reshape(16, inputs // 2, 2, blocks, LANES)
    made = [
        steps[:, :, :, first : first + count].transpose(0, 1, 3, 4, 2).reshape(16, -1)
        for first, count in _parts(blocks)
    ]
    return np.concatenate(made, axis=1)


def _parts(blocks: int) -> Iterator[tuple[int, int]]:
    """Yields the first block of each part, and how many it has: 4, 2 or 1."""
    first = 0
    while first < blocks:
        count = 4 if blocks - first >= 4 else 2 if blocks - first >= 2 else 1
        yield first, count
        first += count


def _deep(taps: np.ndarray) -> np.ndarray:
    """Returns kernels [taps, C] of single channels: blocks of 32, pairs of taps, halves, words.

    The halves have the channels that vpunpcklwd and vpunpckhwd bring together.
    """
    count, channels = taps.shape
    taps = np.pad(taps, ((0, count % 2), (0, -channels % 32))).astype(np.int16)
    pairs = taps.reshape(
        -1, 2, taps.shape[1] // 32, 4, 2, 4
    )  # pair, tap, block, lane, half, channel
    return pairs.transpose(2, 0, 4, 3, 5, 1)


def _channels(own: Weights, bias: np.ndarray, width: int, block: int) -> np.ndarray:
    """Returns factors and biases as blocks of 16 outputs; groups of `width` begin a block each."""

    def blocks(array: np.ndarray) -> np.ndarray:
        groups = array.astype(np.int64).reshape(-1, width)
        return np.pad(groups, ((0, 0), (0, -width % block))).reshape(-1, LANES)

    mantissa, shift = blocks(own["mantissa"]), blocks(own["shift"])
    right = 31 + np.maximum(-shift, 0)
    whole = np.int64(1) << (right - 1)
    scales = [
        part.reshape(-1, LANES // 2, 2).transpose(0, 2, 1).reshape(-1, LANES)
        for part in (mantissa, whole, right, np.maximum(shift, 0))
    ]
    wrapped = blocks(bias).astype(np.int32)
    return np.concatenate(
        [
            *(part.view(np.uint8) for part in map(np.ascontiguousarray, scales)),
            np.ascontiguousarray(wrapped).view(np.uint8),
        ],
        axis=1,
    )
