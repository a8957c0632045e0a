"""Kernels whose weights are assigned to centroids by error and bits, in the stage `quantize`."""

# R replicates

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from compress import quantize
from compress.made import Made
from compress.quantize import Clusters
from compress.stages.latent import STORED, Quantizer
from groundwork import trees
from groundwork.trees import Variables
from pruning.masks import Mask


def masked(quantizer: Quantizer, before: Made) -> Mask:
    """Returns the mask of a network, with one for each kernel that is quantised."""
    flat = trees.flatten(before.variables["params"])
    whole: dict[str, Any] = {path: np.ones(flat[path].shape, bool) for path in quantizer.bits}
    return whole | before.mask


def assigned(
    quantizer: Quantizer, before: Made, values: Variables, rate: float
) -> tuple[Variables, Mask]:
    """Returns what is trained, with kernels assigned by error and bits, and the mask of the kept.

    Args:
      quantizer: `kmeans`, with the bits of each kernel.
      before: the network, [R, …].
      values: as `latent.begin` gives them under `masked`, [R, …] on the host: clusters to begin
        with.
      rate: what a bit costs, in the mean square of a kernel's kept weights.
    """
    weights = trees.flatten(before.variables["params"])
    stored = flatten_dict(values[STORED], sep="/")
    mask = dict(before.mask)
    for path, bits in quantizer.bits.items():
        axes = 1 + quantizer.stacks.get(path, 0)
        stored[path] = _each(np.asarray(weights[path]), stored[path], bits, rate, axes)
        mask[path] = stored[path].mask
    tree = unflatten_dict(stored, sep="/")
    return {**values, "params": quantize.learnable(tree), STORED: tree}, mask


def _each(weights: np.ndarray, start: Clusters, bits: int, rate: float, axes: int) -> Clusters:
    """Returns the clusters of a stack of kernels, on the host, each by itself."""
    if axes:
        slices = (
            _each(kernel, trees.replicate(start, i), bits, rate, axes - 1)
            for i, kernel in enumerate(weights)
        )
        return jax.tree.map(lambda *leaves: np.stack(leaves), *slices)
    mask = np.asarray(start.mask)
    scale = float(np.mean(np.square(weights[mask], dtype=np.float64))) if mask.any() else 1.0
    found = quantize.rate_distortion(
        weights, bits, rate * scale, mask=jnp.asarray(mask), codebook=start.codebook
    )
    return jax.tree.map(np.asarray, found)
