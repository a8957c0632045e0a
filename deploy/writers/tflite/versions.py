"""Which version of an operator a runtime must know; engines refuse files that ask for a later one.

The numbers are those that TensorFlow Lite's table of versions gives for these uses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.writers.tflite.file import Tensor

INTEGERS = 2
"""The version from which most operators take int8."""

ALWAYS_FIRST = ("RESHAPE", "QUANTIZE", "SELECT_V2", "NEG")
OVER_FOUR_AXES = {"TRANSPOSE": 4, "STRIDED_SLICE": 4, "PAD": 4, "PADV2": 4}
BROADCAST_OVER_FOUR = {"SUB": 3, "DIV": 2, "MAXIMUM": 3, "MINIMUM": 3}


def version(code: str, inputs: Sequence[Tensor], output: Tensor, options: Mapping[str, Any]) -> int:
    """Returns the version of an operator for tensors of these types and ranks."""
    first = inputs[0]
    rank = max(len(tensor.shape) for tensor in inputs)
    integer = first.dtype == "int8"
    if code in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return _convolution(code, inputs, options)
    if code == "FULLY_CONNECTED":
        return 5 if options["keepNumDims"] else 4 if integer else 1
    if code == "BROADCAST_TO":
        return 3 if integer else 2
    if code in ("ADD", "SUB") and first.dtype == "int64":
        return 4
    if code == "MUL":
        return _product(inputs, output)
    if code in OVER_FOUR_AXES and rank > 4:
        return 6 if code == "TRANSPOSE" and rank > 5 else OVER_FOUR_AXES[code]
    if code in BROADCAST_OVER_FOUR and rank > 4 and len({tensor.shape for tensor in inputs}) > 1:
        return BROADCAST_OVER_FOUR[code]
    if first.dtype == "bool" and code in ("TRANSPOSE", "STRIDED_SLICE", "GATHER"):
        return 3
    if code == "CAST":
        return 3 if "int8" in (first.dtype, output.dtype) else 1
    return INTEGERS if integer and code not in ALWAYS_FIRST else 1


def _convolution(code: str, inputs: Sequence[Tensor], options: Mapping[str, Any]) -> int:
    x, kernel = inputs[:2]
    if code == "CONV_2D" and kernel.shape[-1] != x.shape[-1]:
        return 6  # groups
    if x.dtype == "int8":
        return 3
    dilated = (options["dilationHFactor"], options["dilationWFactor"]) != (1, 1)
    return 2 if code == "DEPTHWISE_CONV_2D" and dilated else 1


def _product(inputs: Sequence[Tensor], output: Tensor) -> int:
    left, right = inputs
    if left.dtype == "int64":
        return 5
    if left.grid is None or right.grid is None or output.grid is None:
        return 1
    return 3 if left.grid.scale * right.grid.scale / output.grid.scale >= 1 else 2
