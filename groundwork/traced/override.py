"""Other computations in place of a network's layers, without rewriting it. Read `override` first.

Flax calls an interceptor at every method of every module; the one here puts a function in place of
the `Dense` and `Conv` calls that are named, so the network's parameters at these paths may be
anything. Methods compose: wrap one `override` in another. Where both name a layer, the outer one
computes it.
"""

# B batch, H W image, KH KW window, C O channels, M outputs

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from groundwork.traced.layers import (
    Layer,
    LayerError,
    Reached,
    described,
    given,
    inputs_of,
    layers,
)

__all__ = [
    "Layer",
    "LayerError",
    "Network",
    "Override",
    "Reached",
    "biased",
    "compute",
    "convolve",
    "described",
    "inputs_of",
    "layers",
    "override",
]

Override = Callable[[Layer, Any, jax.Array], jax.Array]  # layer, its parameters, inputs → outputs


class Network(NamedTuple):
    """What stands for a module where only these two of its methods are called."""

    init: Callable[..., Any]
    apply: Callable[..., Any]


def override(model: Any, overrides: Mapping[str, Override]) -> Callable[..., Any]:
    """Returns `model.apply` with other computations in place of some layers.

    Args:
      model: a Linen module, or anything with `apply`.
      overrides: path of a layer → what computes it: (layer, parameters, inputs [B, …]) →
        outputs, the bias included. The parameters are those that `variables["params"]` has at
        the path.

    Returns:
      A function like `model.apply`: variables, inputs, … → outputs. It works under jit, vmap, grad
      and shard_map, and raises a `LayerError` where a layer of that path is not a `Dense` or
      two-dimensional `Conv`.
    """
    overrides = dict(overrides)

    def interceptor(
        next_function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        path = "/".join(context.module.path)
        if path not in overrides or context.method_name != "__call__":
            return next_function(*args, **kwargs)
        layer = described(context.module)
        if isinstance(layer, str):
            raise LayerError(f"layer {path!r} cannot be computed in another way: {layer}")
        return overrides[path](layer, context.module.variables["params"], given(args, kwargs))

    @functools.wraps(model.apply)
    def apply(*args: Any, **kwargs: Any) -> Any:
        with nn.intercept_methods(interceptor):
            return model.apply(*args, **kwargs)

    return apply


def compute(layer: Layer, params: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    """Returns what the layer itself computes: an override that changes nothing."""
    inputs, kernel, bias = promote_dtype(
        inputs, params["kernel"], params.get("bias"), dtype=layer.dtype
    )
    if layer.kind == "Dense":
        outputs = jnp.matmul(inputs, kernel, precision=layer.precision)
    else:
        outputs = convolve(layer, inputs, kernel)
    return biased(outputs, bias)


def biased(outputs: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Returns outputs [..., M] plus the bias [M], if there is one."""
    return outputs if bias is None else outputs + bias.reshape((1,) * (outputs.ndim - 1) + (-1,))


def convolve(
    layer: Layer, inputs: jax.Array, kernel: jax.Array, axes: str = "hw", groups: int | None = None
) -> jax.Array:
    """A convolution that has the layer's strides, padding and dilation along some axes only.

    Args:
      layer: a `Conv`.
      inputs: [B, H, W, C], or with another number of leading axes, as Flax takes them.
      kernel: [KH, KW, C / groups, O].
      axes: "hw", "h", "w" or "". Along the others the stride is 1 and there is no padding, as is
        right for windows of 1.
      groups: of channels; the layer's by default.
    """
    lead = inputs.shape[:-3]
    images = inputs.reshape((math.prod(lead), *inputs.shape[-3:]))
    along = [axis in axes for axis in "hw"]
    strides, dilation = (
        tuple(value if use else 1 for value, use in zip(pair, along, strict=True))
        for pair in (layer.strides, layer.dilation)
    )
    padding: Any = layer.padding
    if not isinstance(padding, str):
        padding = tuple(pads if use else (0, 0) for pads, use in zip(padding, along, strict=True))
    outputs = layer.convolve(
        images,
        kernel,
        strides,
        padding,
        lhs_dilation=(1, 1),
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=layer.groups if groups is None else groups,
        precision=layer.precision,
    )
    return outputs.reshape((*lead, *outputs.shape[1:]))
