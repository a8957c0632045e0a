"""Products of a network, and what is done to each of their output channels. Read `chains` first.

A chain begins with a product of data and a kernel: a convolution, a depthwise convolution or a
dense layer. It goes on with equations that multiply each output channel by a constant or add one:
its own bias, BatchNorm in evaluation, a scale. Axes may be moved in between, as `vmap` does. It
ends where its value is used twice, or otherwise.
It is found in the network's program, and no layer is known by its name.
"""

# C output channels

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from compress.quantize.data_free.flat import (
    Equation,
    Flat,
    depends_on,
    enclosed,
    hands_on,
)
from groundwork.traced import network
from groundwork.traced.products import Layer, described
from groundwork.traced.walk import PRODUCTS, Mark, Product

AFFINE = ("add", "add_any", "sub", "mul", "div")
SHAPED = ("reshape", "broadcast_in_dim", "squeeze", "expand_dims")


class Step(NamedTuple):
    """An equation that does the same to all entries of a channel."""

    place: int  # of the equation
    name: str  # of the primitive
    operand: int  # the number of the constant
    axis: int  # along which the channels lie here


class Chain(NamedTuple):
    """A product and the steps that follow.

    Attributes:
      layer: how the product computes.
      kernel: path of its kernel among the variables.
      place: of its equation.
      axis: of the value after the last step, along which the channels lie.
      channels: C.
      steps: in their order.
      end: the number of the value after the last step.
    """

    layer: Layer
    kernel: str
    place: int
    axis: int
    channels: int
    steps: tuple[Step, ...]
    end: int


def chains(flat: Flat) -> tuple[list[Chain], dict[str, str]]:
    """Returns the chains in the order of their products, and why others are none.

    Returns:
      `(chains, refused)`: path of a kernel → the reason.
    """
    found: list[Chain] = []
    refused: dict[str, str] = {}
    data, uses = flat.data, flat.uses
    for place, one in enumerate(flat.equations):
        if one.name not in PRODUCTS or len(data.intersection(one.inputs[:2])) != 1:
            continue
        side = 0 if one.inputs[1] in data else 1
        path = leaf_of(flat, one.inputs[side], shaped=False)
        if path is None:
            for other in depends_on(flat, one.inputs[side]):
                refused.setdefault(other, "it reaches its product changed")
            continue
        product = Product(one.equation, Mark(path), side, 0, 1, ())
        layer = described(product, network.layer_path(path))
        if isinstance(layer, str):
            refused[path] = layer
        elif layer.kind == "Dense" and _outputs(layer) != 1:
            refused[path] = "its outputs have several axes"
        else:
            found.append(_followed(flat, data, uses, product, layer, place))
    kernels = [chain.kernel for chain in found]
    shared = {path for path in kernels if kernels.count(path) > 1} | {
        path for path in kernels if not used_once(flat, path)
    }
    refused.update(dict.fromkeys(shared, "it is used more than once"))
    inside = enclosed(flat)
    named = {path for path in inside if path.rpartition("/")[2] in network.KERNELS}
    for path in named or inside:
        refused.setdefault(path, inside[path])
    return [chain for chain in found if chain.kernel not in shared], refused


def leaf_of(flat: Flat, value: int, shaped: bool = True) -> str | None:
    """Returns the path of the variable that a value is, apart from its dtype and its axes."""
    makers = flat.makers
    while value not in flat.paths:
        one = flat.equations[makers[value]] if value in makers else None
        if one is None or not (hands_on(one) or (shaped and one.name in SHAPED)):
            return None
        value = one.inputs[0]
    return flat.paths[value]


def used_once(flat: Flat, path: str) -> bool:
    """Returns whether a variable enters one equation."""
    numbers = [number for number, name in flat.paths.items() if name == path]
    return sum(len(flat.uses.get(number, ())) for number in numbers) == 1


def _followed(
    flat: Flat, data: set[int], uses: Any, product: Product, layer: Layer, place: int
) -> Chain:
    """Returns the chain of a product."""
    one = flat.equations[place]
    shape = product.equation.outvars[0].aval.shape
    axis = _channel_axis(layer, len(shape))
    chain = Chain(layer, product.mark.path, place, axis, shape[axis], (), one.outputs[0])
    while len(following := uses.get(chain.end, ())) == 1 and following[0] >= 0:
        after = flat.equations[following[0]]
        moved = chain.axis if hands_on(after) else _moved(after, chain.axis)
        if moved is None:
            step = _step(flat, data, chain, after, following[0])
            if step is None:
                break
            chain = chain._replace(steps=(*chain.steps, step))
        else:
            chain = chain._replace(axis=moved)
        chain = chain._replace(end=after.outputs[0])
    return chain


def _moved(one: Equation, axis: int) -> int | None:
    """Returns where an equation that moves axes has this one; None if it does another thing."""
    before, after = (v.aval.shape for v in (one.equation.invars[0], one.equation.outvars[0]))
    if one.name == "transpose":
        permutation: Sequence[int] = one.equation.params["permutation"]
        return permutation.index(axis)
    if one.name not in ("reshape", "squeeze", "expand_dims"):
        return None
    lead = math.prod(before[:axis])
    found = (n for n, size in enumerate(after) if size == before[axis])
    return next((n for n in found if math.prod(after[:n]) == lead), None)


def _step(flat: Flat, data: set[int], chain: Chain, one: Equation, place: int) -> Step | None:
    """Returns an equation as a step of a chain, or None if it is another."""
    if one.name not in AFFINE:
        return None
    side = one.inputs.index(chain.end)
    other = one.inputs[1 - side]
    shapes = [v.aval.shape for v in (one.equation.invars[side], one.equation.outvars[0])]
    if other in data or shapes[0] != shapes[1] or (side == 1 and one.name in ("sub", "div")):
        return None
    if not _lies_along(flat, other, one.equation.invars[1 - side].aval.shape, chain.axis):
        return None
    return Step(place, "add" if one.name == "add_any" else one.name, other, chain.axis)


def _lies_along(flat: Flat, value: int, shape: tuple[int, ...], axis: int) -> bool:
    """Returns whether a constant differs along one axis alone, or was repeated along the others."""
    if all(size == 1 for n, size in enumerate(shape) if n != axis):
        return True
    one = flat.equations[flat.makers[value]] if value in flat.makers else None
    if one is None or one.name != "broadcast_in_dim":
        return False
    axes = one.equation.params["broadcast_dimensions"]
    before = one.equation.invars[0].aval.shape
    return all(n == axis for n, size in zip(axes, before, strict=True) if size != 1)


def _outputs(layer: Layer) -> int:
    """Returns how many axes of a matrix's kernel are not summed over."""
    assert layer.layout is not None
    return len(layer.layout.kernel) - layer.layout.summed


def _channel_axis(layer: Layer, ndim: int) -> int:
    assert layer.layout is not None
    if layer.kind == "Conv":
        return layer.layout.outputs.index(3)
    return ndim - 1 if layer.layout.side == 1 else 0
