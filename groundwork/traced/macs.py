"""Multiply-adds (MACs) of a function, counted in its traced computation; nothing is computed."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from groundwork.architectures.cpu.primitive import convolution_p

UNCOUNTED = ("while", "cond", "pallas_call")  # how often they run depends on values or a grid


def multiply_adds(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Returns the multiply-adds of the products and convolutions in `function(*args, **kwargs)`.

    Products with the zeros of the padding count; those with the zeros between the inputs of a
    transposed convolution do not, nor do activations, normalisation, pooling and additions. The
    count is the same whichever library computes convolutions. FLOPs are twice that.

    Args:
      function: anything that JAX traces.
      *args: arrays, or `jax.ShapeDtypeStruct`s.
      **kwargs: are passed on as they are.

    Raises:
      ValueError: a loop of unknown length, a branch or a Pallas kernel has products in it.

    Example:
        >>> from groundwork.traced import macs
        >>> product = lambda inputs, kernel: jax.nn.relu(inputs @ kernel)
        >>> macs.multiply_adds(product, jnp.ones((2, 3)), jnp.ones((3, 4)))  # 8 sums of 3 products
        24
    """
    return _total(jax.make_jaxpr(lambda *args: function(*args, **kwargs))(*args).jaxpr)


def _total(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if equation.primitive is convolution_p:
        return params["geometry"].multiply_adds * params["replicates"]
    if name == "conv_general_dilated":
        return _of_convolution(equation)
    if name == "dot_general":
        ((contracted, _), _) = params["dimension_numbers"]
        return _size(equation) * math.prod(equation.invars[0].aval.shape[d] for d in contracted)
    if name == "ragged_dot_general":
        return _of_ragged_product(equation)
    inside = sum(_total(jaxpr) for value in params.values() for jaxpr in programs_in(value))
    if inside and name in UNCOUNTED:
        raise ValueError(f"multiply-adds inside {name} depend on values: they have no count")
    return inside * params["length"] if name == "scan" else inside


def _of_convolution(equation: Any) -> int:
    """Returns outputs × taps of the window × channels in a group, without dilation's zeros."""
    params = equation.params
    numbers, output = params["dimension_numbers"], equation.outvars[0].aval.shape
    inputs, kernel = (variable.aval.shape for variable in equation.invars)
    outside, inside = (output[d] for d in numbers.out_spec[:2]), kernel[numbers.rhs_spec[1]]
    windows = zip(
        (inputs[d] for d in numbers.lhs_spec[2:]),
        (output[d] for d in numbers.out_spec[2:]),
        (kernel[d] for d in numbers.rhs_spec[2:]),
        params["window_strides"],
        params["rhs_dilation"],
        params["lhs_dilation"],
        (low for low, _ in params["padding"]),
        strict=True,
    )
    return math.prod(outside) * inside * math.prod(_taps(*window) for window in windows)


def _taps(
    inputs: int, outputs: int, taps: int, stride: int, dilation: int, spread: int, low: int
) -> int:
    """Returns how often, along one axis, a tap of the window meets an input or the padding.

    Where the inputs are `spread`, as in a transposed convolution, each of them meets the whole
    window, as each output does in an ordinary one.
    """
    if spread == 1:
        return outputs * taps
    if stride == 1:
        return inputs * taps
    places = np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation - low
    return int(np.count_nonzero(places % spread == 0))


def _of_ragged_product(equation: Any) -> int:
    """Returns the entries of the left operand × the right one's columns, each row in one group."""
    numbers = equation.params["ragged_dot_dimension_numbers"]
    ((_, contracted), (_, batched)) = numbers.dot_dimension_numbers
    left, right = (variable.aval.shape for variable in equation.invars[:2])
    used = {*contracted, *batched, *numbers.rhs_group_dimensions}
    return math.prod(left) * math.prod(n for axis, n in enumerate(right) if axis not in used)


def _size(equation: Any) -> int:
    return math.prod(equation.outvars[0].aval.shape)


def programs_in(value: Any) -> Iterator[Any]:
    """Yields the computations inside a parameter of an equation, such as those of a scan."""
    if hasattr(value, "eqns"):
        yield value
    elif hasattr(value, "jaxpr"):
        yield value.jaxpr
    elif isinstance(value, tuple | list):
        for item in value:
            yield from programs_in(item)
