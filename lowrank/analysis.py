"""How well a few weights of a layer predict the rest: `prediction` for the networks of a run."""

# R replicates, N inputs of a layer, M units

import math

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import keys, trees
from groundwork.data import dataset as data_lib
from groundwork.train import fitting, networks
from groundwork.trees import Variables
from lowrank import factorization, prediction
from lowrank.fit import Experiment
from lowrank.spec import predict_name

SEEN = 2048  # training images from which a layer's inputs, and their covariance, are taken
LENGTHS = {"neighbouring pixels": 1.0}  # pixels over which weights are similar


def predict_layer(experiment: Experiment, path: str, variables: Variables) -> None:
    """Makes the unit of one layer: errors and test accuracies of predicted kernels, by share.

    Args:
      experiment: the run and its network.
      path: of the layer.
      variables: of the original, [R, …], on the host.
    """
    context, spec = experiment.context, experiment.spec
    unit = context.run.unit(predict_name(path))
    context.reporter.begin(unit.name, 0, 1)
    layer = experiment.layers[path]
    kernels = np.asarray(factorization.kernel(variables, layer))
    matrices = kernels.reshape(len(kernels), -1, kernels.shape[-1])
    compiled = fitting.compile_programs(
        context, experiment.model, spec.train, spec.optimizer, objective=experiment.loss
    )

    def score(predicted: jax.Array) -> list[float]:
        predicted_kernels = np.asarray(predicted).reshape(kernels.shape)
        changed = factorization.with_kernel(variables, layer, predicted_kernels)
        return networks.accuracies(context, compiled, context.put(changed))["test"]

    roots = keys.roots(spec.seed, spec.replicates)
    drawn = jax.vmap(lambda root: keys.stream(root, unit.name))(roots)
    curves = {
        name: prediction.curve(drawn, jnp.asarray(matrices), covariances, score=score)
        for name, covariances in _covariances(experiment, path, variables, kernels.shape).items()
    }
    tree = {
        name: {**curve._asdict(), "shares": np.asarray(curve.shares)}
        for name, curve in curves.items()
    }
    unit.finish(tree, {"path": path})
    context.reporter.end(f"{path}: {', '.join(curves)}")


def _covariances(
    experiment: Experiment, path: str, variables: Variables, shape: tuple[int, ...]
) -> dict[str, jax.Array]:
    """Returns covariances of the layer's inputs that are known beforehand: [N, N] or [R, N, N].

    Args:
      experiment: the run and its network.
      path: of the layer.
      variables: of the original, [R, …], on the host.
      shape: of the layer's kernels, [R, …].
    """
    dataset, covariances = experiment.context.dataset, {}
    image = getattr(dataset.example, "shape", ())[1:]  # of trees of inputs there is none
    window: tuple[int, ...] = shape[1:4] if len(shape) == 5 else image
    if len(window) == 3 and math.prod(window) == math.prod(shape[1:-1]):
        for name, length in LENGTHS.items():
            covariances[name] = prediction.smooth(*window, length=length)
    inputs = data_lib.first_examples(dataset, SEEN)[0]
    empirical = []
    for r in range(experiment.context.replicates):
        one = jax.tree.map(jnp.asarray, trees.replicate(variables, r))
        layers = {path: experiment.layers[path]}
        rows = factorization.rows(experiment.model, one, layers, inputs)
        empirical.append(prediction.empirical(rows[path]))
    covariances["inputs' covariance"] = jnp.stack(empirical)
    return covariances
