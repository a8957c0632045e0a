"""Products and convolutions: an output of one layer meets the input of the next."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from groundwork.architectures.cpu import convolution
from groundwork.architectures.cpu.primitive import convolution_p
from pruning.structured.axes import Axes, Axis, zeros
from pruning.structured.table import WINDOW
from pruning.structured.walk import Rule, Step, Walk

CONTRACTED = "a product adds up entries that need not be zero"


def _dot_general(walk: Walk, step: Step) -> list[Axes]:
    left, right = step.axes
    (over_left, over_right), (batch_left, batch_right) = step.equation.params["dimension_numbers"]
    for i, j in zip(over_left, over_right, strict=True):
        _contract(walk, left[i], right[j])
    out = [
        zeros(walk.join(left[i], right[j]), left[i]["zero"] | right[j]["zero"])
        for i, j in zip(batch_left, batch_right, strict=True)
    ]
    out += [a for n, a in enumerate(left) if n not in (*over_left, *batch_left)]
    out += [a for n, a in enumerate(right) if n not in (*over_right, *batch_right)]
    return [out]


def _contract(walk: Walk, one: Axis, other: Axis) -> None:
    joined = walk.join(one, other)
    walk.doubt(zeros(joined, one["zero"] | other["zero"]), CONTRACTED)


def _conv_general_dilated(walk: Walk, step: Step) -> list[Axes]:
    options = step.equation.params
    if options["batch_group_count"] != 1:
        return walk.freeze(step, "it enters a convolution with groups of examples")
    numbers = options["dimension_numbers"]
    specs = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    return [_convolution(walk, step, specs, options["feature_group_count"])]


def _convolved(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    equation = step.equation
    channels = equation.params["dimension_numbers"].lhs_spec[1]
    groups = _groups(walk, step.axes[0][channels], equation.params["feature_group_count"])
    return [
        equation.primitive.bind(*operands, **{**equation.params, "feature_group_count": groups})
    ]


SPECS = (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)  # NHWC, HWIO, NHWC as `lax` writes them


def _own_convolution(walk: Walk, step: Step) -> list[Axes]:
    if step.equation.params["role"] != "output" or step.equation.params["replicates"] != 1:
        return walk.freeze(step, "it enters the gradient of a convolution")
    return [_convolution(walk, step, SPECS, step.equation.params["geometry"].groups)]


def _own_convolved(
    walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]
) -> list[Any]:
    geometry, (images, kernel) = step.equation.params["geometry"], operands
    return [
        convolution.conv_general_dilated(
            images,
            kernel,
            geometry.strides,
            geometry.padding,
            rhs_dilation=geometry.dilation,
            dimension_numbers=convolution.LAYOUT,
            feature_group_count=_groups(walk, step.axes[0][3], geometry.groups),
            precision=geometry.precision,
        )
    ]


def _groups(walk: Walk, channels: Axis, groups: int) -> int:
    """Returns the number of groups that are left: of depthwise ones, that of the channels."""
    return walk.left.size([channels])[0] if groups == len(channels) else groups


def _convolution(walk: Walk, step: Step, specs: Sequence[Sequence[int]], groups: int) -> Axes:
    images, kernel = step.axes
    of_images, of_kernel, of_outputs = specs
    for n in of_kernel[2:]:
        walk.fix(kernel[n], WINDOW)
    for n in of_images[2:]:
        walk.fix(images[n], WINDOW)
    channels, inputs, units = images[of_images[1]], kernel[of_kernel[1]], kernel[of_kernel[0]]
    if groups == 1:
        _contract(walk, channels, inputs)
    elif groups == len(channels):
        units = _depthwise(walk, channels, units)
    else:  # the same places of every group
        for row in channels.reshape(groups, -1):
            _contract(walk, row, inputs)
        rows = units.reshape(groups, -1)
        for row in rows[1:]:
            walk.join(rows[0], row)
    out = walk.fixed_axes(step.equation.outvars[0].aval.shape, WINDOW)
    out[of_outputs[0]], out[of_outputs[1]] = images[of_images[0]], units
    return out


def _depthwise(walk: Walk, channels: Axis, units: Axis) -> Axis:
    """Returns the outputs of a convolution that treats each channel by itself."""
    repeated = np.repeat(channels, len(units) // len(channels))
    return zeros(walk.join(units, repeated), units["zero"] | repeated["zero"])


def contracted(equation: Any) -> list[tuple[int, int]]:
    """Returns the pairs of axes of the two operands over which a product sums, windows apart."""
    if "geometry" in equation.params:
        return [(SPECS[0][1], SPECS[1][1])]
    numbers = equation.params["dimension_numbers"]
    if equation.primitive.name == "dot_general":
        return list(zip(*numbers[0], strict=True))
    return [(numbers.lhs_spec[1], numbers.rhs_spec[1])]


RULES = {
    "dot_general": Rule(_dot_general),
    "conv_general_dilated": Rule(_conv_general_dilated, _convolved),
    convolution_p.name: Rule(_own_convolution, _own_convolved),
}
