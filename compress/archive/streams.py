"""Codes one array as streams of bytes, and decodes it. Read `encode` first.

Each array gets the smallest of several codings, which its `entries.Entry` describes. It has these
streams of its own, in this order:

- `codebook`: the values of a palette, or the scales, each as the bytes of the dtype `stored`, the
  lowest first. The values of a palette rise as unsigned integers of the same bits. Where gaps are
  stored, +0.0 is left out, and is symbol 0. If the group is 0, they rise as numbers, -0.0 before
  0.0; and if the bits are 1, +0.0 is left out, and is the symbol between.
- `index`: the gaps of `compress.coding.sparse`, encoded by `compress.coding.huffman`.
- `weights`: the symbols, in groups, encoded likewise: of all entries, or of those that gaps name,
  where a filler has the symbol of zero. Symbols 0 fill the last group. If the group is 0, they are
  the data of `compress.coding.adaptive`, with the places of zeros.

The plain numbers of all arrays of one dtype (`stored`) share a stream (`plain.pack`).
"""

# N entries of the array, K symbols, E entries that are stored

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from compress.archive import codings, plain
from compress.archive.entries import ADAPTIVE, LEVELS, Entry
from compress.coding import huffman, sparse
from compress.quantize import Binary, Uniform, slices

STREAM_BYTES, KEY_BYTES = 6, 3  # the approximate cost of a stream in the table, of a header's key


class Coded(NamedTuple):
    """An array as it goes into the file."""

    entry: Entry
    streams: list[bytes]  # one for each of `entry.kinds`
    numbers: np.ndarray  # [≥ 0] of dtype `entry.stored`: its part of the shared stream

    @property
    def cost(self) -> int:
        """The approximate number of bytes."""
        beside = STREAM_BYTES * len(self.streams) + KEY_BYTES * len(self.entry.to_json())
        return sum(map(len, self.streams)) + self.numbers.nbytes + beside


def encode(leaf: Any, array: np.ndarray, least: int = 0) -> Coded:
    """Returns the smallest coding that gives the array back bit for bit; the first of equal ones.

    Args:
      leaf: the stored form, or the array, that the array was made from. The integers and scales of
        a form are used.
      array: finite, of one of `entries.DTYPES`.
      least: the bytes of the shortest code in context that is taken.
    """
    found = smallest(leaf, array, least)
    if np.array_equal(plain.bits(decode(*found)), plain.bits(array)):
        return found
    return next(_plain(array))  # a scale is too small for a normal float, and XLA takes it for 0


def smallest(leaf: Any, array: np.ndarray, least: int = 0) -> Coded:
    """Returns what `encode` tries first; nobody has looked whether it gives the array back."""
    all_of_them = [*_plain(array), *_scaled(leaf, array), *_palettes(array)]
    taken = [c for c in all_of_them if not c.entry.adaptive or len(c.streams[-1]) >= least]
    return min(taken, key=lambda c: c.cost)


def decode(entry: Entry, streams: Sequence[bytes | memoryview], numbers: np.ndarray) -> np.ndarray:
    """Returns the array.

    Args:
      entry: as `entries.from_json` gives it. N bounds what is allocated.
      streams: one for each of the entry's `kinds`.
      numbers: the array's part of the shared stream, with `plain_count` numbers.

    Raises:
      ValueError: the streams do not fit the entry or contradict themselves.
    """
    dtype = jnp.dtype(entry.dtype)
    parts = dict(zip(entry.kinds, streams, strict=True))
    at = None
    if entry.bits and not entry.adaptive:
        gaps = huffman.decode(parts["index"], entry.size)
        at = sparse.positions(gaps, entry.bits, entry.size)
    if entry.form == "plain":
        return _spread(numbers.astype(dtype), at, dtype.type(0), entry)
    table = plain.read(parts["codebook"], entry.stored).astype(dtype)
    if entry.form == "palette":
        zero = codings.rising(table)[1] if entry.adaptive else 0
        values = [table[:zero], np.zeros(int(entry.bits > 0), dtype), table[zero:]]
        symbols = _symbols(entry, parts["weights"], at, table, 0)
        return np.concatenate(values)[symbols] if symbols.size else symbols.astype(dtype)
    symbols = _symbols(entry, parts["weights"], at, table, -entry.lowest)
    sizes = [1] * len(entry.shape)
    if entry.axis >= 0:
        sizes[entry.axis] = entry.shape[entry.axis]
    if table.size != math.prod(sizes):
        raise ValueError(f"{table.size} scales, not {math.prod(sizes)}")
    with np.errstate(over="ignore"):  # the caller refuses numbers that are not finite
        return (symbols.astype(np.int32) + entry.lowest).astype(dtype) * table.reshape(sizes)


def _symbols(
    entry: Entry, stream: bytes | memoryview, at: np.ndarray | None, table: np.ndarray, fill: int
) -> np.ndarray:
    """Returns the symbols of the whole array, which are `fill` where nothing is stored."""
    if entry.adaptive:
        return codings.from_context(entry, table, stream)
    levels = entry.levels or table.size + (entry.bits > 0)
    count = entry.size if at is None else at.size
    symbols = codings.ungrouped(stream, count, levels, entry.group)
    if symbols.size and symbols.max() >= levels:
        raise ValueError(f"symbol {symbols.max()} of {levels}")
    if at is not None:  # the symbol of zero may need 16 bits where the others do not
        symbols = symbols.astype(np.promote_types(symbols.dtype, np.min_scalar_type(fill)))
    return _spread(symbols, at, fill, entry)


