"""What a pattern is, which texts name one, and which arrays it fits."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from groundwork.traced.reach import Reached

Axis = int | Mapping[str, int]
INPUTS = -2  # the axis of the inputs in [I, O] and [KH, KW, I, O]


class NM(NamedTuple):
    """At most n of each m neighbours along an axis are kept: 2:4, 4:8."""

    n: int
    m: int

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


class Blocks(NamedTuple):
    """Blocks over the last two axes are kept or go whole: 1x4 is one input, four outputs."""

    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


class PerOutput(NamedTuple):
    """As many weights of each output of a layer are kept."""

    def __str__(self) -> str:
        return "output"


Pattern = NM | Blocks | PerOutput


def parse(text: str) -> Pattern:
    """Returns the pattern that a text names: "2:4", "1x4" or "output".

    Raises:
      ValueError: it names none, or one that would prune nothing or everything.

    Example:
        >>> from pruning import patterns
        >>> [patterns.parse(text) for text in ("2:4", "1x4", "output")]
        [NM(n=2, m=4), Blocks(rows=1, columns=4), PerOutput()]
    """
    if text == "output":
        return PerOutput()
    found = re.fullmatch(r"([0-9]+)([:x])([0-9]+)", text) if isinstance(text, str) else None
    if not found:
        raise ValueError(
            f"unknown pattern {text!r}: N:M such as '2:4', blocks such as '4x4', or 'output'"
        )
    first, second = int(found[1]), int(found[3])
    if found[2] == ":":
        check_n_m(first, second)
        return NM(first, second)
    check_shape((first, second))
    return Blocks(first, second)


def unfit(pattern: Pattern | str, shapes: Mapping[str, Any], axis: Axis = INPUTS) -> dict[str, str]:
    """Returns path → the reason, of the leaves that a pattern does not fit, from shapes alone.

    Such as a first convolution of 1 or 3 channels, a bias, a layer of 10 outputs for 4x4.

    Example:
        >>> from pruning import patterns
        >>> shapes = {"fc/kernel": jnp.ones((8, 8)), "output/kernel": jnp.ones((8, 10))}
        >>> patterns.unfit("4x4", shapes)
        {'output/kernel': 'blocks of 4x4 do not divide the last two axes of (8, 10)'}
    """
    pattern = parse(pattern) if isinstance(pattern, str) else pattern
    left = {}
    for path in sorted(shapes):
        try:
            check_fits(pattern, tuple(shapes[path].shape), axis_of(axis, path))
        except ValueError as error:
            left[path] = str(error)
    return left


def input_axes(reached: Mapping[str, Reached]) -> dict[str, int]:
    """Returns path of a kernel → the axis of its inputs, for a network that `reach.layers` read.

    Of several axes that a layer sums over, such as the heads and dimensions before an attention's
    output, it is the last. Needed where kernels are not [I, O] or [KH, KW, I, O]: of PyTorch's
    order, or [inputs, heads, dimensions]. Paths are those within `params`; masks of all variables,
    whose paths begin with `params/`, take them as they are.

    Example:
        >>> from groundwork.traced import reach
        >>> from pruning import patterns
        >>> network = lambda params, x: jnp.einsum("bi,oi->bo", x, params["fc"])  # PyTorch's order
        >>> reached, _ = reach.layers(network, {"fc": jnp.ones((8, 4))}, jnp.ones((1, 4)))
        >>> patterns.input_axes(reached)
        {'fc': 1}
    """
    axes = {}
    for one in reached.values():
        layout = one.layer.layout
        if layout is None:
            axes[one.parameter] = INPUTS
        else:
            place = 2 if one.layer.kind == "Conv" else layout.summed - 1
            axes[one.parameter] = len(one.stack) + layout.kernel[place]
    return axes


def axis_of(axis: Axis, path: str) -> int:
    """Returns the axis of the inputs of one path, also within `params` of all variables."""
    if not isinstance(axis, Mapping):
        return axis
    for known in (path, path.removeprefix("params/")):
        if known in axis:
            return axis[known]
    raise ValueError(f"no axis of inputs is known of {path!r}: it is none of the layers reached")


def check_fits(pattern: Pattern, shape: tuple[int, ...], axis: int) -> None:
    """Refuses an array that the pattern does not divide."""
    if isinstance(pattern, Blocks):
        if len(shape) < 2:
            raise ValueError(f"shape {shape} has no two axes for blocks of {pattern}")
        if shape[-2] % pattern.rows or shape[-1] % pattern.columns:
            raise ValueError(f"blocks of {pattern} do not divide the last two axes of {shape}")
        return
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"shape {shape} has no axis {axis} of inputs")
    if isinstance(pattern, PerOutput):
        if len(shape) != 2 and axis % len(shape) != len(shape) - 2:
            raise ValueError(f"the last axis of {shape} is not that of its outputs")
        return
    if shape[axis] % pattern.m:
        raise ValueError(f"{pattern.m} does not divide the {shape[axis]} entries of axis {axis}")


def check_n_m(n: int, m: int) -> None:
    """Refuses a pattern that keeps nothing of a group, or all of it."""
    if not 1 <= n < m:
        raise ValueError(f"pattern {n}:{m} must keep at least 1 of a group, and not all")


def check_shape(shape: tuple[int, int]) -> None:
    """Refuses what is no shape of a block."""
    if len(shape) != 2 or min(shape) < 1 or math.prod(shape) < 2:
        raise ValueError(f"blocks of {shape} must be two sizes, of more than one weight")
