"""Other computations in place of a network's layers, without rewriting it. Read `override` first.

The network's jaxpr is evaluated with a function in place of the products that are named, so its
parameters there may be anything. Methods compose: wrap one `override` in another. Where both name a
layer, the outer one takes the place of the product that is left in what the inner one computes.
"""

# M outputs, KH KW window

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from groundwork import trees
from groundwork.errors import unknown
from groundwork.traced import network, storage
from groundwork.traced.products import Layer, as_inputs, as_kernel, as_outputs, described
from groundwork.traced.walk import Mark, Product, Visitor
from groundwork.trees import Params, Variables


class Override(NamedTuple):
    """Another computation of a layer.

    Attributes:
      compute: (layer, kernel, inputs) → outputs [..., M], without a bias, which the network adds
        itself. The kernel is the layer's own, or whatever is stored in its place.
      stages: names of what is stored in the place of the kernel; () where the kernel itself is.
      shape: what is stored → the shape that the network's own parameter has.
      parameter: path of the kernel, where it is not `PATH/kernel` of the layer; see `storage.put`.
    """

    compute: Callable[[Layer, Any, jax.Array], jax.Array]
    stages: tuple[str, ...] = ()
    shape: Callable[[Any], tuple[int, ...]] | None = None
    parameter: str | None = None


def override(model: Any, overrides: Mapping[str, Override]) -> Callable[..., Any]:
    """Returns a network's function with other computations in place of some layers.

    Args:
      model: a Linen module, anything with `apply`, or a function (variables, …) → outputs.
      overrides: path of a layer → what computes it. Layers that are not called are passed over.

    Returns:
      (variables, …) → outputs, as the network's own function. Where an override has stages, the
      variables have these in the place of the layer's kernel, as `storage.put` leaves them. It
      works under jit, vmap, grad and shard_map, and raises a ValueError for a path that is not that
      of a layer, and for a layer that cannot be computed in another way.
    """

    def apply(variables: Variables, *args: Any, **kwargs: Any) -> Any:
        full, stored = _whole(network.params_of(variables), overrides)
        known = {network.layer_path(path) for path in trees.flatten(full)}
        for path in overrides:
            if path not in known:
                raise ValueError(str(unknown("layer", path, known)))

        def product(met: Product, kernel: Any, inputs: jax.Array) -> jax.Array | None:
            path = network.layer_path(met.mark.path)
            one = overrides.get(path)
            if one is None or (one.stages and met.mark.path not in stored):
                return None
            layer = described(met, path)
            if isinstance(layer, str):
                raise ValueError(refusal(path, layer))
            if one.stages and one.parameter is None and not layer.is_straight:
                raise ValueError(refusal(path, "its kernel has other axes: give an example"))
            own = kernel if met.mark.path in stored else as_kernel(layer, kernel)
            outputs = one.compute(layer, own, as_inputs(layer, inputs))
            return as_outputs(layer, outputs).astype(met.equation.outvars[0].aval.dtype)

        def other(mark: Mark, reason: str) -> None:
            path = network.layer_path(mark.path)
            if path in overrides and (mark.path in stored or mark.path != path):
                raise ValueError(refusal(path, reason))

        visitor = Visitor(product=product, other=other)
        whole = network.with_params(variables, full)
        return network.evaluate(visitor, model, whole, stored, args, kwargs)

    return apply


def refusal(path: str, reason: str) -> str:
    """Returns the text of errors about a layer that no override can take the place of."""
    return f"layer {path!r} cannot be computed in another way: {reason}"


def compute(layer: Layer, kernel: jax.Array, inputs: jax.Array) -> jax.Array:
    """Returns what the layer itself computes: an override that changes nothing."""
    if layer.kind == "Dense":
        return multiply(layer, kernel, inputs, layer.result)
    return convolve(layer, kernel, inputs, result=layer.result)


def multiply(layer: Layer, kernel: jax.Array, inputs: jax.Array, result: Any = None) -> jax.Array:
    """A product that has a layer's precision, and outputs of the dtype `result` if there is one."""
    return jnp.matmul(inputs, kernel, precision=layer.precision, preferred_element_type=result)


def convolve(
    layer: Layer,
    kernel: jax.Array,
    inputs: jax.Array,
    axes: str = "hw",
    groups: int | None = None,
    result: Any = None,
) -> jax.Array:
    """A convolution that has the layer's strides, padding and dilation along some axes only.

    Args:
      layer: a `Conv`.
      kernel: [KH, KW, C / groups, O].
      inputs: [B, H, W, C].
      axes: "hw", "h", "w" or "". Along the others the stride is 1 and there is no padding, as is
        right for windows of 1.
      groups: of channels; the layer's by default.
      result: dtype of the outputs; that of the inputs by default.
    """
    options = {} if result is None else {"preferred_element_type": result}
    along = [axis in axes for axis in "hw"]
    strides, dilation = (
        tuple(value if use else 1 for value, use in zip(pair, along, strict=True))
        for pair in (layer.strides, layer.dilation)
    )
    padding: Any = layer.padding
    if not isinstance(padding, str):
        padding = tuple(pads if use else (0, 0) for pads, use in zip(padding, along, strict=True))
    return layer.convolve(
        inputs,
        kernel,
        strides,
        padding,
        lhs_dilation=(1, 1),
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=layer.groups if groups is None else groups,
        precision=layer.precision,
        **options,
    )


def _whole(params: Params, overrides: Mapping[str, Override]) -> tuple[Params, dict[str, Any]]:
    """Returns the parameters with shapes of kernels where something else is stored; and the latter.

    Returns:
      `(full, stored)`: the parameters as the network has them; path of a kernel → what is stored.
    """
    stored: dict[str, Any] = {}
    for path, one in overrides.items():
        if one.stages:
            place = storage.find(params, path, one.stages, one.parameter)
            if place is None:
                raise ValueError(f"layer {path!r} has no {', '.join(one.stages)} for its kernel")
            parts = storage.get(params, place, one.stages)
            stored[place.parameter] = parts
            params = storage.restore(params, place, one.stages, _shape_of(one, parts))
    return params, stored


def _shape_of(one: Override, stored: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape of a kernel, as varying over devices as what is stored for it."""
    assert one.shape is not None
    return network.shape_like(jax.tree.leaves(stored)[0], one.shape(stored))
