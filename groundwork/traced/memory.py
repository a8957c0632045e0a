"""The memory that a function's values need, by its traced computation; nothing is computed."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from groundwork.traced.macs import programs_in


def peak_bytes(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Returns the most bytes of values that `function(*args, **kwargs)` holds at once.

    Its operations are taken in the order in which it is traced. A value is held from the operation
    that computes it until the last one that takes it; the inputs of an operation and its outputs are
    held together, and none takes the place of another. Arguments and constants do not count, except
    that a program inside (of a scan, a jit) is one operation, to whose outputs the peak inside it is
    added. A compiler that fuses operations needs less, one that unfolds convolutions more.

    Args:
      function: anything that JAX traces.
      *args: arrays, or `jax.ShapeDtypeStruct`s.
      **kwargs: are passed on as they are.
    """
    return _peak(jax.make_jaxpr(lambda *args: function(*args, **kwargs))(*args).jaxpr)


def _peak(jaxpr: Any) -> int:
    last = {variable: len(jaxpr.eqns) for variable in jaxpr.outvars if _is_variable(variable)}
    for place in reversed(range(len(jaxpr.eqns))):
        for variable in jaxpr.eqns[place].invars:
            if _is_variable(variable):
                last.setdefault(variable, place)
    held: dict[Any, int] = {}
    peak = 0
    for place, equation in enumerate(jaxpr.eqns):
        made = {variable: _bytes(variable) for variable in equation.outvars}
        within = max((_peak(one) for value in equation.params.values() for one in programs_in(value)), default=0)
        peak = max(peak, sum(held.values()) + sum(made.values()) + within)
        held |= made
        held = {variable: size for variable, size in held.items() if last.get(variable, -1) > place}
    return peak


def _is_variable(value: Any) -> bool:
    return not hasattr(value, "val")  # a literal has one


def _bytes(variable: Any) -> int:
    shape, dtype = getattr(variable.aval, "shape", ()), getattr(variable.aval, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.number) and dtype != bool:
        return 0  # keys
    return math.prod(shape) * dtype.itemsize
