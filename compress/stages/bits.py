"""Bits for each kernel, within a budget, by measured increases of the loss."""

# R replicates

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from compress import form as form_lib
from compress import quantize
from compress.made import Made
from compress.search import evaluation
from compress.stages.latent import OUTPUTS, Settings
from groundwork import trees
from groundwork.context import Context
from groundwork.train.losses import CROSS_ENTROPY, Loss
from groundwork.train.replicates import quickly
from groundwork.trees import Params, Variables
from pruning import masks
from pruning.masks import Mask

SEEN = 1024  # training examples with which sensitivities are measured
MOST = 8  # bits that a mixed choice may give
LEAST_BITS = {"kmeans": 1, "uniform": 2}  # of the methods whose bits can be chosen
OF_METHOD = {"ternary": 2, "binary": 1}  # of the others


def mixed(
    context: Context,
    settings: Settings,
    before: Made,
    paths: list[str],
    mean: float,
    loss: Loss = CROSS_ENTROPY,
) -> dict[str, int]:
    """Returns path of a kernel → bits, with the least total increase of the loss.

    Args:
      context: of the run.
      settings: of the quantiser.
      before: the network.
      paths: of the kernels.
      mean: the mean bits of their kept weights.
      loss: of the run.

    Raises:
      BudgetError: the mean cannot be reached.
    """
    sizes = _kept(before, paths)
    sensitivities = _sensitivities(context, settings, before, paths, loss)
    return quantize.allocate(sensitivities, sizes, int(mean * sum(sizes.values())))


def _kept(before: Made, paths: list[str]) -> dict[str, int]:
    """Returns the number of kept weights of each kernel, the mean over replicates."""
    flat, kept = masks.flatten(before.variables["params"]), {}
    for path in paths:
        mask = np.asarray(before.mask.get(path, np.ones(flat[path].shape, bool)))
        kept[path] = max(1, round(float(np.sum(mask) / len(mask))))
    return kept


def _sensitivities(
    context: Context, settings: Settings, before: Made, paths: list[str], objective: Loss
) -> dict[str, dict[int, float]]:
    """Returns path → bits → increase of the training loss, in nats, if that kernel is quantised."""
    apply = form_lib.apply_of(before.form)
    evaluate = evaluation.evaluation(apply, context.dataset, SEEN, objective)
    replicates = [
        jax.tree.map(jnp.asarray, trees.replicate((before.variables, before.mask), r))
        for r in range(context.replicates)
    ]
    changes = {
        (path, bits): _changed(_one_quantized(settings, path, bits))
        for path in paths
        for bits in range(LEAST_BITS[settings.method], MOST + 1)
    }
    plain = evaluation.mean(evaluate(variables) for variables, _ in replicates)
    found = evaluation.increases(evaluate, replicates, changes, plain)
    return {
        path: {bits: one.loss for (of, bits), one in found.items() if of == path} for path in paths
    }


def _changed(change: Callable[[Params, Mask], Params]) -> Callable[[Any], Variables]:
    """Returns a function (variables, mask) → variables, of one that changes parameters."""

    def changed(replicate: tuple[Variables, Mask]) -> Variables:
        variables, mask = replicate
        return {**variables, "params": change(variables["params"], mask)}

    return changed


def _one_quantized(settings: Settings, path: str, bits: int) -> Callable[[Params, Mask], Params]:
    """Returns a function (parameters, mask) → parameters with one kernel quantised."""

    def change(params: Params, mask: Mask) -> Params:
        flat = flatten_dict(params, sep="/")
        if settings.method == "kmeans":
            stored: Any = quantize.kmeans(flat[path], bits, mask.get(path), "linear")
        else:
            axis = OUTPUTS if settings.per_channel else None
            stored = quantize.uniform(flat[path], bits, settings.symmetric, axis, settings.range)
        flat[path] = quantize.dequantize(stored)
        return unflatten_dict(flat, sep="/")

    return jax.jit(change, compiler_options=quickly())
