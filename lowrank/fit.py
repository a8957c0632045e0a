"""The networks of a run, and what they are trained for."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from groundwork.context import Context
from groundwork.train.losses import CROSS_ENTROPY, Loss
from groundwork.train.step import Batch, LossFn, Model, make_loss
from groundwork.trees import Variables
from lowrank import factorization
from lowrank.factorization import Layers, Plan
from lowrank.spec import LowRankSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run, and the network that it decomposes.

    Attributes:
      context: of the run.
      spec: of the command.
      model: the original network.
      layers: of it, that are decomposed or predicted.
      loss: of the run.
    """

    context: Context
    spec: LowRankSpec
    model: Any
    layers: Layers
    loss: Loss = CROSS_ENTROPY


def make_objective(network: Model, plan: Plan, decay: float, loss: Loss = CROSS_ENTROPY) -> LossFn:
    """Returns the loss plus `decay` / 2 times the squared norms of reassembled kernels.

    So the weights that the factors make up decay, and not the factors.
    Source: Khodak et al., arXiv:2105.01029 (Frobenius decay).
    """
    loss_fn = make_loss(network, loss)
    if not decay:
        return loss_fn

    def with_decay(key: jax.Array, variables: Variables, batch: Batch) -> tuple[jax.Array, Any]:
        mean, aux = loss_fn(key, variables, batch)
        kernels = [factorization.reconstruct(variables, *layer) for layer in plan.items()]
        squares = sum(jnp.sum(jnp.square(kernel)) for kernel in kernels)
        return mean + decay / 2 * squares, aux

    return with_decay
