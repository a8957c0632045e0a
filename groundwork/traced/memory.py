"""The memory that a function's values need, by its traced computation; nothing is computed."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from groundwork.traced.macs import programs_in

VIEWS = ("reshape", "squeeze", "expand_dims", "broadcast_in_dim")  # operations that copy nothing


def peak_bytes(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Returns the most bytes of values that `function(*args, **kwargs)` holds at once.

    Its operations are taken in the order in which it is traced. A value is held from the operation
    that computes it until the last one that takes it; what an operation takes and what it makes are
    held together. Reshaped and broadcast values are those that they were made of. Arguments and
    constants do not count. A program inside, such as that of a jit, is one operation that holds
    what it needs; beside what a scan needs in one turn, the outputs of all turns are held. A
    compiler that fuses operations needs less, and one that unfolds convolutions more.

    Args:
      function: anything that JAX traces.
      *args: arrays, or `jax.ShapeDtypeStruct`s.
      **kwargs: are passed on as they are.

    Example:
        >>> from groundwork.traced import memory
        >>> inputs = jnp.ones(1000)
        >>> memory.peak_bytes(lambda x: jnp.sin(x), inputs)  # the outputs alone
        4000
        >>> memory.peak_bytes(lambda x: jnp.sin(jnp.sin(jnp.sin(x))), inputs)  # two at a time
        8000
    """
    return _peak(jax.make_jaxpr(lambda *args: function(*args, **kwargs))(*args).jaxpr)


def _peak(jaxpr: Any) -> int:
    same: dict[Any, Any] = {}  # a value → the one that it is another view of
    last: dict[Any, int] = {}
    for place, equation in enumerate(jaxpr.eqns):
        for variable in filter(_is_variable, equation.invars):
            last[same.get(variable, variable)] = place
        if equation.primitive.name in VIEWS and _is_variable(equation.invars[0]):
            source = equation.invars[0]
            same[equation.outvars[0]] = same.get(source, source)
    for variable in filter(_is_variable, jaxpr.outvars):
        last[same.get(variable, variable)] = len(jaxpr.eqns)
    held: dict[Any, int] = {}
    peak = 0
    for place, equation in enumerate(jaxpr.eqns):
        made = {one: _bytes(one) for one in equation.outvars if one not in same}
        inside = [_peak(one) for value in equation.params.values() for one in programs_in(value)]
        within, outputs = max(inside, default=0), sum(made.values())
        both = within + outputs if equation.primitive.name == "scan" else max(within, outputs)
        peak = max(peak, sum(held.values()) + both)
        held |= made
        held = {one: size for one, size in held.items() if last.get(one, -1) > place}
    return peak


def _is_variable(value: Any) -> bool:
    return not hasattr(value, "val")  # a literal has one


def _bytes(variable: Any) -> int:
    shape, dtype = getattr(variable.aval, "shape", ()), getattr(variable.aval, "dtype", None)
    if dtype is None or jnp.issubdtype(dtype, jax.dtypes.extended):
        return 0  # keys
    return math.prod(shape) * dtype.itemsize