def plain_count(entry: Entry, streams: Sequence[bytes | memoryview]) -> int:
    """Returns how many numbers of the shared stream belong to this array.

    Raises:
      ValueError: they are more than the array has.
    """
    if entry.form != "plain":
        return 0
    count = codings.declared_count(streams[0]) if entry.bits else entry.size
    if count > entry.size:
        raise ValueError(f"{count} entries of {entry.size}")
    return count


def _plain(array: np.ndarray) -> Iterator[Coded]:
    """Yields the coding of all numbers, then those of the numbers that are not zero."""
    held = plain.narrowest(array)
    entry = Entry(array.shape, array.dtype.name, held=held)
    yield Coded(entry, [], array.ravel().astype(entry.stored))
    kept = plain.bits(array) != 0
    if array.size and kept.mean() < 0.9:
        for bits in codings.widths(kept.mean(), array.ndim):
            index = sparse.gaps(kept, bits)
            values = np.zeros(index.gaps.size, entry.stored)
            values[index.kept] = array.ravel()[kept].astype(entry.stored)
            sparser = Entry(array.shape, array.dtype.name, held=held, bits=bits)
            yield Coded(sparser, [huffman.encode(index.gaps)], values)


def _palettes(array: np.ndarray) -> Iterator[Coded]:
    """Yields the codings by a palette, if the array has few enough values."""
    if not array.size:
        return
    all_bits = plain.bits(array)
    if np.unique(all_bits[: 2 * LEVELS]).size > LEVELS:  # sorting all of them would take long
        return
    nonzero = all_bits != 0
    unsigned, ranks = np.unique(all_bits[nonzero], return_inverse=True)
    symbols = np.zeros(array.size, np.int64)
    symbols[nonzero] = ranks
    fill = None
    if ranks.size < array.size:  # zero comes first
        fill = 0
        unsigned = np.append(np.zeros(1, unsigned.dtype), unsigned)
        symbols[nonzero] += 1
    values = unsigned.view(array.dtype)
    if values.size > LEVELS or values.nbytes >= array.nbytes:
        return
    least = 1 << 62
    for bits, group, coded in codings.candidates(symbols, values.size, fill, array.ndim):
        least = min(least, sum(map(len, coded)))
        table = values[1:] if bits else values
        held = plain.narrowest(table)
        entry = Entry(array.shape, array.dtype.name, "palette", held, bits, group)
        codebook = plain.to_bytes(table.astype(entry.stored))
        yield Coded(entry, [codebook, *coded], np.zeros(0, entry.stored))
    order, zero = codings.rising(values)
    rank = np.argsort(order)[symbols].reshape(array.shape)
    for code in codings.in_context(rank, values.size, None if fill is None else zero, least):
        table = values[order] if fill is None else values[order[order > 0]]
        held, bits = plain.narrowest(table), int(fill is not None)
        entry = Entry(array.shape, array.dtype.name, "palette", held, bits, ADAPTIVE)
        codebook = plain.to_bytes(table.astype(entry.stored))
        yield Coded(entry, [codebook, code], np.zeros(0, entry.stored))


def _scaled(leaf: Any, array: np.ndarray) -> Iterator[Coded]:
    """Yields the codings by integers and scales, if the leaf is a form that has them."""
    match leaf:
        case Uniform():
            zero_point = slices.over(np.asarray(leaf.zero_point), array.ndim).astype(np.int64)
            integers = np.asarray(leaf.values).astype(np.int64) - zero_point
        case Binary():
            integers = np.asarray(leaf.signs).astype(np.int64)
        case _:
            return
    scale = slices.over(np.asarray(leaf.scale), array.ndim)
    axes = [axis for axis, size in enumerate(scale.shape) if size > 1]
    fits = scale.ndim in (0, array.ndim) and len(axes) < 2 and integers.shape == array.shape
    if not (fits and array.size and scale.dtype == array.dtype and array.dtype.kind == "f"):
        return
    lowest = int(integers.min())
    levels = int(integers.max()) - lowest + 1
    if levels > LEVELS or array.dtype.itemsize < 4:
        return
    held, axis = plain.narrowest(scale), (axes or [-1])[0]
    fill = -lowest if lowest <= 0 < lowest + levels else None
    symbols = (integers - lowest).ravel()
    least = 1 << 62
    for bits, group, coded in codings.candidates(symbols, levels, fill, array.ndim):
        least = min(least, sum(map(len, coded)))
        entry = Entry(
            array.shape, array.dtype.name, "scaled", held, bits, group, lowest, levels, axis
        )
        codebook = plain.to_bytes(scale.ravel().astype(entry.stored))
        yield Coded(entry, [codebook, *coded], np.zeros(0, entry.stored))
    zero = fill if fill is not None and (symbols == fill).any() else None
    for code in codings.in_context(symbols.reshape(array.shape), levels, zero, least):
        bits = int(zero is not None)
        entry = Entry(
            array.shape, array.dtype.name, "scaled", held, bits, ADAPTIVE, lowest, levels, axis
        )
        codebook = plain.to_bytes(scale.ravel().astype(entry.stored))
        yield Coded(entry, [codebook, code], np.zeros(0, entry.stored))


def _spread(values: np.ndarray, at: np.ndarray | None, fill: Any, entry: Entry) -> np.ndarray:
    """Returns the array that has these values at their positions, or everywhere if None is given.

    The other entries are `fill`.
    """
    if values.size != (entry.size if at is None else at.size):
        raise ValueError(f"{values.size} values do not fit")
    if at is None:
        return values.reshape(entry.shape)
    array = np.full(entry.size, fill, values.dtype)
    array[at] = values
    return array.reshape(entry.shape)
