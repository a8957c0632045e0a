"""Fixed-point arithmetic: real factors as an int32 and a shift, and what of a layer is integers.

Source: Jacob et al. 2018 (arXiv:1712.05877), sections 2.2 and 2.4; rounding is gemmlowp's.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deploy.graphs.graph import Graph, Grid, Node

LOWEST, HIGHEST = -128, 127
LARGEST = 2**31 - 1
BIAS = 2**30
"""No bias is larger, so that products have room beside it in an int32."""


class Factor(NamedTuple):
    """Real factors mantissa / 2³¹ · 2^shift, as integers or arrays of them; [2³⁰, 2³¹) or 0."""

    mantissa: np.ndarray  # int64 [] or [O]
    shift: np.ndarray  # int64, the same shape


class Parameters(NamedTuple):
    """A layer's integers: the kernel is codes × scales, the bias has the input's scale × scales."""

    codes: np.ndarray  # int8 [..., O]
    scales: np.ndarray  # float64 [O], values of float32
    bias: np.ndarray  # int32 [O]


def factor(real: float | np.ndarray) -> Factor:
    """Returns the nearest fixed-point factors of positive numbers (eq. 6)."""
    fraction, exponent = np.frexp(np.asarray(real, np.float64))
    mantissa = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    over = mantissa == 2**31
    mantissa = np.where(over, 2**30, mantissa)
    shift = exponent.astype(np.int64) + over
    return Factor(np.where(shift < -31, 0, mantissa), np.where(shift < -31, 0, shift))


def scaled(value: np.ndarray, by: Factor, twice: bool = False) -> np.ndarray:
    """Returns integers times a factor; one from 1 shifts to the left first, within an int32.

    Args:
      value: int64 [..., O] or any shape, within an int32.
      by: factors that broadcast against it.
      twice: whether it is rounded as gemmlowp and LiteRT's own kernels do: the upper half of the
        doubled product to the nearest integer, halves up, then the shift to the right of it, halves
        away from zero. Else the product is rounded once, halves up, so that the result is the
        nearest integer, as that of LiteRT's default kernels (XNNPACK's, with floats) is.

    Returns:
      int64, within an int32.
    """
    left, right = np.maximum(by.shift, 0), np.maximum(-by.shift, 0)
    raised = np.clip(value.astype(np.int64) << left, -LARGEST - 1, LARGEST)
    if not twice:
        return (raised * by.mantissa + (np.int64(1) << (30 + right))) >> (31 + right)
    product = (raised * by.mantissa + 2**30) >> 31
    rest = product & ((np.int64(1) << right) - 1)
    threshold = (((np.int64(1) << right) - 1) >> 1) + (product < 0)
    return (product >> right) + (rest > threshold)


def saturated(value: np.ndarray, grid: Grid) -> np.ndarray:
    """Returns integers as codes of a grid, int8 or int32, those outside at its ends."""
    dtype = np.int8 if grid.bits == 8 else np.int32
    return np.clip(value, grid.lowest, grid.highest).astype(dtype)


def quantized(value: Any, grid: Grid) -> np.ndarray:
    """Returns the codes of the nearest points of a grid, half to even; the lowest one of NaN."""
    steps = np.rint(np.asarray(value, np.float32) / np.float32(grid.scale))
    return saturated(np.where(np.isnan(steps), -np.inf, steps + grid.zero), grid)


def dequantized(codes: np.ndarray, grid: Grid) -> np.ndarray:
    """Returns float32 points of a grid."""
    return (codes.astype(np.float32) - np.float32(grid.zero)) * np.float32(grid.scale)


def moved(codes: np.ndarray, old: Grid, new: Grid, twice: bool = False) -> np.ndarray:
    """Returns the codes of values on another grid, rounded as `scaled`; on the same, the array."""
    if old == new:
        return codes
    by = factor(float(np.float32(old.scale)) / float(np.float32(new.scale)))
    return saturated(scaled(codes.astype(np.int64) - old.zero, by, twice) + new.zero, new)


def of_constant(array: np.ndarray) -> Grid:
    """Returns the grid of a constant operand: symmetric, 127 at its largest entry."""
    largest = float(np.max(np.abs(array), initial=0.0))
    return Grid(float(np.float32(largest / HIGHEST)) if largest else 1.0, 0)


def code_bounds(bounds: Sequence[float], grid: Grid) -> tuple[int, int]:
    """Returns the codes between which values within the bounds lie."""
    low, high = (
        min(
            max(round(bound / float(np.float32(grid.scale))) + grid.zero, grid.lowest), grid.highest
        )
        if math.isfinite(bound)
        else (grid.lowest if bound < 0 else grid.highest)
        for bound in bounds
    )
    return low, high


def within(codes: np.ndarray, bounds: Sequence[float], grid: Grid) -> np.ndarray:
    """Returns codes no lower and no higher than those of the bounds."""
    low, high = code_bounds(bounds, grid)
    return np.clip(codes, codes.dtype.type(low), codes.dtype.type(high))


def parameters(graph: Graph, node: Node) -> Parameters:
    """Returns the integers of a `conv` or `dense`: the stored codes as they are, and the bias.

    A bias has the scale of the products (section 2.4). Where it would leave no room in an int32, as
    in channels that are pruned or nearly so, the channel's scale is enlarged and its codes are
    rounded to it: they change the sum by less than 2⁻²³ of the bias for each product.

    Raises:
      ValueError: the kernel has no stored integers, or a sum could leave an int32.
    """
    x, kernel, constant = node.inputs
    if kernel not in graph.stored:
        raise ValueError(f"kernel {kernel!r} of {node.layer or node.output!r} has no integers")
    codes, stored = graph.stored[kernel].codes, graph.stored[kernel].scales
    bias, unit = (
        graph.constants[constant].astype(np.float64),
        float(np.float32(graph.grids[x].scale)),
    )
    scales = stored.astype(np.float32).astype(np.float64)
    needed = np.abs(bias) / (unit * BIAS)
    enlarged = needed > scales * (1 + 2.0**-20)
    if enlarged.any():
        old = scales
        scales = np.where(enlarged, needed * (1 + 2.0**-20), old).astype(np.float32).astype(float)
        codes = np.rint(codes * np.where(enlarged, old / scales, 1.0)).astype(np.int8)
    codes = np.where(scales > 0, codes, np.int8(0))
    scales = np.where(scales > 0, scales, 1.0)
    whole = np.rint(bias / (unit * scales)).astype(np.int64)
    axes = tuple(range(codes.ndim - 1))
    reach = np.abs(codes.astype(np.int64)).sum(axes) * 255 + np.abs(whole)
    if reach.max(initial=0) > LARGEST:
        raise ValueError(
            f"sums of {node.layer or node.output!r} could leave an int32: it is too wide"
        )
    return Parameters(codes, scales, whole.astype(np.int32))
