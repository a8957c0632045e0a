"""Values as readers of them want them: in an order, as floats or as codes of their grid."""

import numpy as np

from deploy.graphs.graph import FREE, Grid, Node
from deploy.writers.onnx.file import (
    SHIFT,
    Held,
    Making,
    Order,
    add,
    arranged,
    between,
    constant,
    once,
    ordered,
    plain,
)


def real(making: Making, value: str, order: Order | None = None) -> str:
    """Returns the name of a value's floats in an order, by default that in which it stands."""
    return _as(making, value, order, codes=False)


def codes(making: Making, value: str, order: Order | None = None) -> str:
    """Returns the name of a value's codes, of one that has a grid."""
    return _as(making, value, order, codes=True)


def order_of(making: Making, value: str) -> Order:
    """Returns the order in which a value stands; constants stand as they are."""
    held = making.held.get(value)
    return held.order if held else plain(len(making.graph.values[value].shape))


def _as(making: Making, value: str, order: Order | None, codes: bool) -> str:
    if value in making.graph.constants:
        return _constant(making, value, order)
    held = making.held[value]
    order = held.order if order is None else order
    key = (value, order, codes)
    if key not in making.moved:
        making.moved[key] = _made(making, value, held, order, codes)
    return making.moved[key]


def _made(making: Making, value: str, held: Held, order: Order, as_codes: bool) -> str:
    found = making.graph.grids.get(value)
    names = grid(making, found, value) if found else []
    if found and not as_codes:
        inputs = [codes(making, value, order), *names]
        return add(making, "DequantizeLinear", inputs, own(making, value, order))
    shape = ordered(making.graph.values[value].shape, held.order)
    wanted = f"{value}.codes" if held.codes else own(making, value, order)
    name = held.codes or held.real
    moved = arranged(making, name, shape, between(held.order, order), wanted)
    if found and not held.codes:  # an input: OpenVINO's integers begin where nothing moves any more
        return add(making, "QuantizeLinear", [moved, *names], f"{value}.codes")
    return moved


def own(making: Making, value: str, order: Order) -> str:
    """Returns the name that a value has in the file; that of a result is for its plain order."""
    graph = making.graph
    taken = value in graph.inputs or (value in graph.outputs and order != plain(len(order)))
    return f"{value}.inner" if taken else value


def _constant(making: Making, value: str, order: Order | None) -> str:
    array = making.graph.constants[value]
    if order is None or order == plain(len(order)):
        return once(making, value, lambda: array)
    suffix = "".join(map(str, order))
    full = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
    return once(making, f"{value}.{suffix}", lambda: full.transpose(order))


def grid(making: Making, found: Grid, value: str) -> list[str]:
    """Returns the names of a grid's scale and zero; the first value that has it names them."""
    if found not in making.grids:
        zero = np.array(found.zero + SHIFT, np.uint8)
        making.grids[found] = [
            constant(making, np.array(found.scale, np.float32), f"{value}.scale"),
            constant(making, zero, f"{value}.zero"),
        ]
    return making.grids[found]


def codes_of(array: np.ndarray, found: Grid) -> np.ndarray:
    """Returns numbers as the file's codes of a grid, as JAX rounds them."""
    code = np.rint(array / np.float32(found.scale)) + found.zero + SHIFT
    return np.asarray(np.clip(code, 0, 255), np.uint8)


def uniform(making: Making, value: str, number: float) -> str:
    """Returns a number as the code of a grid, which is exact; `value` names it in the file."""
    zero = 1 if number < 0 else 0
    code, scale, at = (f"{value}.{name}" for name in ("codes", "scale", "zero"))
    once(making, code, lambda: np.array(zero + np.sign(number), np.uint8))
    once(making, scale, lambda: np.array(abs(number) or 1.0, np.float32))
    once(making, at, lambda: np.array(zero, np.uint8))
    return add(making, "DequantizeLinear", [code, scale, at], value)


def settle(
    making: Making, node: Node, computed: str, order: Order, shape: tuple[int, ...] | None = None
) -> None:
    """Says where the output of a node stands, after its bounds and on its grid.

    Bounds are cut on the codes: rounding is monotone, so that the codes of a clipped value are
    the clipped codes of the value; where the grid ends at the bounds, it cuts by itself.

    Args:
      making: what is being written.
      node: of the graph.
      computed: the name of what it computes before its bounds.
      order: in which this stands.
      shape: of the output in this order if what was computed has another.
    """
    found = making.graph.grids.get(node.output)
    if found is None:
        name = _reshaped(making, computed, shape, working(making, node, order))
        making.held[node.output] = Held(order, real=_bounded(making, node, name, order))
        return
    names = grid(making, found, node.output)
    name = add(making, "QuantizeLinear", [computed, *names], f"{node.output}.codes")
    settle_codes(making, node, _reshaped(making, name, shape, f"{node.output}.codes"), order)


def settle_codes(making: Making, node: Node, name: str, order: Order) -> None:
    """Says where the output of a node stands whose codes were computed, after its bounds."""
    found = making.graph.grids[node.output]
    low, high = bounds_of_codes(found, node.attributes.get("bounds", FREE))
    if (low, high) != (0, 255):
        ends = [
            constant(making, np.array(end, np.uint8), f"{node.output}.{which}")
            for which, end in (("lowest", low), ("highest", high))
        ]
        name = add(making, "Clip", [name, *ends], f"{node.output}.codes")
    making.held[node.output] = Held(order, codes=name)


def bounds_of_codes(found: Grid, bounds: tuple[float, float]) -> tuple[int, int]:
    """Returns the codes of the file between which a bounded value lies."""
    scale = np.float32(found.scale)
    cut = np.clip(np.asarray(bounds, np.float32) / scale, -(2.0**20), 2.0**20)
    low, high = np.clip(np.rint(cut) + found.zero + SHIFT, 0, 255)
    return int(low), int(high)


def _reshaped(making: Making, name: str, shape: tuple[int, ...] | None, wanted: str) -> str:
    if shape is None:
        return name
    target = constant(making, np.asarray(shape, np.int64), f"{wanted}.shape")
    return add(making, "Reshape", [name, target], wanted)


def working(making: Making, node: Node, order: Order, then: bool = False) -> str:
    """Returns the name of what a node computes before its grid, its bounds or (`then`) more."""
    if node.output in making.graph.grids:
        return f"{node.output}.computed"
    bounded = node.attributes.get("bounds", FREE) != FREE
    return f"{node.output}.computed" if bounded or then else own(making, node.output, order)


def _bounded(making: Making, node: Node, name: str, order: Order) -> str:
    low, high = node.attributes.get("bounds", FREE)
    if (low, high) == FREE:
        return name
    wanted = own(making, node.output, order)
    if (low, high) == (0, np.inf):
        return add(making, "Relu", [name], wanted)
    ends = [
        "" if np.isinf(end) else constant(making, np.array(end, np.float32), f"{node.output}.{at}")
        for at, end in (("lowest", low), ("highest", high))
    ]
    return add(making, "Clip", [name, *ends], wanted)
