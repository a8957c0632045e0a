"""What each operation becomes in a chain: `RULES`, by the name of the primitive.

A rule takes the evaluation, an equation and the names of its inputs, of which some are no weights.
It returns the value that the equation makes, or None where a chain has nothing like it; then it has
changed nothing.
"""

# N batch, H W image, C O channels in and out

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from groundwork.architectures.cpu import library, sparse
from groundwork.architectures.cpu.chain import WEIGHTED
from groundwork.architectures.cpu.convolution import LAYOUT
from groundwork.architectures.cpu.geometry import Geometry
from groundwork.architectures.cpu.primitive import convolution_p
from groundwork.traced import walk
from groundwork.traced.predictions.builder import Value

if TYPE_CHECKING:
    from groundwork.traced.predictions.fused import Fusion

BOUNDED = (*WEIGHTED, "add", "max_pool", "sum_pool")  # kinds of nodes whose results have bounds
Rule = Callable[["Fusion", Any, list[Any]], Value | None]


def convolution(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """A convolution of data by a known kernel, in Flax's layout."""
    images, kernel = inputs[:2]
    avals = [v.aval for v in (*equation.invars[:2], *equation.outvars)]
    if run.is_known(images) or not run.is_known(kernel):
        return None
    found = geometry(equation, *(tuple(aval.shape) for aval in avals))
    if found is None or not _float32(*avals):
        return None
    more = {"kernel": run.read(kernel), "bias": jnp.zeros(found.output[-1])}
    if stored := run.sparse(kernel, found):
        return run.builder.add("sparse", [run.value(images)], found.output, **more, **stored)
    if not is_onednns(found, *avals):
        return None
    more["fields"] = tuple(found.descriptor("output", 32).tolist())
    more["layer"] = run.layer(kernel)
    return run.builder.add("convolve", [run.value(images)], found.output, **more)


def dense(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """A product [N, C] × [C, O] of data with known weights."""
    x, kernel = inputs
    avals = [v.aval for v in (*equation.invars, *equation.outvars)]
    if run.is_known(x) or not run.is_known(kernel) or not _float32(*avals):
        return None
    if equation.params["dimension_numbers"] != (((1,), (0,)), ((), ())) or avals[0].ndim != 2:
        return None
    if avals[1].ndim != 2:
        return None
    shape = tuple(avals[2].shape)
    weights = {"kernel": run.read(kernel), "bias": jnp.zeros(shape[1])}
    fields = (shape[0], avals[0].shape[1], shape[1])
    if stored := run.sparse(kernel, sparse.product(*fields)):
        return run.builder.add("sparse", [run.value(x)], shape, **weights, **stored)
    return run.builder.add("dense", [run.value(x)], shape, fields=fields, **weights)


def multiply(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """A value times one number for each channel."""
    for name, other in (inputs, inputs[::-1]):
        value = run.read(name)
        if isinstance(value, Value) and (scale := run.channels(other, value)) is not None:
            return _affine(run, name, scale, 0.0)
    return None


def divide(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """A value divided by one number for each channel."""
    value = run.read(inputs[0])
    if isinstance(value, Value) and (by := run.channels(inputs[1], value)) is not None:
        return _affine(run, inputs[0], 1 / by, 0.0)
    return None


def subtract(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """A value minus one number for each channel."""
    value = run.read(inputs[0])
    if isinstance(value, Value) and (shift := run.channels(inputs[1], value)) is not None:
        return _affine(run, inputs[0], 1.0, -shift)
    return None


def add(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """A value plus one number for each channel, or plus another value of its shape."""
    for name, other in (inputs, inputs[::-1]):
        value = run.read(name)
        if isinstance(value, Value) and (shift := run.channels(other, value)) is not None:
            return _affine(run, name, 1.0, shift)
    return _sum(run, equation, inputs)


def larger(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """The larger of a value and a number."""
    return _bounded(run, inputs, lambda bounds, number: (max(bounds[0], number), bounds[1]))


def smaller(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """The smaller of a value and a number."""
    return _bounded(run, inputs, lambda bounds, number: (bounds[0], min(bounds[1], number)))


def clamp(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """A value between two numbers."""
    low, name, high = inputs
    limits = run.number(low), run.number(high)
    if None in limits or not run.is_open(name, *BOUNDED) or limits[0] > limits[1]:  # type: ignore[operator]
        return None
    run.read(name).made.bounds = limits
    return run.read(name)


def same(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """A copy."""
    found = run.read(inputs[0])
    return _again(run, inputs[0]) if _is_value(found, equation) else None


def reshape(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """The same numbers as [N, C]."""
    value, shape = run.read(inputs[0]), tuple(equation.outvars[0].aval.shape)
    if not _is_value(value, equation) or len(shape) != 2 or shape[0] != value.shape[0]:
        return None
    return value.view(shape)


def concatenate(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """Channels of images side by side."""
    aval = equation.outvars[0].aval
    if equation.params["dimension"] != 3 or aval.ndim != 4 or not _float32(aval):
        return None
    if any(map(run.is_known, inputs)) or not any(isinstance(run.read(n), Value) for n in inputs):
        return None
    return run.builder.add("concat", list(map(run.value, inputs)), tuple(aval.shape))


def every(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """Every so many rows and columns of images, from the first one."""
    value, options = run.read(inputs[0]), equation.params
    if not _is_value(value, equation) or len(value.shape) != 4 or any(options["start_indices"]):
        return None
    strides = options["strides"] or (1, 1, 1, 1)
    if tuple(options["limit_indices"]) != value.shape or (strides[0], strides[3]) != (1, 1):
        return None
    shape = tuple(equation.outvars[0].aval.shape)
    return run.builder.add("shortcut", [value], shape, fields=(strides[1], strides[2], 0))


def pad(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """Images with channels of zeros on both sides."""
    value, config = run.read(inputs[0]), equation.params["padding_config"]
    if not _is_value(value, equation) or len(value.shape) != 4 or run.number(inputs[1]) != 0:
        return None
    low, high, inside = config[3]
    if any(any(axis) for axis in config[:3]) or inside or min(low, high) < 0:
        return None
    if not (low or high):
        return _again(run, inputs[0])
    shape = tuple(equation.outvars[0].aval.shape)
    if run.is_open(inputs[0], "shortcut"):
        node = value.made
        node.fields, node.shape = (*node.fields[:2], node.fields[2] + int(low)), shape
        return Value(shape, node)
    return run.builder.add("shortcut", [value], shape, fields=(1, 1, int(low)))


def total(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """The sum over the pixels of images, [N, H, W, C] → [N, C]."""
    value = run.read(inputs[0])
    if not _is_value(value, equation) or len(value.shape) != 4 or value.is_view:
        return None
    if tuple(equation.params["axes"]) != (1, 2):
        return None
    return run.builder.add("total", [value], tuple(equation.outvars[0].aval.shape))


def pooling(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """The largest pixel of each window of images, or the sum of its pixels."""
    options, aval = equation.params, equation.outvars[0].aval
    sizes = tuple(equation.invars[0].aval.shape)
    if run.is_known(inputs[0]) or len(sizes) != 4 or not _float32(aval, equation.invars[0].aval):
        return None
    if {*options["window_dilation"], *options["base_dilation"]} != {1}:
        return None
    window, strides = options["window_dimensions"], options["window_strides"]
    pads = options["padding"]
    if any((window[axis], strides[axis], *pads[axis]) != (1, 1, 0, 0) for axis in (0, 3)):
        return None
    kind = "max_pool" if equation.primitive.name == "reduce_window_max" else "sum_pool"
    fields = (*window[1:3], *strides[1:3], pads[1][0], pads[2][0])
    shape = tuple(aval.shape)
    return run.builder.add(kind, [run.value(inputs[0])], shape, fields=tuple(map(int, fields)))


def _affine(run: Fusion, name: Any, scale: Any, shift: Any) -> Value:
    """Returns scale × a value + shift: in the weights of its node, or by a node of its own."""
    value = run.read(name)
    if run.is_open(name, *WEIGHTED) and len(value.made.inputs) == 1:
        node = value.made
        scaled = node.kernel * jnp.broadcast_to(scale, node.kernel.shape)
        is_sparse = node.kind == "sparse"  # which has no entry at a zero, whatever the scale
        node.kernel = jnp.where(node.kernel == 0, 0, scaled) if is_sparse else scaled
        node.bias = node.bias * scale + shift
        return value
    scale, shift = (jnp.broadcast_to(x, value.shape[-1:]) for x in (scale, shift))
    return run.builder.add("affine", [value], value.shape, kernel=scale, bias=shift)


def _sum(run: Fusion, equation: Any, inputs: list[Any]) -> Value | None:
    """Returns the sum of two values: by the layer that makes the later one, or by a node."""
    avals = [v.aval for v in (*equation.invars, *equation.outvars)]
    if any(map(run.is_known, inputs)) or len({tuple(a.shape) for a in avals}) != 1:
        return None
    if not _float32(*avals) or not any(isinstance(run.read(name), Value) for name in inputs):
        return None
    first, second = values = [run.value(name) for name in inputs]
    later = 0 if run.builder.place(first) > run.builder.place(second) else 1
    one, other = values[later], values[1 - later]
    if run.is_open(inputs[later], "convolve", "sparse") and len(one.made.inputs) == 1:  # type: ignore[union-attr]
        one.made.inputs.append(other)  # type: ignore[union-attr]
        return one
    return run.builder.add("add", values, first.shape)


def _bounded(run: Fusion, inputs: list[Any], bounds_of: Any) -> Value | None:
    """Returns a value with other bounds, if its node has any and nothing else reads it."""
    for name, other in (inputs, inputs[::-1]):
        value, number = run.read(name), run.number(other)
        if not isinstance(value, Value) or number is None or value.made is None:
            continue
        if not run.is_only(name) or value.is_view or value.made.kind not in BOUNDED:
            return None
        low, high = bounds_of(value.made.bounds, number)
        if not low <= high:
            return None
        value.made.bounds = (low, high)
        return value
    return None


def _again(run: Fusion, name: Any) -> Value:
    """Returns a value under another name."""
    value: Value = run.read(name)
    return value if run.is_only(name) else value.view(value.shape)


def is_convolution(equation: Any) -> bool:
    """Is it a convolution, ours or that of `jax.lax`?"""
    return equation.primitive is convolution_p or equation.primitive.name == "conv_general_dilated"


def is_onednns(found: Geometry, *avals: Any) -> bool:
    """Does oneDNN compute a convolution of arrays of these types?"""
    return _float32(*avals) and library.computes([found.descriptor("output", 32)])


def geometry(equation: Any, images: Any, kernel: Any, output: Any) -> Geometry | None:
    """Returns the geometry of a convolution of arrays of these shapes, None if it has none."""
    options = equation.params
    if equation.primitive is convolution_p:
        one = options["role"] == "output" and options["replicates"] == 1
        return options["geometry"] if one else None
    if len(images) != 4 or options["batch_group_count"] != 1:
        return None
    if options["dimension_numbers"] != jax.lax.conv_dimension_numbers(images, kernel, LAYOUT):
        return None
    if tuple(options["lhs_dilation"]) != (1, 1):
        return None
    return Geometry(
        input=images,
        kernel=kernel,
        output=output,
        strides=tuple(map(int, options["window_strides"])),
        padding=tuple((int(low), int(high)) for low, high in options["padding"]),
        dilation=tuple(map(int, options["rhs_dilation"])),
        groups=int(options["feature_group_count"]),
        precision=None,
    )


def _is_value(found: Any, equation: Any) -> bool:
    """Is it a chain's value, and what the equation makes of it of float32?"""
    return isinstance(found, Value) and _float32(equation.outvars[0].aval)


def _float32(*avals: Any) -> bool:
    return all(str(aval.dtype) == "float32" and math.prod(aval.shape) for aval in avals)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        convolution_p.name: convolution,
        "conv_general_dilated": convolution,
        "dot_general": dense,
        "mul": multiply,
        "div": divide,
        "sub": subtract,
        "add": add,
        "max": larger,
        "min": smaller,
        "clamp": clamp,
        "reshape": reshape,
        "concatenate": concatenate,
        "slice": every,
        "pad": pad,
        "reduce_sum": total,
        "reduce_window_max": pooling,
        "reduce_window_sum": pooling,
        **dict.fromkeys(walk.SAME, same),
    }
)
