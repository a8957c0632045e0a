"""What is left makes up for what goes: the next layer's weights are solved for anew."""

# N inputs of a layer, M outputs, C channels

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork import trees
from groundwork.traced.products import Layer, as_kernel, from_kernel
from groundwork.trees import Variables
from pruning.structured import layers
from pruning.structured.graph import Graph
from pruning.structured.kept import Keep, mask

AT_ONCE = 1 << 22  # numbers of the network's inputs: of more, the layers' inputs fill the memory
LARGEST = 4096  # rows of a convolution's patches, beyond which its channels stand for them
RIDGE = 1e-4  # of the mean square of the inputs


def least_squares(
    graph: Graph, variables: Variables, keep: Keep, inputs: Any, *, ridge: float = RIDGE
) -> tuple[Variables, dict[str, str]]:
    """Returns variables in which each layer makes up for the inputs that it loses.

    A layer's kernel K of [N, M] becomes, on the inputs k that it keeps, the one whose outputs are
    nearest to the whole layer's: K_k + (X_kᵀ X_k)⁻¹ X_kᵀ X_r K_r, for what the whole network gives
    it on `inputs`. A convolution's X are its patches. Sources: He et al., arXiv:1707.06168 (channel
    pruning), equation 1; Luo et al., arXiv:1707.06342 (ThiNet), equation 7; both solve one layer
    after the other on what the pruned network gives it, and this one all on the whole network's.

    Args:
      graph: see `grouping.groups`.
      variables: of one replicate, at full size.
      keep: group → [U] bool.
      inputs: [B, …] of the network.
      ridge: how much is added to the diagonal of X_kᵀ X_k, as a share of its mean.

    Returns:
      `(variables, missed)`: at full size, zero where units go; and path → why a kernel that loses
      inputs stays as it is.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: (x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": jnp.array([[1.0, 2.0]]), "out": jnp.array([[1.0], [3.0]])}
        >>> graph = structured.groups(network, params, jnp.ones((1, 1)))
        >>> keep, inputs = {"hidden": np.array([True, False])}, jnp.ones((8, 1))
        >>> solved, _ = structured.least_squares(graph, params, keep, inputs)
        >>> jnp.round(solved["out"], 2).tolist()  # 1 × 1 + 2 × 3 = 1 × 7
        [[7.0], [0.0]]
    """
    ones = mask(graph, jax.tree.map(jnp.ones_like, variables), keep)
    left, whole = trees.flatten(ones), trees.flatten(variables)
    solved, missed = trees.flatten(mask(graph, variables, keep)), {}
    found, refused = layers.reached(graph, inputs)
    by_variable = {layers.variable(graph, one.parameter): one for one in found.values()}
    losing: dict[str, Layer] = {}
    for path in graph.summed:
        layer = by_variable.get(path)
        if layer is None or layer.stack or layer.layer.groups > 1:
            if not np.all(left[path]):
                missed[path] = refused.get(
                    path.removeprefix("params/"), "it has groups of channels"
                )
            continue
        if not _inputs_kept(as_kernel(layer.layer, jnp.asarray(left[path]))).all():
            losing[path] = layer.layer
    shapes = {path: as_kernel(one, whole[path]).shape for path, one in losing.items()}
    grams = _grams(graph, variables, inputs, losing, shapes)
    for path, one in losing.items():
        kernel, kept = (as_kernel(one, jnp.asarray(tree[path])) for tree in (whole, left))
        new = _made_up(kernel, kept, grams[path], ridge)
        solved[path] = from_kernel(one, new * kept)
    return trees.unflatten(solved, variables), missed


def _grams(
    graph: Graph,
    variables: Variables,
    inputs: Any,
    losing: Mapping[str, Layer],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Returns path of a kernel → Xᵀ X of its layer's inputs, a share of the examples at a time."""
    leaves = jax.tree.leaves(inputs)
    examples = len(leaves[0])
    size = max(1, AT_ONCE * examples // max(1, sum(np.size(leaf) for leaf in leaves)))
    grams = dict.fromkeys(losing, np.zeros(()))
    paths = tuple(layer.path for layer in losing.values())
    for first in range(0, examples, size) if paths else ():
        part = jax.tree.map(lambda leaf, first=first: leaf[first : first + size], inputs)
        given = layers.given(graph, variables, part, paths)
        for path, layer in losing.items():
            rows = [_rows(layer, each, shapes[path]) for each in given[layer.path]]
            grams[path] = grams[path] + _gram(rows)
    return grams


def _inputs_kept(kept: jax.Array) -> np.ndarray:
    """Returns whether each input is kept, [N], or [C] of a convolution: of a kernel of 0 and 1."""
    return np.any(np.asarray(kept, bool).reshape(-1, *kept.shape[-2:]), axis=(0, 2))


def _rows(layer: Layer, inputs: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns what the rows of a kernel of this shape see: patches of a convolution's inputs."""
    if len(shape) == 4 and math.prod(shape[:3]) <= LARGEST:
        return _patches(layer, inputs, shape[:2])
    return inputs


def _made_up(kernel: jax.Array, kept: jax.Array, gram: np.ndarray, ridge: float) -> jax.Array:
    """Returns a kernel whose inputs that are kept make up for the others, in all of its calls."""
    rows = _inputs_kept(kept)
    if kernel.ndim == 2:
        return _solve(kernel, rows, gram, ridge)
    moved = kernel.transpose(2, 0, 1, 3)  # C outermost, as patches have it
    rows = np.repeat(rows, len(gram) // len(rows))  # of patches
    solved = _solve(moved.reshape(len(gram), -1), rows, gram, ridge)
    return solved.reshape(moved.shape).transpose(1, 2, 0, 3)


def _gram(calls: list[jax.Array]) -> np.ndarray:
    """Returns Xᵀ X [N, N] of all rows of arrays [..., N]."""
    gram = np.zeros(())
    for inputs in calls:
        rows = inputs.reshape(-1, inputs.shape[-1])
        product = jnp.matmul(rows.T, rows, precision=lax.Precision.HIGHEST)
        gram = gram + np.asarray(product, np.float64)
    return gram


def _patches(layer: Layer, inputs: jax.Array, window: tuple[int, ...]) -> jax.Array:
    return lax.conv_general_dilated_patches(
        inputs,
        window,
        layer.strides,
        layer.padding,
        rhs_dilation=layer.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )


def _solve(kernel: jax.Array, rows: np.ndarray, gram: np.ndarray, ridge: float) -> jax.Array:
    """Returns [N, M] with other rows where they are kept."""
    weights = np.array(kernel, np.float64)
    square = gram[np.ix_(rows, rows)]
    added = ridge * np.trace(square) / len(square) + np.finfo(np.float32).tiny
    lost = gram[np.ix_(rows, ~rows)] @ weights[~rows]
    weights[rows] += np.linalg.solve(square + added * np.eye(len(square)), lost)
    return jnp.asarray(weights, kernel.dtype)
