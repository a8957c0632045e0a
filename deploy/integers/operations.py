"""The operations of a graph on codes: integers alone, each result on the grid of its value.

Source: Jacob et al. 2018 (arXiv:1712.05877), sections 2.2 to 2.4 and appendix A; where these leave
the arithmetic open (which shifts, which rounding), it is that of LiteRT's own int8 kernels.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from deploy.graphs.graph import Unsupported
from deploy.integers import fixed, tables, windows
from deploy.integers.call import Call, Operand, Rule
from deploy.integers.indices import movement

ADDED_BITS = 20
"""By which addition shifts its operands to the left before it rescales them."""


def _dense(call: Call) -> np.ndarray:
    x, call = (
        call.given[0],
        call._replace(twice=False),
    )  # LiteRT's reference kernel rounds once, too
    codes, scales, bias = fixed.parameters(call.graph, call.node)
    total = x.centred.astype(np.int32) @ codes.astype(np.int32)
    return call.rescaled(total + bias, x.scale * scales)


def _matmul(call: Call) -> np.ndarray:
    left, right = call.given
    return call.rescaled(left.centred @ right.centred, left.scale * right.scale)


def _sum_of_two(sign: int) -> Rule:
    """Both operands are brought to a common scale with 20 more bits, added, and rescaled.

    Of an operand of more than 8 bits, those beyond are among the 20.
    """

    def rule(call: Call) -> np.ndarray:
        extra = [operand.grid.bits - 8 if operand.grid else 0 for operand in call.given]
        scales = [operand.scale * 2**bits for operand, bits in zip(call.given, extra, strict=True)]
        common = 2 * max(scales)
        one, two = (
            call.scaled(operand.centred << (ADDED_BITS - bits), scale / common)
            for operand, bits, scale in zip(call.given, extra, scales, strict=True)
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


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": windows.conv,
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
        "max_pool": windows.max_pool,
        "average_pool": windows.average_pool,
        "mean": _reduction(True),
        "sum": _reduction(False),
        "reduce_max": _reduce_max,
        "softmax": _softmax,
        "concat": _concat,
        "pad": _pad,
        "gather": _gather,
    }
)


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
