"""Any number of examples through a file that was made for a fixed number of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Call = Callable[..., Sequence[np.ndarray]]


def over(
    call: Call, shapes: Sequence[tuple[int, ...]], single: bool, stacked: bool = False
) -> Callable[..., Any]:
    """Returns a function that calls an engine as often as the examples need.

    Args:
      call: arrays of exactly these shapes → the engine's outputs.
      shapes: of the inputs, the batch B first.
      single: whether the result is the only output itself, and not a tuple of outputs.
      stacked: whether it is one array [number of outputs, N, …].

    Returns:
      A function of arrays [N, …], N a multiple of B, that gives arrays [N, …]. It raises ValueError
      about other shapes.
    """
    batch = shapes[0][0]

    def run(*inputs: Any) -> Any:
        arrays = [np.ascontiguousarray(array) for array in inputs]
        _check(arrays, shapes)
        parts = [
            call(*(array[start : start + batch] for array in arrays))
            for start in range(0, len(arrays[0]), batch)
        ]
        if len(parts) == 1:  # nothing is copied where one call is all
            joined = tuple(parts[0])
        else:
            joined = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
        return np.stack(joined) if stacked else joined[0] if single else joined

    return run


def typed(arrays: Sequence[np.ndarray], dtypes: Sequence[Any]) -> list[np.ndarray]:
    """Returns arrays in the dtypes of a file; ValueError where that would cut numbers off."""
    for array, dtype in zip(arrays, dtypes, strict=True):
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise ValueError(f"the file takes {np.dtype(dtype).name}, not {array.dtype.name}")
    return [array.astype(dtype, copy=False) for array, dtype in zip(arrays, dtypes, strict=True)]


def precision(given: str, made: str) -> str:
    """Returns in what an operation computes: `int8`, `float32` or the dtype of indices.

    What converts between integers and floats counts as `float32`.

    Args:
      given: the dtype of its first input.
      made: the dtype of its output.
    """
    if "float32" in (given, made):
        return "float32"
    return "int8" if made in ("int8", "uint8") else made


def _check(arrays: list[np.ndarray], shapes: Sequence[tuple[int, ...]]) -> None:
    if tuple(array.shape for array in arrays) == tuple(shapes):
        return
    fits = len(arrays) == len(shapes) and all(
        array.shape[1:] == shape[1:] and array.ndim and len(array) and not len(array) % shape[0]
        for array, shape in zip(arrays, shapes, strict=False)
    )
    if not fits or len({len(a) // shape[0] for a, shape in zip(arrays, shapes, strict=True)}) > 1:
        wanted = ", ".join(str(list(shape)).replace("[", "[N·", 1) for shape in shapes)
        given = ", ".join(str(list(array.shape)) for array in arrays) or "none"
        raise ValueError(f"the file takes arrays of shapes {wanted} for a whole N, not {given}")
