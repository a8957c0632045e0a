"""Arrays that depend on no input, and what equations make of them. Read `Constant`, then `folded`.

The usual equations are computed by numpy in float32, whatever float type they name, since hundreds
of small arrays would each cost JAX a compilation; JAX computes the others.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.traced.walk import bind


class Constant(NamedTuple):
    """An array and where it comes from.

    Attributes:
      array: float32 if it is of floats.
      source: the path of the parameter of which it was made; empty where there is none.
      codes: int8 of the array's shape where the array is codes × scales.
      scales: float32 of the array's shape, in which entries repeat.
    """

    array: np.ndarray
    source: str = ""
    codes: np.ndarray | None = None
    scales: np.ndarray | None = None

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> "Constant":
        """Returns the array after its entries were moved, and its integers with it."""
        if self.codes is None or self.scales is None:
            return Constant(move(self.array), self.source)
        return Constant(move(self.array), self.source, move(self.codes), move(self.scales))


def constant(array: Any, source: str = "") -> Constant:
    """Returns an array as a constant."""
    array = np.asarray(array)
    return Constant(array.astype(name_of(array.dtype), copy=False), source)


def name_of(dtype: Any) -> str:
    """Returns the name of the dtype that stands for another one: all floats are float32."""
    return "float32" if jnp.issubdtype(dtype, jnp.floating) else np.dtype(dtype).name


def is_float(dtype: Any) -> bool:
    """Returns whether a dtype is one of floats."""
    return jnp.issubdtype(dtype, jnp.floating)


def compact(array: np.ndarray, shape: Sequence[int] = ()) -> np.ndarray:
    """Returns the least array that numpy broadcasts to the same entries beside another one.

    Args:
      array: of at most the other one's rank.
      shape: of the other one; an axis stays where that one is shorter. () makes all axes free.
    """
    full = (1,) * (array.ndim - len(shape)) + tuple(shape) if shape else array.shape
    for axis, size in enumerate(array.shape):
        first = array[(slice(None),) * axis + (slice(0, 1),)]
        repeats = array.strides[axis] == 0 or size < 2 or bool(np.all(array == first))
        if size != 1 and repeats and full[axis - array.ndim] == size:
            array = first
    while array.ndim and array.shape[0] == 1:
        array = array[0]
    return np.ascontiguousarray(array).reshape(array.shape)


def folded(equation: Any, given: Sequence[Constant]) -> list[Constant]:
    """Returns what an equation makes of constants.

    Args:
      equation: of a jaxpr.
      given: its inputs.
    """
    name, params = equation.primitive.name, equation.params
    if name in MOVES:
        return [given[0].moved(lambda array: MOVES[name](array, **params))]
    source = _source(given)
    arrays = [one.array for one in given]
    if name == "concatenate":
        return [_concatenated(given, params["dimension"], source)]
    with np.errstate(all="ignore"):
        if name in _OF_ENTRIES:
            outputs = [_OF_ENTRIES[name](*arrays)]
        elif name in _WITH_PARAMETERS:
            outputs = [_WITH_PARAMETERS[name](*arrays, **params)]
        else:
            outputs = _by_jax(equation, arrays)
    outs = zip(outputs, equation.outvars, strict=True)
    return [constant(np.asarray(o).astype(name_of(v.aval.dtype)), source) for o, v in outs]


def _by_jax(equation: Any, arrays: Sequence[np.ndarray]) -> list[Any]:
    """Returns what the equation itself makes of arrays, on the CPU."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        dtypes = [variable.aval.dtype for variable in equation.invars]
        return bind(equation, [jnp.asarray(a, d) for a, d in zip(arrays, dtypes, strict=True)])


def _source(given: Sequence[Constant]) -> str:
    sources = [one.source for one in given if one.source]
    kernels = [source for source in sources if source.rpartition("/")[2] == "kernel"]
    return (kernels or sources or [""])[0]


def _concatenated(given: Sequence[Constant], axis: int, source: str) -> Constant:
    joined = functools.partial(np.concatenate, axis=axis)
    array = joined([one.array for one in given])
    if any(one.codes is None for one in given):
        return Constant(array, source)
    codes, scales = ([getattr(one, part) for one in given] for part in ("codes", "scales"))
    return Constant(array, source, joined(codes), joined(scales))


def _broadcast(
    array: np.ndarray, shape: Sequence[int], broadcast_dimensions: Sequence[int], **_: Any
) -> np.ndarray:
    sizes = [1] * len(shape)
    for axis, size in zip(broadcast_dimensions, array.shape, strict=True):
        sizes[axis] = size
    return np.broadcast_to(array.reshape(sizes), shape)


def _slice(
    array: np.ndarray,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None,
) -> np.ndarray:
    steps = strides or (1,) * array.ndim
    return array[tuple(map(slice, start_indices, limit_indices, steps))]


def _select(which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    which = np.broadcast_to(which, cases[0].shape)
    return np.choose(which.astype(int), cases) if len(cases) > 2 else np.where(which, *cases[::-1])


MOVES: Mapping[str, Callable[..., np.ndarray]] = {
    "reshape": lambda array, new_sizes, **_: array.reshape(new_sizes),
    "squeeze": lambda array, dimensions, **_: np.squeeze(array, tuple(dimensions)),
    "expand_dims": lambda array, dimensions, **_: np.expand_dims(array, tuple(dimensions)),
    "transpose": lambda array, permutation, **_: array.transpose(permutation),
    "rev": lambda array, dimensions, **_: np.flip(array, dimensions),
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "tile": lambda array, reps, **_: np.tile(array, reps),
}
"""Equations of one constant that move its entries, and repeat or leave out some."""

_OF_ENTRIES: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x.astype(np.float64)),
    "exp": np.exp,
    "log": np.log,
    "square": np.square,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "select_n": _select,
}

_WITH_PARAMETERS: Mapping[str, Callable[..., Any]] = {
    "convert_element_type": lambda array, new_dtype, **_: array.astype(name_of(new_dtype)),
    "reduce_sum": lambda array, axes, **_: (
        array.sum(tuple(axes), dtype=np.float64)
        if is_float(array.dtype)
        else array.sum(tuple(axes))
    ),
    "reduce_max": lambda array, axes, **_: array.max(tuple(axes)),
    "integer_pow": lambda array, y, **_: np.power(array, array.dtype.type(y)),
}
