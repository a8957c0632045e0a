"""What the layers of a network are given: norms and Gram matrices of their inputs.

They come from the network's own program (see `groundwork.traced.reach`), however it is written. A
layer's kernel is seen as K inputs by M outputs in each of G groups of channels: of a dense layer
G = 1, and of a convolution K are the entries of a window, whose inputs are the patches of images.
Where several calls share a kernel, their inputs are taken together.
"""

# P rows (of examples, positions), G groups, K inputs, M outputs; images are B H W C

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from groundwork.traced import network, reach
from groundwork.traced.products import Layer, as_kernel, from_kernel
from groundwork.traced.reach import Reached
from pruning.criteria import batches
from pruning.criteria.evidence import Evidence

LARGEST = 8192  # inputs whose Gram matrix is kept
ENCLOSED = "it stands in a scan or a rematerialised part"
UNREACHED = "nothing is multiplied by it"


def layers(evidence: Evidence) -> dict[str, Reached]:
    """Returns the layers of the kernels that may be pruned, the mask's path → layer.

    Nothing is computed.

    Raises:
      ValueError: the inputs of one cannot be had; the error says why.
    """
    prefix = "params/" if network.has_collections(evidence.params) else ""
    found, refused = reach.layers(evidence.apply, evidence.params, evidence.examples)
    by_path = {prefix + layer.parameter: layer for layer in found.values()}
    for path in sorted(evidence.mask):
        reason = refused.get(path.removeprefix(prefix), UNREACHED)
        if path in by_path and by_path[path].enclosed:
            reason = ENCLOSED
        elif path in by_path:
            continue
        raise ValueError(
            f"the inputs of {path!r} cannot be had: {reason}; leave it out of what may be pruned, "
            "or choose another criterion"
        )
    return {path: by_path[path] for path in sorted(evidence.mask)}


def squares(evidence: Evidence) -> dict[str, jax.Array]:
    """Returns path → Σ x² of each input of a layer, over all examples and positions, [G, K]."""
    return _total(evidence, layers(evidence), lambda rows: jnp.sum(jnp.square(rows), 1))


def grams(evidence: Evidence) -> dict[str, jax.Array]:
    """Returns path → Xᵀ X of a layer's inputs X [P, K] in each group, [G, K, K].

    Raises:
      ValueError: see `layers`; or a layer has more than 8192 inputs.
    """
    found = layers(evidence)
    for path, layer in found.items():
        inputs = math.prod(layer.kernel[:-1])
        if inputs > LARGEST:
            raise ValueError(
                f"{path!r} has {inputs} inputs: second order is for at most {LARGEST} of a layer"
            )
    return _total(
        evidence,
        found,
        lambda rows: jnp.einsum("gpk,gpl->gkl", rows, rows, precision=lax.Precision.HIGHEST),
    )


def means(evidence: Evidence) -> dict[str, jax.Array]:
    """Returns path → the mean of each input of a layer, over examples and positions, [G, K]."""
    sums = _total(
        evidence, layers(evidence), lambda rows: (jnp.sum(rows, 1), jnp.float32(rows.shape[1]))
    )
    return {path: total / count for path, (total, count) in sums.items()}


def as_matrices(layer: Reached, leaf: jax.Array) -> jax.Array:
    """Returns a parameter of a layer, or a mask of it, as [G, K, M]."""
    kernel = as_kernel(layer.layer, leaf)
    groups = layer.layer.groups
    return jnp.moveaxis(kernel.reshape(-1, groups, kernel.shape[-1] // groups), 1, 0)


def from_matrices(layer: Reached, matrices: jax.Array) -> jax.Array:
    """Returns [G, K, M] as the network has the parameter."""
    return from_kernel(layer.layer, jnp.moveaxis(matrices, 0, 1).reshape(layer.kernel))


def _total(evidence: Evidence, found: dict[str, Reached], reduce: Any) -> dict[str, jax.Array]:
    """Returns path → the sum over all examples of what a function makes of rows [G, P, K]."""
    paths = {layer.layer.path: path for path, layer in found.items()}

    def of_batch(batch: Any) -> dict[str, jax.Array]:
        given = reach.inputs_of(evidence.apply, evidence.params, tuple(paths), batch)
        reduced = {
            path: [reduce(_rows(found[path], inputs)) for inputs in given[name]]
            for name, path in paths.items()
        }
        return {
            path: jax.tree.map(lambda *calls: sum(calls), *calls) for path, calls in reduced.items()
        }

    return batches.total(of_batch, evidence.examples, evidence.batch_size)


def _rows(layer: Reached, inputs: jax.Array) -> jax.Array:
    """Returns what a layer multiplies its kernel by, [G, P, K], as float32 or more."""
    inputs = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
    if layer.layer.kind == "Dense":
        return inputs.reshape(1, -1, inputs.shape[-1])
    patches = _patches(layer.layer, inputs, layer.kernel[:2])
    window, channels, groups = patches.shape[-2], patches.shape[-1], layer.layer.groups
    rows = patches.reshape(-1, window, groups, channels // groups)
    return jnp.moveaxis(rows, 2, 0).reshape(groups, len(rows), -1)


def _patches(layer: Layer, images: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """Returns the patches of images that a convolution sees, [B, H', W', KH·KW, C]."""
    spans = [(size - 1) * step + 1 for size, step in zip(window, layer.dilation, strict=True)]
    pads: Any = layer.padding
    if isinstance(pads, str):
        pads = lax.padtype_to_pads(images.shape[1:3], spans, layer.strides, pads)
    edges = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    padded = lax.pad(images, jnp.zeros((), images.dtype), edges)  # may be negative
    ends = [length - span + 1 for length, span in zip(padded.shape[1:3], spans, strict=True)]
    slices = []
    for row in range(window[0]):
        for column in range(window[1]):
            top, left = row * layer.dilation[0], column * layer.dilation[1]
            rows = slice(top, top + ends[0], layer.strides[0])
            columns = slice(left, left + ends[1], layer.strides[1])
            slices.append(padded[:, rows, columns])
    return jnp.stack(slices, 3)
