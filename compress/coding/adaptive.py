"""Context-adaptive coding of arrays of integers in which zeros may prevail. Read `encode` first.

For another decoder, this is the format. The array, in C order, is a matrix whose columns are its
last axis and whose rows are all others (one row if it has one axis or none). The data are:

1. Four numbers (LEB128): the lanes A that are asked for, the lanes B that go on, the lag L, and
   16 r + c, where 2^r and 2^c are the inertia of rows and columns (`places`).
2. The states of the lanes and the words, as `rans` writes and reads them.

If the matrix has fewer columns than A, and fewer columns than rows, it is transposed. Each lane has
the next ⌈columns / A⌉ columns. First, if there is a symbol of zero, the matrix says of each entry
whether it is another symbol: `places`. Then B lanes go on with the other symbols: `planes`. Signs
and sizes of symbols count from that of zero, which has neither. Without one they count from the
middle M = ⌊K / 2⌋ of the K possible symbols: M is positive, M − 1 negative, and both have size 0.
The data have no checksum, no shape and no K, which are the archive's.

Source: Marpe, Schwarz & Wiegand 2003 (CABAC); Wiedemann et al., arXiv:1907.11900 (DeepCABAC), for
networks. Departs: rANS in lanes; the contexts of `places` and `planes`.
"""

# N entries, R rows, C columns, K symbols

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.coding import fields, likeness, places, planes, rans
from compress.coding.planes import Field, Sizes, Symbols

LEVELS = 1 << 16  # the most symbols
FREE_STEPS, STEPS_A_BYTE = 1 << 12, 16  # that a decoder takes at most: so long, so many lanes
_PLACES_A_LANE, _SYMBOLS_A_LANE = 80, 500  # bytes that are worth a lane
_PROMISING = 0.99  # of another code's bytes, which expected ones must be below


def encode(symbols: Any, levels: int, zero: int | None) -> bytes:
    """Encodes an array by what is near each of its entries.

    Args:
      symbols: integers of any shape, 0 … levels − 1, in the order of what they stand for.
      levels: K, 1 … 65,536.
      zero: the symbol that stands for zero; None if no entry is zero.

    Returns:
      The format above. Equal symbols give equal bytes, whatever their type.

    Raises:
      ValueError: a symbol is out of range, or the symbols are not integers.
    """
    symbols = np.asarray(symbols)
    _check(levels, zero)
    if symbols.dtype.kind not in "biu":
        raise ValueError(f"symbols are {symbols.dtype}, not integers")
    if symbols.size and not 0 <= int(symbols.min()) <= int(symbols.max()) < levels:
        raise ValueError(f"symbols {symbols.min()}…{symbols.max()} are not within 0…{levels - 1}")
    matrix = symbols.astype(np.int64).reshape(_rows_columns(symbols.shape))
    signs = _signs(matrix, levels, zero)
    lanes, fewer = _lanes(signs, matrix, _sizes(levels, zero)[1])
    while True:
        data, steps = _encoded(matrix, signs, (lanes, fewer), levels, zero)
        if max(steps) <= _most_steps(data) or min(lanes, fewer) >= LEVELS:
            return data
        lanes, fewer = min(2 * lanes, LEVELS), min(2 * fewer, LEVELS)  # fewer bytes than expected


