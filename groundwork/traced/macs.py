"""Multiply-adds (MACs) of a function, counted in its traced computation; nothing is computed."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

from groundwork.architectures.cpu.primitive import convolution_p

LOOPS = ("scan", "while", "cond")


def multiply_adds(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Returns the multiply-adds of the products and convolutions in `function(*args, **kwargs)`.

    Products with the zeros of the padding count; activations, normalisation, pooling and additions
    do not. The count is the same whichever library computes convolutions. FLOPs are twice that.

    Args:
      function: anything that JAX traces.
      *args: arrays, or `jax.ShapeDtypeStruct`s.
      **kwargs: are passed on as they are.

    Raises:
      ValueError: a loop of unknown length, or a branch, has products in it.
    """
    return _total(jax.make_jaxpr(lambda *args: function(*args, **kwargs))(*args).jaxpr)


def _total(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if equation.primitive is convolution_p:
        return params["geometry"].multiply_adds * params["replicates"]
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = params["dimension_numbers"].rhs_spec[0]
        return _size(equation) * math.prod(kernel) // max(kernel[outputs], 1)
    if name == "dot_general":
        ((contracted, _), _) = params["dimension_numbers"]
        return _size(equation) * math.prod(equation.invars[0].aval.shape[d] for d in contracted)
    inside = sum(_total(jaxpr) for value in params.values() for jaxpr in _jaxprs(value))
    if inside and name in LOOPS:
        if name != "scan":
            raise ValueError(f"multiply-adds inside {name} depend on values: they have no count")
        return inside * params["length"]
    return inside


def _size(equation: Any) -> int:
    return math.prod(equation.outvars[0].aval.shape)


def _jaxprs(value: Any) -> Iterator[Any]:
    """Yields the computations inside a parameter of an equation."""
    if hasattr(value, "eqns"):
        yield value
    elif hasattr(value, "jaxpr"):
        yield value.jaxpr
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _jaxprs(item)
