"""The operations of a graph on codes: integers alone, each result on the grid of its value.

Source: Jacob et al. 2018 (arXiv:1712.05877), sections 2.2 to 2.4 and appendix A; where these leave
the arithmetic open (which shifts, which rounding), it is that of LiteRT's own int8 kernels.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from deploy.graphs.graph import FREE, Graph, Grid, Node, Unsupported, Value
from deploy.integers import fixed, tables

ADDED_BITS = 20
"""By which addition shifts its operands to the left before it rescales them."""


class Operand(NamedTuple):
    """An array of codes with their grid; without one, integers or truth values as they are."""

    codes: np.ndarray
    grid: Grid | None

    @property
    def centred(self) -> np.ndarray:
        """Returns int64 codes less the grid's zero."""
        return self.codes.astype(np.int64) - (self.grid.zero if self.grid else 0)

    @property
    def scale(self) -> float:
        """Returns the grid's scale."""
        return float(np.float32(self.grid.scale)) if self.grid else 1.0


class Call(NamedTuple):
    """What a rule reads: a node, its operands, and where its result lies."""

    graph: Graph
    node: Node
    given: list[Operand]
    shape: tuple[int, ...]
    grid: Grid
    twice: bool  # see `fixed.scaled`

    def scaled(self, value: np.ndarray, real: float | np.ndarray) -> np.ndarray:
        """Returns integers times a real factor, rounded."""
        return fixed.scaled(value, fixed.factor(real), self.twice)

    def rescaled(self, value: np.ndarray, real: float | np.ndarray) -> np.ndarray:
        """Returns the codes of integers times a real factor of the result's scale."""
        out = float(np.float32(self.grid.scale))
        codes = fixed.saturated(self.scaled(value, real / out) + self.grid.zero)
        bounds = self.node.attributes.get("bounds", FREE)
        return fixed.within(codes, bounds, self.grid)

    def moved(self, operand: Operand) -> np.ndarray:
        """Returns an operand's codes on the result's grid."""
        return fixed.moved(operand.codes, operand.grid or self.grid, self.grid, self.twice)


Rule = Callable[[Call], np.ndarray]


