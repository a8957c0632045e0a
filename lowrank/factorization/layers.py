"""Layers as products of smaller ones: what each method makes of a kernel, and how it computes.

`METHODS` is the table: a method is a row of stages, each a matrix product or a convolution with
parameters `{"STAGE": {"kernel": …}}` under the layer's own path, then the layer's bias. Every
stage's parameter is called `kernel`, so factors are pruned, decayed and counted as kernels are.
"""

# N M inputs and outputs of a matrix, KH KW window, K rank

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax

from groundwork.traced import override
from groundwork.traced.override import Layer
from lowrank.decompositions import cp, spatial, svd, tucker

Rank = int | tuple[int, int]
Shape = tuple[int, ...]
Kernels = Sequence[jax.Array]  # one a stage
ROWS = 16_384  # patches that a data-aware decomposition looks at
STALLED = "the iterations stopped while the error still fell: the best factors so far are used"


class Stage(NamedTuple):
    """One product of a factorised layer."""

    name: str
    axes: str = ""  # "hw", "h", "w": along which the window, strides and padding are
    depthwise: bool = False


class Decomposed(NamedTuple):
    """What a method made of a kernel."""

    kernels: Kernels
    error: jax.Array  # [], relative: of the kernel, or of the outputs on given inputs
    converged: jax.Array | bool = True  # False: `STALLED`


class Method(NamedTuple):
    """One way to factorise kernels of two or of four axes."""

    stages: tuple[Stage, ...]
    # kernel, rank, key, inputs of the layer as a matrix [rows, N] or None
    decompose: Callable[[jax.Array, Any, jax.Array, jax.Array | None], Decomposed]
    reconstruct: Callable[..., jax.Array]  # kernels of the stages → kernel
    full: Callable[[Shape], Rank]  # shape of the kernel → the largest rank
    shapes: Callable[[Shape, Any], tuple[Shape, ...]]  # of the kernel, rank → of the stages' ones
    needs_inputs: bool = False


def _svd(kernel, rank, key, inputs):
    left, right, error = svd.decompose(kernel, rank)
    return Decomposed((left, right), error)


def _svd_outputs(kernel, rank, key, inputs):
    left, right, error = svd.decompose_outputs(kernel, inputs, rank)
    return Decomposed((left, right), error)


def _svd_window(kernel, rank, key, inputs):
    first, last, error = svd.kernels(kernel, rank)
    return Decomposed((first, last), error)


def _svd_window_outputs(kernel, rank, key, inputs):
    matrix = kernel.reshape(-1, kernel.shape[-1])
    left, right, error = svd.decompose_outputs(matrix, inputs, rank)
    return Decomposed((left.reshape(*kernel.shape[:3], -1), right[None, None]), error)


def _spatial(kernel, rank, key, inputs):
    vertical, horizontal, error = spatial.decompose(kernel, rank)
    return Decomposed((vertical, horizontal), error)


def _tucker(kernel, rank, key, inputs):
    first, core, last, error = tucker.kernels(kernel, *rank)
    return Decomposed((first, core, last), error)


def _cp(kernel, rank, key, inputs):
    found = cp.decompose(key, kernel, rank)
    return Decomposed(cp.kernels(found.factors), found.error, found.converged)


def _two_kernel(first, last):
    return jnp.einsum("hwik,ko->hwio", first, last[0, 0])


def _tucker_kernel(first, core, last):
    return tucker.reconstruct(core, (None, None, first[0, 0], last[0, 0].T))


def _cp_kernel(first, vertical, horizontal, last):
    return cp.reconstruct((vertical[:, 0, 0], horizontal[0, :, 0], first[0, 0], last[0, 0].T))


def _matrix_rank(shape):
    return min(math.prod(shape[:-1]), shape[-1])


def _spatial_rank(shape):
    return min(shape[0] * shape[2], shape[1] * shape[3])


def _tucker_rank(shape):
    return shape[2], shape[3]


def _cp_rank(shape):
    return math.prod(shape) // max(shape)


def _two_shapes(shape, rank):
    """Of a matrix's two factors, or of a window's first and last."""
    return (*shape[:-1], rank), (*(1,) * (len(shape) - 2), rank, shape[-1])


def _spatial_shapes(shape, rank):
    height, width, inputs, outputs = shape
    return (height, 1, inputs, rank), (1, width, rank, outputs)


def _tucker_shapes(shape, rank):
    height, width, inputs, outputs = shape
    first, last = rank
    return (1, 1, inputs, first), (height, width, first, last), (1, 1, last, outputs)


def _cp_shapes(shape, rank):
    height, width, inputs, outputs = shape
    return (1, 1, inputs, rank), (height, 1, 1, rank), (1, width, 1, rank), (1, 1, rank, outputs)


