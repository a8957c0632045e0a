"""Layers as products of smaller ones: their parameters, and how they compute.

`methods.METHODS` says what each method makes of a kernel.
"""

# N M inputs and outputs of a matrix, KH KW window, L layers of a stack

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork.traced import override
from groundwork.traced.products import Layer
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
    kernel: jax.Array,
    rank: Rank,
    key: jax.Array,
    inputs: jax.Array | None = None,
) -> tuple[dict[str, Any], Decomposed]:
    """Returns the factors of a kernel, stage by stage, and what they are worth.

    Args:
      method: one of `METHODS`.
      kernel: [N, M] or [KH, KW, in, out]; or a stack of such, [L, …], which are decomposed one by
        one: the error is then that of all together.
      rank: within the method's range.
      key: for methods that start at random.
      inputs: [rows, N] what the layer is given, as `rows` returns it; for methods that need it.

    Example:
        >>> from lowrank import layers
        >>> method = layers.METHODS["Dense"]["svd"]
        >>> stages, found = layers.factors(method, jnp.ones((4, 6)), 1, jax.random.key(0))
        >>> {name: stage["kernel"].shape for name, stage in stages.items()}
        {'left': (4, 1), 'right': (1, 6)}
        >>> bool(found.error < 1e-5)  # a kernel of ones has rank 1
        True
    """
    stack = kernel.shape[: kernel.ndim - method.axes]
    if not stack:
        result = method.decompose(kernel, rank, key, inputs)
    else:
        result = _each(method, kernel.reshape(-1, *kernel.shape[len(stack) :]), rank, key, stack)
    return {
        stage.name: {"kernel": factor.astype(kernel.dtype)}
        for stage, factor in zip(method.stages, result.kernels, strict=True)
    }, result


def _each(
    method: Method, kernels: jax.Array, rank: Rank, key: jax.Array, stack: tuple[int, ...]
) -> Decomposed:
    """Returns the factors of several kernels [L, …], as stacks."""
    results = [
        method.decompose(kernel, rank, jax.random.fold_in(key, i), None)
        for i, kernel in enumerate(kernels)
    ]
    parts = zip(*(result.kernels for result in results), strict=True)
    factors = [jnp.stack(part).reshape(*stack, *part[0].shape) for part in parts]
    sizes = jnp.sum(jnp.square(kernels.astype(jnp.float32)), range(1, kernels.ndim))
    errors = jnp.stack([result.error for result in results])
    whole = jnp.sum(sizes)
    error = jnp.sqrt(jnp.sum(jnp.square(errors) * sizes) / jnp.where(whole > 0, whole, 1))
    converged = jnp.all(jnp.stack([jnp.asarray(result.converged) for result in results]))
    return Decomposed(factors, error, converged)


def compute(method: Method, layer: Layer, stored: Params, x: jax.Array) -> jax.Array:
    """Returns the outputs of a factorised layer; `override.override` puts this in its place.

    Example:
        >>> from groundwork.traced.products import Layer
        >>> from lowrank import layers
        >>> left, right = jnp.array([[1.0], [2.0]]), jnp.array([[3.0, 4.0]])
        >>> stages = {"left": {"kernel": left}, "right": {"kernel": right}}
        >>> method, inputs = layers.METHODS["Dense"]["svd"], jnp.array([[1.0, 1.0]])
        >>> layers.compute(method, Layer("fc1", "Dense"), stages, inputs).tolist()  # 3 × [3, 4]
        [[9.0, 12.0]]
    """
    for stage in method.stages:
        kernel = stored[stage.name]["kernel"]
        result = layer.result if stage is method.stages[-1] else None
        if layer.kind == "Dense":
            x = override.multiply(layer, kernel, x, result)
        else:
            groups = kernel.shape[-1] if stage.depthwise else 1
            x = override.convolve(layer, kernel, x, stage.axes, groups, result)
    return x


def reconstruct(method: Method, stored: Params) -> jax.Array:
    """Returns the kernel that the factors make up, [N, M] or [KH, KW, in, out], or stacks of it.

    Example:
        >>> from lowrank import layers
        >>> left, right = jnp.array([[1.0], [2.0]]), jnp.array([[3.0, 4.0]])
        >>> stages = {"left": {"kernel": left}, "right": {"kernel": right}}
        >>> layers.reconstruct(layers.METHODS["Dense"]["svd"], stages).tolist()
        [[3.0, 4.0], [6.0, 8.0]]
    """
    kernels = [stored[stage.name]["kernel"] for stage in method.stages]
    whole = method.reconstruct
    for _ in range(kernels[0].ndim - method.axes):
        whole = jax.vmap(whole)
    return whole(*kernels)


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

    Example:
        >>> from groundwork.traced.products import Layer
        >>> from lowrank import layers
        >>> image = jnp.arange(4.0).reshape(1, 2, 2, 1)
        >>> layers.rows(Layer("conv1", "Conv"), (1, 2, 1, 8), image).tolist()  # each window of 1×2
        [[0.0, 1.0], [2.0, 3.0]]
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
