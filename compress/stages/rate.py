"""Kernels whose weights are assigned to centroids by error and bits, in the stage `quantize`."""

# R replicates

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from compress import form as form_lib
from compress import quantize
from compress.made import Made, Node, Pipeline, unit_name
from compress.quantize import Clusters
from compress.stages.latent import STORED, Quantizer
from groundwork import trees
from groundwork.train import loss_spec, networks
from groundwork.trees import Variables
from pruning.criteria import batches
from pruning.masks import Mask

SEEN = 256  # training examples whose gradients say how important weights are
IMPORTANCES = ("none", "gradients")
FLOOR = 0.1  # the least importance, of the mean
_FLOATS = 2**24  # in the gradients of single examples that are held at once


def masked(quantizer: Quantizer, before: Made) -> Mask:
    """Returns the mask of a network, with one for each kernel that is quantised."""
    flat = trees.flatten(before.variables["params"])
    whole: dict[str, Any] = {path: np.ones(flat[path].shape, bool) for path in quantizer.bits}
    return whole | before.mask


def importance(pipeline: Pipeline, before: Made, paths: list[str]) -> dict[str, np.ndarray]:
    """Returns path of a kernel → the mean squared gradient of each weight, [R, …].

    It is the diagonal of the empirical Fisher matrix: that of the loss of single training examples,
    by their own labels, of the network in evaluation.
    """
    context = pipeline.context
    loss = loss_spec.build(pipeline.spec.loss, context.dataset.target)
    seen = networks.evidence(context, form_lib.network(before.form), SEEN, loss)

    def squares(variables: Variables) -> dict[str, jax.Array]:
        flat = trees.flatten(variables["params"])
        weights = {path: flat[path] for path in paths}

        def of_one(weights: dict[str, jax.Array], example: Any) -> jax.Array:
            params = unflatten_dict({**flat, **weights}, sep="/")
            return seen["loss"]({**variables, "params": params}, example)

        def of_batch(examples: Any) -> dict[str, jax.Array]:
            alone = jax.tree.map(lambda leaf: leaf[:, None], examples)
            each = jax.vmap(jax.grad(of_one), (None, 0))(weights, alone)
            return jax.tree.map(lambda leaf: jnp.sum(jnp.square(leaf), 0), each)

        size = max(1, _FLOATS // sum(leaf.size for leaf in weights.values()))
        number = batches.count(seen["examples"])
        summed = batches.total(of_batch, seen["examples"], min(size, number))
        return jax.tree.map(lambda leaf: leaf / number, summed)

    return pipeline.mapped(squares, before.variables)


def again(pipeline: Pipeline, node: Node, rounded: Made, stacks: Mapping[str, int]) -> Made:
    """Returns the network before the stage, with the training of an earlier round.

    Each weight has moved as its value has: by the difference of that and of the mean of its
    weights. Weights that became zero are where they were, and may be kept now. All else is as the
    round left it.

    Args:
      pipeline: of the run.
      node: the network to make.
      rounded: what the earlier round made, its parent.
      stacks: path of a kernel → its leading axes; see `Quantizer`.
    """
    parent = node.parent
    while True:
        tree, metadata = pipeline.context.run.unit(unit_name(parent)).result()
        if metadata["stage"] != node.stage:
            break
        parent = metadata["parent"]
    flat = dict(trees.flatten(rounded.variables["params"]))
    weights = trees.flatten(tree["variables"]["params"])
    for path in rounded.bits:
        flat[path] = _moved(np.asarray(weights[path]), flat[path], 1 + stacks.get(path, 0))
    variables = {name: rounded.variables[name] for name in tree["variables"]}
    params = unflatten_dict(flat, sep="/")
    form = rounded.form._replace(activations={})
    return Made(form, {**variables, "params": params}, tree.get("mask", {}), {})


def _moved(weights: np.ndarray, values: Any, axes: int) -> np.ndarray:
    """Returns the weights of a stack of kernels where those that share a value have it as mean."""
    if axes:
        pairs = zip(weights, np.asarray(values), strict=True)
        return np.stack([_moved(kernel, rounded, axes - 1) for kernel, rounded in pairs])
    shared, at = np.unique(values, return_inverse=True)
    means = np.bincount(at.ravel(), weights.ravel()) / np.bincount(at.ravel())
    moved = weights + (shared - means)[at.reshape(weights.shape)]
    return np.where(values == 0, weights, moved).astype(weights.dtype)


def assigned(
    quantizer: Quantizer,
    before: Made,
    values: Variables,
    rate: float,
    importances: Mapping[str, np.ndarray] | None = None,
) -> tuple[Variables, Mask]:
    """Returns what is trained, with kernels assigned by error and bits, and the mask of the kept.

    Args:
      quantizer: `kmeans`, with the bits of each kernel.
      before: the network, [R, …].
      values: as `latent.begin` gives them under `masked`, [R, …] on the host: clusters to begin
        with.
      rate: what a bit costs: in the mean square of a kernel's kept weights; with importances, in
        the mean of importance × square of all kept weights.
      importances: path of a kernel → ≥ 0, [R, …]. Divided by the mean of all kept weights, they are
        `FLOOR` at least.
    """
    weights = trees.flatten(before.variables["params"])
    stored = flatten_dict(values[STORED], sep="/")
    mask = dict(before.mask)
    if importances is not None:
        importances, costs = _scaled(importances, weights, stored)
    for path, bits in quantizer.bits.items():
        axes = quantizer.stacks.get(path, 0)
        each = []
        for r, kernel in enumerate(np.asarray(weights[path])):
            start = trees.replicate(stored[path], r)
            if importances is None:
                each.append(_each((kernel, None), start, bits, axes, rate))
            else:
                pair = kernel, importances[path][r]
                each.append(_each(pair, start, bits, axes, rate, costs[r]))
        stored[path] = _stack(each)
        mask[path] = stored[path].mask
    tree = unflatten_dict(stored, sep="/")
    return {**values, "params": quantize.learnable(tree), STORED: tree}, mask


def _scaled(
    importances: Mapping[str, np.ndarray], weights: Mapping[str, Any], stored: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns importances with a mean of about 1 over all kept weights, and their costs, [R]."""
    kept = {path: np.asarray(stored[path].mask) for path in importances}
    number = np.maximum(sum(_sums(mask) for mask in kept.values()), 1)
    mean = sum(_sums(importances[path] * mask) for path, mask in kept.items()) / number
    mean = np.where(mean > 0, mean, 1.0)
    scaled = {}
    for path, held in importances.items():
        ones = (1,) * (held.ndim - 1)
        scaled[path] = np.maximum(held / mean.reshape(-1, *ones), FLOOR)
    squares = [
        _sums(scaled[path] * np.square(np.asarray(weights[path], np.float64)) * mask)
        for path, mask in kept.items()
    ]
    return scaled, np.sum(squares, axis=0) / number


def _sums(array: np.ndarray) -> np.ndarray:
    """Returns the sum of each replicate, [R]."""
    return array.reshape(len(array), -1).sum(axis=1, dtype=np.float64)


def _each(
    pair: tuple[np.ndarray, np.ndarray | None],
    start: Clusters,
    bits: int,
    axes: int,
    rate: float,
    unit: float | None = None,
) -> Clusters:
    """Returns the clusters of a stack of kernels, on the host, each by itself.

    Args:
      pair: the kernels, and the importance of their weights.
      start: clusters to begin with.
      bits: of each kernel.
      axes: the leading ones, which stack kernels.
      rate: what a bit costs.
      unit: of the rate; None: the mean square of each kernel's kept weights.
    """
    weights, importance = pair
    if axes:
        parts = [None] * len(weights) if importance is None else importance
        return _stack(
            [
                _each((kernel, part), trees.replicate(start, i), bits, axes - 1, rate, unit)
                for i, (kernel, part) in enumerate(zip(weights, parts, strict=True))
            ]
        )
    mask = np.asarray(start.mask)
    if unit is None:
        unit = float(np.mean(np.square(weights[mask], dtype=np.float64))) if mask.any() else 1.0
    found = quantize.rate_distortion(
        weights, bits, rate * unit, importance, jnp.asarray(mask), start.codebook
    )
    return jax.tree.map(np.asarray, found)


def _stack(each: list[Clusters]) -> Clusters:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *each)
