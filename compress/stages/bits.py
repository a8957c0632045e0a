"""How many bits each kernel gets: the config's, or what measured losses say within a budget."""

# R replicates

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from compress import form as form_lib
from compress import made as made_lib
from compress import quantize
from compress.made import Experiment, Made
from compress.stages import latent
from compress.stages.stage_specs import LEAST_BITS, QuantizeSpec
from groundwork.train.replicates import QUICKLY
from groundwork.train.step import count
from pruning import masks

SEEN = 1024  # training examples that sensitivities are measured on
MOST = 8  # bits that a mixed choice may give
OF_METHOD = {"ternary": 2, "binary": 1}


def choose_bits(experiment: Experiment, before: Made, setting: float) -> dict[str, int]:
    """Path of a kernel → bits.

    Raises:
      UserError: a pattern of `quantize.layers` that no kernel has, a mean that cannot be reached.
    """
    spec = experiment.spec.quantize
    params = before.variables["params"]
    of_one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), params)
    paths = list(latent.kernels(of_one))
    if spec.method in OF_METHOD:
        return dict.fromkeys(paths, OF_METHOD[spec.method])
    fixed = latent.said(spec, paths)
    if not spec.mixed:
        return {path: fixed.get(path, int(setting)) for path in paths}
    free = [path for path in paths if path not in fixed]
    if not free:
        return fixed
    chosen = quantize.allocate(
        _sensitivities(experiment, before, free),
        (sizes := _kept(before, free)),
        int(setting * sum(sizes.values())),
    )
    return {path: fixed.get(path) or chosen[path] for path in paths}


def _kept(before: Made, paths: list[str]) -> dict[str, int]:
    """Kept weights of each kernel, the mean over replicates."""
    flat = masks.flatten(before.variables["params"])
    found = {}
    for path in paths:
        kept = np.asarray(before.mask.get(path, np.ones(flat[path].shape, bool)))
        found[path] = max(1, round(float(np.sum(kept) / len(kept))))
    return found


def _sensitivities(
    experiment: Experiment, before: Made, paths: list[str]
) -> dict[str, dict[int, float]]:
    """Path → bits → increase of the training loss, in nats, with that kernel alone quantised."""
    spec = experiment.spec.quantize
    inputs = made_lib.examples(experiment.dataset, SEEN)
    labels = made_lib.labels(experiment.dataset, SEEN)
    apply = form_lib.apply_of(before.form)

    @jax.jit
    def loss(variables):
        logits = apply(variables, inputs, train=False)
        return count(logits, labels, jnp.ones(labels.shape, bool)).loss / labels.size

    def mean_loss(change: Callable[[Any, Any], Any]) -> float:
        own = []
        for r in range(experiment.spec.replicates):
            variables, mask = jax.tree.map(
                lambda leaf, r=r: jnp.asarray(leaf[r]), (before.variables, before.mask)
            )
            own.append(float(loss({**variables, "params": change(variables["params"], mask)})))
        return float(np.mean(own))

    plain = mean_loss(lambda params, mask: params)
    return {
        path: {
            bits: mean_loss(_one_quantized(spec, path, bits)) - plain
            for bits in range(LEAST_BITS[spec.method], MOST + 1)
        }
        for path in paths
    }


def _one_quantized(spec: QuantizeSpec, path: str, bits: int) -> Callable[[Any, Any], Any]:
    """Parameters with one kernel quantised, of parameters and mask."""

    def change(params, mask):
        flat = flatten_dict(params, sep="/")
        if spec.method == "kmeans":
            found: Any = quantize.kmeans(flat[path], bits, mask.get(path), "linear")
        else:
            axis = latent.OUTPUTS if spec.per_channel else None
            found = quantize.uniform(flat[path], bits, spec.symmetric, axis, spec.range)
        flat[path] = quantize.dequantize(found)
        return unflatten_dict(flat, sep="/")

    return jax.jit(change, compiler_options=QUICKLY if jax.default_backend() == "cpu" else {})
