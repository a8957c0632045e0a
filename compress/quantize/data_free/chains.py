"""Products of a network, and what is done to each of their output channels. Read `chains` first.

A chain begins with a product of data and a kernel: a convolution, a depthwise convolution or a
dense layer. It goes on with equations that multiply each output channel by a constant or add one:
its own bias, BatchNorm in evaluation, a scale. It ends where its value is used twice, or otherwise.
It is found in the network's program, and no layer is known by its name.
"""

# C output channels

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from compress.quantize.data_free.flat import Equation, Flat, constant, depends_on
from groundwork import trees
from groundwork.traced import network
from groundwork.traced.products import Layer, described
from groundwork.traced.walk import PRODUCTS, SAME, Mark, Product
from groundwork.trees import Variables
from pruning.structured import program

AFFINE = ("add", "add_any", "sub", "mul", "div")
SHAPED = (*SAME, "reshape", "broadcast_in_dim", "squeeze", "expand_dims")


class Step(NamedTuple):
    """An equation that does the same to all entries of a channel."""

    place: int  # of the equation
    name: str  # of the primitive
    operand: int  # the number of the constant


class Chain(NamedTuple):
    """A product and the steps that follow.

    Attributes:
      layer: how the product computes.
      kernel: path of its kernel among the variables.
      place: of its equation.
      axis: of the last value, along which the channels lie.
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
    return [chain for chain in found if chain.kernel not in shared], refused


def composite(flat: Flat, chain: Chain, leaves: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the steps of a chain do: y → a y + b of each channel, float64 [C] both."""
    factor, offset = np.ones(chain.channels), np.zeros(chain.channels)
    for step in chain.steps:
        value = vector(flat, chain, step, leaves)
        if step.name in ("mul", "div"):
            value = 1 / value if step.name == "div" else value
            factor, offset = factor * value, offset * value
        else:
            offset = offset - value if step.name == "sub" else offset + value
    return factor, offset


def vector(flat: Flat, chain: Chain, step: Step, leaves: Mapping[str, Any]) -> np.ndarray:
    """Returns the operand of a step for each channel, float64 [C]."""
    array = np.asarray(constant(flat, step.operand, leaves), np.float64)
    along = [slice(None) if n == chain.axis else 0 for n in range(array.ndim)]
    return np.broadcast_to(array[tuple(along)], (chain.channels,))


def leaf_of(flat: Flat, value: int, shaped: bool = True) -> str | None:
    """Returns the path of the variable that a value is, apart from its dtype and its axes."""
    makers = flat.makers
    while value not in flat.paths:
        one = flat.equations[makers[value]] if value in makers else None
        if one is None or one.name not in (SHAPED if shaped else SAME):
            return None
        value = one.inputs[0]
    return flat.paths[value]


def used_once(flat: Flat, path: str) -> bool:
    """Returns whether a variable enters one equation."""
    numbers = [number for number, name in flat.paths.items() if name == path]
    return sum(len(flat.uses.get(number, ())) for number in numbers) == 1


def added(flat: Flat, chain: Chain) -> dict[int, str]:
    """Returns step → path of the variable [C] that it adds or subtracts.

    Those that other equations use, too, are left out.
    """
    found = {}
    for number, step in enumerate(chain.steps):
        if step.name in ("mul", "div"):
            continue
        path = leaf_of(flat, step.operand)
        if path and flat.sizes[path] == chain.channels and used_once(flat, path):
            found[number] = path
    return found


def slope(flat: Flat, chain: Chain, leaves: Mapping[str, Any], path: str) -> np.ndarray:
    """Returns by how much the end of a chain grows with a variable that a step adds, [C]."""
    ends = [
        composite(flat, chain, {**leaves, path: np.full_like(leaves[path], value)})[1]
        for value in (0.0, 1.0)
    ]
    return ends[1] - ends[0]


def leaves_of(variables: Variables) -> dict[str, Any]:
    """Returns path → array on the host; what is no array, such as a function, stays as it is."""
    return {
        path: np.asarray(leaf) if program.is_array(leaf) else leaf
        for path, leaf in trees.flatten(variables).items()
    }


def _followed(
    flat: Flat, data: set[int], uses: Any, product: Product, layer: Layer, place: int
) -> Chain:
    """Returns the chain of a product."""
    one = flat.equations[place]
    shape = product.equation.outvars[0].aval.shape
    axis = _channel_axis(layer, len(shape))
    chain = Chain(layer, product.mark.path, place, axis, shape[axis], (), one.outputs[0])
    while len(following := uses.get(chain.end, ())) == 1 and following[0] >= 0:
        one = flat.equations[following[0]]
        if one.name == "transpose" and not chain.steps:  # as vmap makes of a matrix and a vector
            axis = one.equation.params["permutation"].index(chain.axis)
            chain = chain._replace(axis=axis, end=one.outputs[0])
            continue
        step = _step(flat, data, chain, one, following[0])
        if step is None:
            break
        steps = chain.steps if step.name in SAME else (*chain.steps, step)
        chain = chain._replace(steps=steps, end=one.outputs[0])
    return chain


def _step(flat: Flat, data: set[int], chain: Chain, one: Equation, place: int) -> Step | None:
    """Returns an equation as a step of a chain, or None if it is another."""
    if one.name in SAME:
        return Step(place, one.name, -1)
    if one.name not in AFFINE:
        return None
    side = one.inputs.index(chain.end)
    other = one.inputs[1 - side]
    shapes = [v.aval.shape for v in (one.equation.invars[side], one.equation.outvars[0])]
    if other in data or shapes[0] != shapes[1] or (side == 1 and one.name in ("sub", "div")):
        return None
    if not _lies_along(flat, other, one.equation.invars[1 - side].aval.shape, chain.axis):
        return None
    return Step(place, "add" if one.name == "add_any" else one.name, other)


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
