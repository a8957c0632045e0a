"""How a layer computes, read from an equation of the network's jaxpr. Read `Layer`, `described`.

A layer is a product or convolution of data with a parameter, its kernel. Its operands are brought
into one order of axes, that of Flax's Dense and Conv, so that what takes its place need not know
how the network was written.
"""

# B batch, N M inputs and outputs of a matrix, KH KW window

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax

from groundwork.architectures.cpu import convolution
from groundwork.architectures.cpu.primitive import convolution_p
from groundwork.traced.walk import Product

Pair = tuple[int, int]
Axes = tuple[int, ...]
Pads = str | tuple[Pair, Pair]  # SAME, SAME_LOWER, VALID, or of height and width


class Layout(NamedTuple):
    """Where the network has the axes of a layer's operands.

    Attributes:
      side: which operand of the product the kernel is, 0 or 1.
      shape: of the kernel, as the network has it.
      kernel: axes of that kernel in the layer's order: of a matrix those that are summed over,
        then the others; of a window KH, KW, in, out.
      inputs: axes of the inputs in the layer's order: of a matrix those that are kept, then those
        that are summed over; of images B, H, W, C.
      outputs: of a convolution: axes of the layer's outputs in the network's order.
      summed: of a matrix: the number of axes that are summed over.
    """

    side: int
    shape: tuple[int, ...]
    kernel: Axes
    inputs: Axes
    outputs: Axes = ()
    summed: int = 0


class Layer(NamedTuple):
    """How a product or a two-dimensional convolution computes: everything but its kernel.

    Its inputs are [..., N] or [B, H, W, C], its kernel [N, M] or [KH, KW, C / groups, O], its
    outputs [..., M] or [B, H', W', O], wherever the network itself has these axes; see `layout`.
    """

    path: str  # "block1/conv2"
    kind: str  # "Dense" or "Conv"
    strides: Pair = (1, 1)
    padding: Pads = "VALID"
    dilation: Pair = (1, 1)
    groups: int = 1
    precision: Any = None
    convolve: Callable[..., jax.Array] = lax.conv_general_dilated  # called like this one
    layout: Layout | None = None  # None: that of Flax's Dense and Conv
    result: Any = None  # dtype of the outputs, where it is not that of the operands

    @property
    def is_straight(self) -> bool:
        """Whether the network has the kernel's axes in the layer's own order."""
        return self.layout is None or self.layout.kernel == tuple(range(len(self.layout.kernel)))


def described(product: Product, path: str) -> Layer | str:
    """Returns how a product computes, or the reason why nothing can take its place.

    Args:
      product: as the walk met it.
      path: of the layer.
    """
    equation = product.equation
    if equation.primitive.name == "dot_general":
        return _matrix(product, path)
    if product.side != 1:
        return "it is what a window moves over"
    return _window(product, path)


def as_kernel(layer: Layer, kernel: Any) -> Any:
    """Returns a kernel of the network, after any stack axes, as the layer's own.

    [..., N, M] or [..., KH, KW, C / groups, O].
    """
    if layer.layout is None:
        return kernel
    lead = kernel.ndim - len(layer.layout.shape)
    axes = (*range(lead), *(lead + axis for axis in layer.layout.kernel))
    moved = kernel.transpose(axes)
    if layer.kind == "Conv":
        return moved
    summed = layer.layout.kernel[: layer.layout.summed]
    return moved.reshape(
        (*moved.shape[:lead], math.prod(layer.layout.shape[a] for a in summed), -1)
    )


def from_kernel(layer: Layer, kernel: Any) -> Any:
    """Returns a layer's own kernel, after any stack axes, as the network has it."""
    if layer.layout is None:
        return kernel
    lead = kernel.ndim - (4 if layer.kind == "Conv" else 2)
    axes, shape = layer.layout.kernel, layer.layout.shape
    unfolded = kernel.reshape((*kernel.shape[:lead], *(shape[axis] for axis in axes)))
    places = (lead + axes.index(axis) for axis in range(len(shape)))
    return unfolded.transpose((*range(lead), *places))