def _encoded(
    matrix: np.ndarray, signs: np.ndarray, lanes: tuple[int, int], levels: int, zero: int | None
) -> tuple[bytes, tuple[int, int]]:
    """Returns the data, and the steps that a decoder takes: of places, and of symbols."""
    middle, sizes = _sizes(levels, zero)
    layout = _layout(matrix.shape, lanes[0])
    if layout.transposed:
        matrix, signs = matrix.T.copy(), signs.T.copy()
    alike = likeness.of(signs)
    writer, fewer = rans.Writer(layout.lanes), min(lanes[1], layout.lanes)
    if zero is not None and matrix.size:
        places.code(writer, signs != 0, True, layout.stride, alike)
    writer.narrow(fewer)
    at = np.flatnonzero(signs)
    positive = signs.ravel()[at] > 0
    size = np.abs(matrix.ravel()[at] - middle) - int(zero is not None)
    size += np.where(positive | (zero is not None), 0, -1)
    field = Field(at, matrix.size, matrix.shape[1], alike.lag)
    planes.code(writer, fewer, field, sizes, Symbols(positive, size))
    head = (lanes[0], fewer, alike.lag, 16 * alike.row + alike.column)
    steps = (layout.steps if zero is not None else 0, -(-at.size // fewer) * sizes.bits)
    return b"".join(map(fields.number, head)) + writer.bytes(), steps


def promises(symbols: np.ndarray, levels: int, zero: int | None, bytes_: int) -> bool:
    """Returns whether `encode` is likely to need fewer than these bytes.

    It is where frequencies alone give less, or where rows, columns or neighbours differ enough.

    Args:
      symbols: as of `encode`, as are the next two.
      levels: K.
      zero: the symbol of zero.
      bytes_: of another code.
    """
    _check(levels, zero)
    matrix = np.asarray(symbols).astype(np.int64).reshape(_rows_columns(np.shape(symbols)))
    signs = _signs(matrix, levels, zero)
    if not signs.size or likeness.lag(signs):
        return bool(signs.size)
    learning = np.unique(matrix).size * math.log2(1 + np.count_nonzero(signs)) / 16
    bits = signs != 0
    expected = (
        sum(likeness.expected(signs, matrix)) - likeness.uneven(bits) - likeness.uneven(bits.T)
    )
    return expected + learning < _PROMISING * bytes_


def decode(
    data: bytes | memoryview, shape: Sequence[int], levels: int, zero: int | None
) -> np.ndarray:
    """Returns the symbols that `encode` was given, [N] uint8, or uint16 for more than 256.

    What is allocated is in proportion to N, and the steps that are taken to the data's bytes.

    Raises:
      ValueError: the data end early or late, or contradict themselves.
    """
    _check(levels, zero)
    view, at, head = memoryview(data).cast("B"), 0, []
    for _ in range(4):
        value, at = fields.read_number(view, at)
        head.append(value)
    lanes, fewer, lag, inertia = head
    layout = _layout(_rows_columns(shape), lanes)
    if not 1 <= fewer <= layout.lanes or lag == 1 or lag >= max(layout.rows, 1):
        raise ValueError(f"{fewer} of {layout.lanes} lanes and a lag of {lag} do not fit")
    if inertia >= places.INERTIA**2:
        raise ValueError(f"an inertia of {inertia} is not below {places.INERTIA**2}")
    middle, sizes = _sizes(levels, zero)
    size = layout.rows * layout.columns
    kept = np.ones((layout.rows, layout.columns), bool)
    _check_steps(layout.steps if zero is not None else 0, view)
    reader = rans.Reader(view[at:], layout.lanes)
    if zero is not None and size:
        kept[:] = False
        alike = places.Likeness(lag, *divmod(inertia, places.INERTIA))
        places.code(reader, kept, False, layout.stride, alike)
    reader.narrow(fewer)
    place = np.flatnonzero(kept)
    _check_steps(-(-place.size // fewer) * sizes.bits, view)
    found = planes.code(reader, fewer, Field(place, size, layout.columns, lag), sizes, None)
    reader.end()
    beyond = np.where(found.positive, sizes.positive, sizes.negative)
    if (found.sizes >= beyond).any():
        raise ValueError(f"a symbol is beyond the {levels} possible ones")
    symbols = np.full(size, middle, np.uint8 if levels <= 256 else np.uint16)
    away = found.sizes + int(zero is not None)
    symbols[place] = np.where(found.positive, middle + away, middle - away - (zero is None))
    if layout.transposed:
        return symbols.reshape(layout.rows, layout.columns).T.ravel()
    return symbols


def chances(signs: Any, kept: Any) -> np.ndarray:
    """Returns how likely `encode` finds it that each entry of an array is not zero.

    Args:
      signs: numbers of any shape; the signs of the entries.
      kept: bool, of that shape: which entries are not zero.

    Returns:
      Numbers of that shape, within 0 and 1.
    """
    shape = np.shape(kept)
    signs = np.asarray(signs).reshape(_rows_columns(shape))
    matrix = np.asarray(kept, bool).reshape(signs.shape)
    lanes, _ = _lanes(np.where(matrix, signs, 0), matrix.astype(np.int64), Sizes(1, 1))
    layout = _layout(matrix.shape, lanes)
    if layout.transposed:
        matrix, signs = matrix.T.copy(), signs.T
    alike = likeness.of(np.where(matrix, signs, 0))
    seen = places.code(rans.Writer(layout.lanes), matrix, True, layout.stride, alike) / rans.ONE
    return (seen.T if layout.transposed else seen).reshape(shape)


class _Layout(NamedTuple):
    rows: int
    columns: int
    transposed: bool
    stride: int  # columns of a lane
    lanes: int

    @property
    def steps(self) -> int:
        return self.rows * self.stride


def _layout(shape: tuple[int, int], lanes: int) -> _Layout:
    """Returns how the lanes that are asked for share a matrix."""
    rows, columns = shape
    if not 1 <= lanes <= LEVELS:
        raise ValueError(f"{lanes} lanes are not within 1…{LEVELS}")
    if transposed := columns < min(lanes, rows):
        rows, columns = columns, rows
    stride = max(-(-columns // lanes), 1)
    return _Layout(rows, columns, transposed, stride, max(-(-columns // stride), 1))


def _rows_columns(shape: Sequence[int]) -> tuple[int, int]:
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def _sizes(levels: int, zero: int | None) -> tuple[int, Sizes]:
    """Returns the symbol from which signs and sizes count, and how many sizes there are."""
    if zero is None:
        return levels // 2, Sizes(levels // 2, levels - levels // 2)
    return zero, Sizes(zero, levels - zero - 1)


def _signs(matrix: np.ndarray, levels: int, zero: int | None) -> np.ndarray:
    """Returns -1 and 1, and 0 for zeros."""
    middle, _ = _sizes(levels, zero)
    return np.sign(matrix - middle) if zero is not None else np.where(matrix < middle, -1, 1)


def _check(levels: int, zero: int | None) -> None:
    if not 1 <= levels <= LEVELS or not 0 <= (zero or 0) < levels:
        raise ValueError(f"{levels} symbols, {zero} that of zero, are not within 1…{LEVELS}")


def _most_steps(data: bytes | memoryview) -> int:
    return FREE_STEPS + STEPS_A_BYTE * len(data)


def _check_steps(steps: int, view: memoryview) -> None:
    if steps > _most_steps(view):
        raise ValueError(f"{len(view)} bytes take {steps} steps: at most {_most_steps(view)}")


def _lanes(signs: np.ndarray, matrix: np.ndarray, sizes: Sizes) -> tuple[int, int]:
    """Returns how many lanes to ask for, and how many go on.

    Each costs bytes, so there are as many as the expected bytes bear, and enough for the decoder's
    most steps.
    """
    count, kept = signs.size, int(np.count_nonzero(signs))
    of_places, of_symbols = likeness.expected(signs, matrix)
    most = FREE_STEPS + STEPS_A_BYTE / 2 * (of_places + of_symbols)
    fewer = max(of_symbols / _SYMBOLS_A_LANE, kept * sizes.bits / most)
    lanes = max(of_places / _PLACES_A_LANE, 1.5 * count / most) if count > kept else 1
    fewer = min(max(round(fewer), 1), LEVELS)
    return min(max(math.ceil(lanes), fewer), LEVELS), fewer