def _conv(call: Call) -> np.ndarray:
    x, options = call.given[0], call.node.attributes
    codes, scales, bias = fixed.parameters(call.graph, call.node)
    padded = np.pad(x.centred.astype(np.int32), ((0, 0), *options["padding"], (0, 0)))
    height, width = call.shape[1:3]
    groups, kernel = options["groups"], codes.astype(np.int32)
    total = np.zeros((*call.shape[:3], groups, call.shape[3] // groups), np.int32)
    for i, j in np.ndindex(*kernel.shape[:2]):
        top, left = i * options["dilation"][0], j * options["dilation"][1]
        down, right = options["strides"]
        rows = slice(top, top + down * (height - 1) + 1, down)
        columns = slice(left, left + right * (width - 1) + 1, right)
        seen = padded[:, rows, columns].reshape(*call.shape[:3], groups, -1)
        taps = kernel[i, j].reshape(kernel.shape[2], groups, -1)
        if kernel.shape[2] == 1:
            total += seen * taps[0]
        else:
            for group in range(groups):
                total[..., group, :] += seen[..., group, :] @ taps[:, group]
    return call.rescaled(total.reshape(call.shape) + bias, x.scale * scales)


def _dense(call: Call) -> np.ndarray:
    x = call.given[0]
    codes, scales, bias = fixed.parameters(call.graph, call.node)
    total = x.centred.astype(np.int32) @ codes.astype(np.int32)
    return call.rescaled(total + bias, x.scale * scales)


def _matmul(call: Call) -> np.ndarray:
    left, right = call.given
    return call.rescaled(left.centred @ right.centred, left.scale * right.scale)


def _sum_of_two(sign: int) -> Rule:
    """Both operands are brought to a common scale with 20 more bits, added, and rescaled."""

    def rule(call: Call) -> np.ndarray:
        left, right = call.given
        common = 2 * max(left.scale, right.scale)
        one, two = (
            call.scaled(operand.centred << ADDED_BITS, operand.scale / common)
            for operand in call.given
        )
        return call.rescaled(one + sign * two, common / 2**ADDED_BITS)

    return rule


def _mul(call: Call) -> np.ndarray:
    left, right = call.given
    return call.rescaled(left.centred * right.centred, left.scale * right.scale)


def _choice(choose: Any) -> Rule:
    return lambda call: choose(*(call.moved(operand) for operand in call.given))


def _clip(call: Call) -> np.ndarray:
    return fixed.within(call.moved(call.given[0]), call.node.attributes["bounds"], call.grid)


def _table(call: Call) -> np.ndarray:
    x = call.given[0]
    assert x.grid is not None
    return tables.looked_up(call.node.operation, x.codes, x.grid, call.grid)


def _softmax(call: Call) -> np.ndarray:
    x = call.given[0]
    assert x.grid is not None
    return tables.softmax(x.codes, x.grid, call.grid, call.node.attributes["axis"])


def _windows(x: np.ndarray, fill: int, call: Call) -> np.ndarray:
    options = call.node.attributes
    padded = np.pad(x, ((0, 0), *options["padding"], (0, 0)), constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(padded, options["window"], (1, 2))
    down, right = options["strides"]
    return views[:, ::down, ::right]


def _max_pool(call: Call) -> np.ndarray:
    x = call.given[0]
    codes = _windows(x.codes, fixed.LOWEST, call).max((-2, -1))
    return call.moved(Operand(codes, x.grid))


def _average_pool(call: Call) -> np.ndarray:
    """The mean of codes, halves away from zero, on the grid of the input, then moved."""
    x = call.given[0]
    zero = x.grid.zero if x.grid else 0
    total = _windows(x.codes.astype(np.int64), zero, call).sum((-2, -1))
    count = int(np.prod(call.node.attributes["window"]))
    mean = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return call.moved(Operand(fixed.saturated(mean), x.grid))


def _reduction(mean: bool) -> Rule:
    def rule(call: Call) -> np.ndarray:
        x, axes = call.given[0], call.node.attributes["axes"]
        total = x.centred.sum(axes).reshape(call.shape)
        count = int(np.prod([x.codes.shape[axis] for axis in axes])) if mean else 1
        return call.rescaled(total, x.scale / count)

    return rule


def _reduce_max(call: Call) -> np.ndarray:
    x = call.given[0]
    codes = x.codes.max(call.node.attributes["axes"]).reshape(call.shape)
    return call.moved(Operand(codes, x.grid))


def _where(call: Call) -> np.ndarray:
    return np.where(call.given[0].codes, call.moved(call.given[1]), call.moved(call.given[2]))


def _concat(call: Call) -> np.ndarray:
    parts = [call.moved(operand) for operand in call.given]
    return np.concatenate(parts, call.node.attributes["axis"])


def _pad(call: Call) -> np.ndarray:
    options = call.node.attributes
    fill = int(fixed.quantized(np.float32(options["value"]), call.grid))
    return np.pad(call.moved(call.given[0]), options["pads"], constant_values=fill)


def _gather(call: Call) -> np.ndarray:
    return call.moved(call.given[0])[call.given[1].codes]


def movement(node: Node, codes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns the entries of an operation that only moves them; None if it is none of these."""
    options = node.attributes
    match node.operation:
        case "reshape":
            return codes.reshape(shape)
        case "broadcast":
            return np.broadcast_to(codes, shape)
        case "transpose":
            return codes.transpose(options["permutation"])
        case "slice":
            parts = zip(options["begin"], options["end"], options["strides"], strict=True)
            return codes[tuple(slice(*part) for part in parts)]
        case "channel_shuffle":
            return codes.reshape(*shape[:-1], options["groups"], -1).swapaxes(-1, -2).reshape(shape)
    return None


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": _conv,
        "dense": _dense,
        "matmul": _matmul,
        "add": _sum_of_two(1),
        "sub": _sum_of_two(-1),
        "mul": _mul,
        "max": _choice(np.maximum),
        "min": _choice(np.minimum),
        "clip": _clip,
        **dict.fromkeys(tables.FUNCTIONS, _table),
        "where": _where,
        "max_pool": _max_pool,
        "average_pool": _average_pool,
        "mean": _reduction(True),
        "sum": _reduction(False),
        "reduce_max": _reduce_max,
        "softmax": _softmax,
        "concat": _concat,
        "pad": _pad,
        "gather": _gather,
    }
)


INDICES: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {
        "add": np.add,
        "sub": np.subtract,
        "max": np.maximum,
        "min": np.minimum,
        "neg": np.negative,
        "abs": np.abs,
        "equal": np.equal,
        "less": np.less,
        "greater": np.greater,
        "where": np.where,
    }
)
"""Arithmetic of indices and conditions, which are integers from the start."""


def of_indices(node: Node, given: list[np.ndarray], value: Value) -> np.ndarray:
    """Returns the result of a node that reads and gives indices or conditions.

    Raises:
      Unsupported: there is no rule for the operation, or it reads values that have a grid.
    """
    moved = movement(node, given[0], value.shape)
    if moved is not None:
        return moved
    if node.operation == "concat":
        return np.concatenate(given, node.attributes["axis"])
    if node.operation == "clip":
        return np.clip(given[0], *node.attributes["bounds"]).astype(value.dtype)
    if node.operation == "cast":
        return given[0].astype(value.dtype)
    if node.operation not in INDICES or node.attributes.get("bounds", FREE) != FREE:
        raise Unsupported("integer-only inference", node)
    return INDICES[node.operation](*given).astype(value.dtype)


def computed(call: Call) -> np.ndarray:
    """Returns the codes of a node.

    Raises:
      Unsupported: there is no rule for the operation.
    """
    shuffled = movement(call.node, call.given[0].codes, call.shape)
    if shuffled is not None:
        return call.moved(Operand(shuffled, call.given[0].grid))
    if call.node.operation not in RULES:
        raise Unsupported("integer-only inference", call.node)
    return RULES[call.node.operation](call)