def as_inputs(layer: Layer, inputs: jax.Array) -> jax.Array:
    """Returns what the network multiplies the kernel by, as the layer's inputs."""
    if layer.layout is None:
        return inputs
    moved = inputs.transpose(layer.layout.inputs)
    if layer.kind == "Conv":
        return moved
    kept = moved.ndim - layer.layout.summed
    return moved.reshape((*moved.shape[:kept], math.prod(moved.shape[kept:])))


def as_outputs(layer: Layer, outputs: jax.Array) -> jax.Array:
    """Returns the layer's outputs with the axes that the network expects."""
    if layer.layout is None:
        return outputs
    if layer.kind == "Conv":
        return outputs.transpose(layer.layout.outputs)
    shape = [layer.layout.shape[axis] for axis in layer.layout.kernel[layer.layout.summed :]]
    outputs = outputs.reshape((*outputs.shape[:-1], *shape))
    if layer.layout.side == 1:
        return outputs
    lead = outputs.ndim - len(shape)
    return outputs.transpose((*range(lead, outputs.ndim), *range(lead)))


def _matrix(product: Product, path: str) -> Layer | str:
    options = product.equation.params
    contracted, batched = options["dimension_numbers"]
    if batched[0]:
        return "it is multiplied batch by batch"
    shapes = [variable.aval.shape for variable in product.equation.invars]
    kernel, inputs = shapes[product.side], shapes[1 - product.side]
    pairs = sorted(zip(contracted[product.side], contracted[1 - product.side], strict=True))
    summed, theirs = tuple(own for own, _ in pairs), tuple(other for _, other in pairs)
    layout = Layout(
        side=product.side,
        shape=tuple(kernel),
        kernel=(*summed, *(axis for axis in range(len(kernel)) if axis not in summed)),
        inputs=(*(axis for axis in range(len(inputs)) if axis not in theirs), *theirs),
        summed=len(summed),
    )
    result = _result(product.equation)
    return Layer(path, "Dense", precision=options["precision"], layout=layout, result=result)


def _window(product: Product, path: str) -> Layer | str:
    """Returns how a convolution computes."""
    options, kernel = product.equation.params, product.equation.invars[1].aval.shape
    if product.equation.primitive is convolution_p:
        geometry = options["geometry"]
        if options["role"] != "output" or options["replicates"] != 1:
            return "it is convolved in a gradient, or for several networks at once"
        return Layer(
            path,
            "Conv",
            strides=geometry.strides,
            padding=geometry.padding,
            dilation=geometry.dilation,
            groups=geometry.groups,
            precision=geometry.precision,
            convolve=convolution.conv_general_dilated,
            layout=Layout(1, tuple(kernel), (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3)),
        )
    if len(kernel) != 4:
        return "its convolution is not two-dimensional"
    if tuple(options["lhs_dilation"]) != (1, 1):
        return "its convolution dilates the inputs"
    if options["batch_group_count"] != 1:
        return "its convolution has groups of the batch"
    images, windows, results = options["dimension_numbers"]
    results = (results[0], *results[2:], results[1])  # where B, H, W, C are
    return Layer(
        path,
        "Conv",
        strides=tuple(options["window_strides"]),
        padding=tuple((low, high) for low, high in options["padding"]),  # type: ignore[arg-type]
        dilation=tuple(options["rhs_dilation"]),
        groups=options["feature_group_count"],
        precision=options["precision"],
        layout=Layout(
            side=1,
            shape=tuple(kernel),
            kernel=(*windows[2:], windows[1], windows[0]),
            inputs=(images[0], *images[2:], images[1]),
            outputs=tuple(results.index(axis) for axis in range(4)),
        ),
        result=_result(product.equation),
    )


def _result(equation: Any) -> Any:
    """Returns the dtype of a product's outputs if its operands have another; else None."""
    given, made = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
    return made if made != given else None
