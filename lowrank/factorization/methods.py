"""What each method makes of a kernel. Read `METHODS` first, the table of them.

A method is a row of stages, each of them a matrix product or a convolution. The parameters of a
stage are `{"STAGE": {"kernel": …}}` under the layer's own path, so factors are pruned, decayed and
counted as kernels are.
"""

# N M inputs and outputs of a matrix, KH KW window, K rank

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lowrank.decompositions import cp, spatial, svd, tucker

Rank = int | tuple[int, int]
Shape = tuple[int, ...]
Kernels = Sequence[jax.Array]  # one for each stage
KINDS = {2: "Dense", 4: "Conv"}  # number of the kernel's axes → kind of the layer
STALLED = "the iterations stopped while the error still fell: the best factors so far are used"


class Stage(NamedTuple):
    """One product of a factorised layer."""

    name: str
    axes: str = ""  # "hw", "h", "w": along which the window, strides and padding are
    depthwise: bool = False


class Decomposed(NamedTuple):
    """What a method made of a kernel."""

    kernels: Kernels
    error: jax.Array  # [], relative: of the kernel, or of the outputs on the given inputs
    converged: jax.Array | bool = True  # False: `STALLED`


class Method(NamedTuple):
    """One way to factorise kernels of two or of four axes.

    Attributes:
      axes: of the kernel and of each stage's, 2 or 4.
      stages: in the order in which they are computed.
      decompose: (kernel, rank, key, inputs) → factors. The inputs are those of the layer, as a
        matrix [rows, N], or None.
      reconstruct: kernels of the stages → kernel.
      full: shape of the kernel → the largest rank.
      shapes: (shape of the kernel, rank) → shapes of the kernels of the stages.
      needs_inputs: whether `decompose` needs inputs.
    """

    axes: int
    stages: tuple[Stage, ...]
    decompose: Callable[[jax.Array, Any, jax.Array, jax.Array | None], Decomposed]
    reconstruct: Callable[..., jax.Array]
    full: Callable[[Shape], Rank]
    shapes: Callable[[Shape, Any], tuple[Shape, ...]]
    needs_inputs: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the stages."""
        return tuple(stage.name for stage in self.stages)


def _svd(kernel: jax.Array, rank: int, key: jax.Array, inputs: jax.Array | None) -> Decomposed:
    left, right, error = svd.decompose(kernel, rank)
    return Decomposed((left, right), error)


def _svd_outputs(
    kernel: jax.Array, rank: int, key: jax.Array, inputs: jax.Array | None
) -> Decomposed:
    assert inputs is not None
    left, right, error = svd.decompose_outputs(kernel, inputs, rank)
    return Decomposed((left, right), error)


def _svd_window(
    kernel: jax.Array, rank: int, key: jax.Array, inputs: jax.Array | None
) -> Decomposed:
    first, last, error = svd.kernels(kernel, rank)
    return Decomposed((first, last), error)


def _svd_window_outputs(
    kernel: jax.Array, rank: int, key: jax.Array, inputs: jax.Array | None
) -> Decomposed:
    assert inputs is not None
    matrix = kernel.reshape(-1, kernel.shape[-1])
    left, right, error = svd.decompose_outputs(matrix, inputs, rank)
    return Decomposed((left.reshape(*kernel.shape[:3], -1), right[None, None]), error)


def _spatial(kernel: jax.Array, rank: int, key: jax.Array, inputs: jax.Array | None) -> Decomposed:
    vertical, horizontal, error = spatial.decompose(kernel, rank)
    return Decomposed((vertical, horizontal), error)


def _tucker(
    kernel: jax.Array, rank: tuple[int, int], key: jax.Array, inputs: jax.Array | None
) -> Decomposed:
    first, core, last, error = tucker.kernels(kernel, *rank)
    return Decomposed((first, core, last), error)


def _cp(kernel: jax.Array, rank: int, key: jax.Array, inputs: jax.Array | None) -> Decomposed:
    result = cp.decompose(key, kernel, rank)
    return Decomposed(cp.kernels(result.factors), result.error, result.converged)


def _two_kernel(first: jax.Array, last: jax.Array) -> jax.Array:
    return jnp.einsum("hwik,ko->hwio", first, last[0, 0])


def _tucker_kernel(first: jax.Array, core: jax.Array, last: jax.Array) -> jax.Array:
    return tucker.reconstruct(core, (None, None, first[0, 0], last[0, 0].T))


def _cp_kernel(
    first: jax.Array, vertical: jax.Array, horizontal: jax.Array, last: jax.Array
) -> jax.Array:
    return cp.reconstruct((vertical[:, 0, 0], horizontal[0, :, 0], first[0, 0], last[0, 0].T))


def _matrix_rank(shape: Shape) -> int:
    return min(math.prod(shape[:-1]), shape[-1])


def _spatial_rank(shape: Shape) -> int:
    return min(shape[0] * shape[2], shape[1] * shape[3])


def _tucker_rank(shape: Shape) -> tuple[int, int]:
    return shape[2], shape[3]


def _cp_rank(shape: Shape) -> int:
    return math.prod(shape) // max(shape)


def _two_shapes(shape: Shape, rank: int) -> tuple[Shape, ...]:
    """The shapes of a matrix's two factors, or of a window's first and last."""
    return (*shape[:-1], rank), (*(1,) * (len(shape) - 2), rank, shape[-1])


def _spatial_shapes(shape: Shape, rank: int) -> tuple[Shape, ...]:
    height, width, inputs, outputs = shape
    return (height, 1, inputs, rank), (1, width, rank, outputs)


def _tucker_shapes(shape: Shape, rank: tuple[int, int]) -> tuple[Shape, ...]:
    height, width, inputs, outputs = shape
    first, last = rank
    return (1, 1, inputs, first), (height, width, first, last), (1, 1, last, outputs)


def _cp_shapes(shape: Shape, rank: int) -> tuple[Shape, ...]:
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
        "svd": Method(2, _PAIR, _svd, jnp.matmul, _matrix_rank, _two_shapes),
        "svd_outputs": Method(2, _PAIR, _svd_outputs, jnp.matmul, _matrix_rank, _two_shapes, True),
    },
    "Conv": {
        "svd": Method(4, _TWO, _svd_window, _two_kernel, _matrix_rank, _two_shapes),
        "svd_outputs": Method(
            4, _TWO, _svd_window_outputs, _two_kernel, _matrix_rank, _two_shapes, True
        ),
        "spatial": Method(
            4, _SPATIAL, _spatial, spatial.reconstruct, _spatial_rank, _spatial_shapes
        ),
        "tucker": Method(4, _TUCKER, _tucker, _tucker_kernel, _tucker_rank, _tucker_shapes),
        "cp": Method(4, _CP, _cp, _cp_kernel, _cp_rank, _cp_shapes),
    },
}
"""Kind of the layer → name → method. The modules in `decompositions` give the sources."""
