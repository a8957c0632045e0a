"""How many bits each kernel gets, where measured losses choose within a budget."""

# R replicates

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from compress import form as form_lib
from compress import quantize
from compress.made import Made
from compress.stages.latent import OUTPUTS, Settings
from groundwork import trees
from groundwork.context import Context
from groundwork.train import networks
from groundwork.train.replicates import QUICKLY
from groundwork.trees import Params
from pruning import masks
from pruning.masks import Mask

SEEN = 1024  # training examples that sensitivities are measured on
MOST = 8  # bits that a mixed choice may give
LEAST_BITS = {"kmeans": 1, "uniform": 2}  # of methods whose bits can be chosen
OF_METHOD = {"ternary": 2, "binary": 1}  # of the others


def mixed(
    context: Context, settings: Settings, before: Made, paths: list[str], mean: float
) -> dict[str, int]:
    """Returns path of a kernel → bits, of least total increase of the loss.

    Args:
      context: of the run.
      settings: method, and how it quantises.
      before: the network.
      paths: of the kernels.
      mean: bits of their kept weights, in the mean.

    Raises:
      ValueError: the mean cannot be reached.
    """
    sizes = _kept(before, paths)
    sensitivities = _sensitivities(context, settings, before, paths)
    return quantize.allocate(sensitivities, sizes, int(mean * sum(sizes.values())))


def _kept(before: Made, paths: list[str]) -> dict[str, int]:
    """Kept weights of each kernel, the mean over replicates."""
    flat, kept = masks.flatten(before.variables["params"]), {}
    for path in paths:
        mask = np.asarray(before.mask.get(path, np.ones(flat[path].shape, bool)))
        kept[path] = max(1, round(float(np.sum(mask) / len(mask))))
    return kept


def _sensitivities(
    context: Context, settings: Settings, before: Made, paths: list[str]
) -> dict[str, dict[int, float]]:
    """Path → bits → increase of the training loss, in nats, with that kernel alone quantised."""
    evidence = networks.evidence(context, form_lib.network(before.form), SEEN)
    loss = jax.jit(lambda variables: evidence["loss"](variables, evidence["examples"]))

    def mean_loss(change: Callable[[Params, Mask], Params]) -> float:
        losses = []
        for r in range(context.replicates):
            both = trees.replicate((before.variables, before.mask), r)
            variables, mask = jax.tree.map(jnp.asarray, both)
            losses.append(float(loss({**variables, "params": change(variables["params"], mask)})))
        return float(np.mean(losses))

    plain = mean_loss(lambda params, mask: params)
    return {
        path: {
            bits: mean_loss(_one_quantized(settings, path, bits)) - plain
            for bits in range(LEAST_BITS[settings.method], MOST + 1)
        }
        for path in paths
    }


def _one_quantized(settings: Settings, path: str, bits: int) -> Callable[[Params, Mask], Params]:
    """Parameters with one kernel quantised, of parameters and mask."""

    def change(params: Params, mask: Mapping[str, Any]) -> Params:
        flat = flatten_dict(params, sep="/")
        if settings.method == "kmeans":
            stored: Any = quantize.kmeans(flat[path], bits, mask.get(path), "linear")
        else:
            axis = OUTPUTS if settings.per_channel else None
            stored = quantize.uniform(flat[path], bits, settings.symmetric, axis, settings.range)
        flat[path] = quantize.dequantize(stored)
        return unflatten_dict(flat, sep="/")

    return jax.jit(change, compiler_options=QUICKLY if jax.default_backend() == "cpu" else {})
