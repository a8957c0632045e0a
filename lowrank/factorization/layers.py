"""Layers as products of smaller ones: their parameters, and how they compute.

`methods.METHODS` says what each method makes of a kernel; the layer's bias comes after all stages.
"""

# N M inputs and outputs of a matrix, KH KW window

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax

from groundwork.traced import override
from groundwork.traced.override import Layer
from groundwork.trees import Params
from lowrank.factorization.methods import KINDS, METHODS, STALLED, Decomposed, Method, Rank

__all__ = [
    "KINDS",
    "METHODS",
    "STALLED",
    "Decomposed",
    "Method",
    "Rank",
    "compute",
    "factors",
    "reconstruct",
    "rows",
]

ROWS = 16_384  # the patches that a data-aware decomposition looks at


def factors(
    method: Method,
    params: Mapping[str, Any],
    rank: Rank,
    key: jax.Array,
    inputs: jax.Array | None = None,
) -> tuple[dict[str, Any], Decomposed]:
    """Returns a layer's parameters with factors in place of its kernel, and what they are worth.

    Args:
      method: one of `METHODS`.
      params: `kernel`, and whatever else the layer has, which stays.
      rank: within the method's range.
      key: for methods that start at random.
      inputs: [rows, N] what the layer is given, as `rows` returns it; for methods that need it.
    """
    result = method.decompose(params["kernel"], rank, key, inputs)
    dtype = params["kernel"].dtype
    stages = {
        stage.name: {"kernel": kernel.astype(dtype)}
        for stage, kernel in zip(method.stages, result.kernels, strict=True)
    }
    return {**stages, **{name: leaf for name, leaf in params.items() if name != "kernel"}}, result


def compute(method: Method, layer: Layer, params: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Returns the outputs of a factorised layer; `override.override` puts this in its place."""
    kernels = [params[stage.name]["kernel"] for stage in method.stages]
    x, bias, *kernels = promote_dtype(x, params.get("bias"), *kernels, dtype=layer.dtype)
    for stage, kernel in zip(method.stages, kernels, strict=True):
        if layer.kind == "Dense":
            x = jnp.matmul(x, kernel, precision=layer.precision)
        else:
            groups = kernel.shape[-1] if stage.depthwise else 1
            x = override.convolve(layer, x, kernel, stage.axes, groups)
    return override.biased(x, bias)


def reconstruct(method: Method, params: Params) -> jax.Array:
    """Returns the kernel that the factors make up, [N, M] or [KH, KW, in, out]."""
    return method.reconstruct(*(params[stage.name]["kernel"] for stage in method.stages))


def rows(layer: Layer, kernel: tuple[int, ...], inputs: jax.Array) -> jax.Array:
    """Returns what a layer multiplies its kernel by, as a matrix: its inputs, or their patches.

    Of more than `ROWS` rows it takes a random selection, which is always the same one: regular
    steps would meet the same columns of every image. About `ROWS` patches exist at a time.

    Args:
      layer: how it computes.
      kernel: the shape of its kernel.
      inputs: [B, …] as the layer is given them.

    Returns:
      [rows, N].
    """
    if layer.kind == "Dense":
        inputs = inputs.reshape(-1, inputs.shape[-1])
        return inputs if len(inputs) <= ROWS else inputs[_chosen(len(inputs))]
    images = inputs.reshape((-1, *inputs.shape[-3:]))
    patches = functools.partial(_patches, layer, kernel)
    per_image = jax.eval_shape(patches, images[:1]).shape[0]
    if len(images) * per_image <= ROWS:
        return patches(images)
    chosen, several = _chosen(len(images) * per_image), max(1, ROWS // per_image)
    parts = []
    for first in range(0, len(images), several):
        low, high = np.searchsorted(chosen, (first * per_image, (first + several) * per_image))
        places = chosen[low:high] - first * per_image
        parts.append(patches(images[first : first + several])[places])
    return jnp.concatenate(parts)


def _patches(layer: Layer, kernel: tuple[int, ...], images: jax.Array) -> jax.Array:
    """Returns the patches [rows, N], image by image."""
    patches = lax.conv_general_dilated_patches(
        images,
        kernel[:2],
        layer.strides,
        layer.padding,
        rhs_dilation=layer.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,  # this copies: nothing may be rounded
    )
    patches = patches.reshape(-1, kernel[2], math.prod(kernel[:2])).swapaxes(1, 2)
    return patches.reshape(-1, math.prod(kernel[:3]))


def _chosen(count: int) -> np.ndarray:
    """Returns `ROWS` of so many places, in rising order."""
    return np.sort(np.random.default_rng(0).choice(count, ROWS, replace=False))
