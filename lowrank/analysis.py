"""How well a few of a layer's weights predict the rest: `prediction` on the networks of a run."""

# R replicates, N inputs of a layer, M units

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import keys
from groundwork.data import dataset as data_lib
from groundwork.devices import mesh as mesh_lib
from groundwork.train import networks
from lowrank import factorization, fit, prediction
from lowrank.fit import Experiment
from lowrank.spec import predict_name

SEEN = 2048  # training images whose inputs to the layer covary
LENGTHS = {"neighbouring pixels": 1.0}  # pixels over which weights are alike


def predict_layer(experiment: Experiment, path: str, variables: Any) -> None:
    """The unit of one layer: errors, and test accuracies with the predicted kernel, by share.

    Args:
      experiment: what all share.
      path: of the layer.
      variables: of the original, [R, …], on the host.
    """
    context, spec = experiment.context, experiment.spec
    unit = context.run.unit(predict_name(path))
    context.reporter.begin(unit.name, 0, 1)
    kernels = np.asarray(factorization.parameters(variables, path)["kernel"])
    matrices = kernels.reshape(len(kernels), -1, kernels.shape[-1])
    compiled = fit.compile_programs(
        experiment.context, experiment.model, spec.train, spec.optimizer
    )

    def score(found: jax.Array) -> list[float]:
        own = factorization.with_kernel(variables, path, np.asarray(found).reshape(kernels.shape))
        placed = mesh_lib.put(context.mesh, own, mesh_lib.BY_REPLICATE)
        return networks.accuracies(context, compiled, placed)["test"]

    roots = keys.roots(spec.seed, spec.replicates)
    drawn = jax.vmap(lambda root: keys.stream(root, unit.name))(roots)
    curves = {
        name: prediction.curve(drawn, jnp.asarray(matrices), covariances, score=score)
        for name, covariances in _covariances(experiment, path, variables, kernels.shape).items()
    }
    tree = {n: {**c._asdict(), "shares": np.asarray(c.shares)} for n, c in curves.items()}
    unit.finish(tree, {"path": path})
    context.reporter.end(f"{path}: {', '.join(curves)}")


def _covariances(
    experiment: Experiment, path: str, variables: Any, shape: tuple[int, ...]
) -> dict[str, jax.Array]:
    """What is known of the layer's inputs beforehand, by name: [R, N, N] or [N, N]."""
    found, image = {}, experiment.context.dataset.shape
    window = shape[1:4] if len(shape) == 5 else image
    if len(window) == 3 and math.prod(window) == math.prod(shape[1:-1]):
        for name, length in LENGTHS.items():
            found[name] = prediction.smooth(*window, length=length)
    inputs = data_lib.first_examples(experiment.context.dataset, SEEN)[0]
    own = []
    for r in range(experiment.context.replicates):
        one = jax.tree.map(lambda leaf, r=r: jnp.asarray(leaf[r]), variables)
        rows = factorization.rows(experiment.model, one, (path,), inputs)
        own.append(prediction.empirical(rows[path]))
    found["inputs' covariance"] = jnp.stack(own)
    return found