_PAIR = (Stage("left"), Stage("right"))
_TWO = (Stage("first", "hw"), Stage("last"))
_SPATIAL = (Stage("vertical", "h"), Stage("horizontal", "w"))
_TUCKER = (Stage("first"), Stage("core", "hw"), Stage("last"))
_CP = (
    Stage("first"),
    Stage("vertical", "h", depthwise=True),
    Stage("horizontal", "w", depthwise=True),
    Stage("last"),
)
METHODS: dict[str, dict[str, Method]] = {
    "Dense": {
        "svd": Method(_PAIR, _svd, jnp.matmul, _matrix_rank, _two_shapes),
        "svd_outputs": Method(_PAIR, _svd_outputs, jnp.matmul, _matrix_rank, _two_shapes, True),
    },
    "Conv": {
        "svd": Method(_TWO, _svd_window, _two_kernel, _matrix_rank, _two_shapes),
        "svd_outputs": Method(
            _TWO, _svd_window_outputs, _two_kernel, _matrix_rank, _two_shapes, True
        ),
        "spatial": Method(_SPATIAL, _spatial, spatial.reconstruct, _spatial_rank, _spatial_shapes),
        "tucker": Method(_TUCKER, _tucker, _tucker_kernel, _tucker_rank, _tucker_shapes),
        "cp": Method(_CP, _cp, _cp_kernel, _cp_rank, _cp_shapes),
    },
}
"""Kind of the layer → name → method. Sources: the modules that are named as the methods are."""


KINDS = {2: "Dense", 4: "Conv"}  # axes of the kernel → kind


def factors(
    method: Method,
    params: Mapping[str, Any],
    rank: Rank,
    key: jax.Array,
    inputs: jax.Array | None = None,
) -> tuple[dict[str, Any], Decomposed]:
    """A layer's parameters with factors in place of its kernel, and what they are worth.

    Args:
      method: of `METHODS`.
      params: `kernel`, and whatever else: it stays.
      rank: within the method's range.
      key: for methods that start at random.
      inputs: [rows, N] what the layer is given, as `rows`; for methods that need them.
    """
    found = method.decompose(params["kernel"], rank, key, inputs)
    rest = {name: leaf for name, leaf in params.items() if name != "kernel"}
    dtype = params["kernel"].dtype
    own = {
        stage.name: {"kernel": kernel.astype(dtype)}
        for stage, kernel in zip(method.stages, found.kernels, strict=True)
    }
    return {**own, **rest}, found


def compute(method: Method, layer: Layer, params: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """The outputs of a factorised layer: what `surgery.override` puts in its place."""
    kernels = [params[stage.name]["kernel"] for stage in method.stages]
    x, bias, *kernels = promote_dtype(x, params.get("bias"), *kernels, dtype=layer.dtype)
    for stage, kernel in zip(method.stages, kernels, strict=True):
        if layer.kind == "Dense":
            x = jnp.matmul(x, kernel, precision=layer.precision)
        else:
            groups = kernel.shape[-1] if stage.depthwise else 1
            x = override.convolve(layer, x, kernel, stage.axes, groups)
    return override.biased(x, bias)


def reconstruct(method: Method, params: Mapping[str, Any]) -> jax.Array:
    """The kernel that the factors make up, [N, M] or [KH, KW, in, out]."""
    return method.reconstruct(*(params[stage.name]["kernel"] for stage in method.stages))


def rows(layer: Layer, kernel: tuple[int, ...], inputs: jax.Array) -> jax.Array:
    """What a layer multiplies its kernel by, as a matrix [rows, N]: its inputs, or their patches.

    Of more than `ROWS` a random selection, always the same: regular steps would meet the same
    columns of every image. No more than about so many patches are made at once.
    """
    if layer.kind == "Dense":
        inputs = inputs.reshape(-1, inputs.shape[-1])
        return inputs if len(inputs) <= ROWS else inputs[_chosen(len(inputs))]
    images = inputs.reshape((-1, *inputs.shape[-3:]))
    patches = functools.partial(_patches, layer, kernel)
    each = jax.eval_shape(patches, images[:1]).shape[0]  # of an image
    if len(images) * each <= ROWS:
        return patches(images)
    chosen, several = _chosen(len(images) * each), max(1, ROWS // each)
    parts = []
    for first in range(0, len(images), several):
        low, high = np.searchsorted(chosen, (first * each, (first + several) * each))
        parts.append(patches(images[first : first + several])[chosen[low:high] - first * each])
    return jnp.concatenate(parts)


def _patches(layer: Layer, kernel: tuple[int, ...], images: jax.Array) -> jax.Array:
    """[rows, N], image by image."""
    found = lax.conv_general_dilated_patches(
        images,
        kernel[:2],
        layer.strides,
        layer.padding,
        rhs_dilation=layer.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,  # a copy: nothing is to be rounded
    )
    found = found.reshape(-1, kernel[2], math.prod(kernel[:2])).swapaxes(1, 2)
    return found.reshape(-1, math.prod(kernel[:3]))


def _chosen(count: int) -> np.ndarray:
    """`ROWS` places of so many, rising."""
    return np.sort(np.random.default_rng(0).choice(count, ROWS, replace=False))
