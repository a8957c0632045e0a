"""The loss of a network with exits: the weighted sum over exits, and two ways to help them.

Source: Huang et al., arXiv:1703.09844, equation 1 (weights of 1); gradient equilibrium and
distillation: Li et al., arXiv:1908.06294, Sections 3.1 and 3.3.
Departs: distillation is added to the cross-entropies, for weights of 1 − γ and γ; and it works from
the first step on, together with the rest, for a second training.
"""

# B batch, C classes, K exits

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from groundwork.train.step import Batch, Counts, EvalFn, LossFn, count


def make_loss(
    model: nn.Module,
    weights: Sequence[float],
    *,
    distillation: float = 0.0,
    temperature: float = 3.0,
    equilibrium: bool = False,
) -> LossFn:
    """Mean over a batch of Σ weights[k] × exit k's cross-entropy, and what is asked for besides.

    Args:
      model: a network with K exits.
      weights: [K].
      distillation: weight of the last exit's softened answers as targets of the earlier ones.
      temperature: by which logits are divided for that; the term is multiplied by its square.
      equilibrium: scale gradients so that each block gets as much from all exits behind it.
    """

    def loss_fn(key, variables, batch):
        logits, updated = model.apply(
            variables,
            batch.inputs,
            equilibrium,
            method=_logits,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        counts = count_exits(logits, weights, batch)
        loss = counts.loss / counts.examples
        if distillation:
            loss += distillation * _distilled(logits, temperature, batch.valid)
        return loss, (updated, counts)

    return loss_fn


def make_evaluate(model: nn.Module, weights: Sequence[float]) -> EvalFn:
    """(variables, batch) → counts: the exits' weighted loss, and what the last exit has right."""

    def evaluate(variables, batch):
        return count_exits(model.apply(variables, batch.inputs, train=False), weights, batch)

    return evaluate


def count_exits(logits: Any, weights: Sequence[float], batch: Batch) -> Counts:
    """The weighted sum of the exits' losses; right and examples are the last exit's."""
    each = [count(exit_logits, batch.labels, batch.valid) for exit_logits in logits]
    loss = sum(weight * counts.loss for weight, counts in zip(weights, each, strict=True))
    return each[-1]._replace(loss=jnp.asarray(loss))


def _logits(model: Any, images: jax.Array, equilibrium: bool) -> list[jax.Array]:
    """All exits in training, K × [B, C]."""
    features, found, exits = images, [], model.exits
    for k in range(exits):
        features = model.advance(k, features, True)
        if equilibrium:
            features = _rescale(features, 1 / (exits - k))
        found.append(model.classify(k, features, True))
        if equilibrium:
            features = _rescale(features, exits - k - 1)
    return found


def _rescale(features: Any, factor: float) -> Any:
    """The same features; the gradient through the coarsest is multiplied by `factor`."""
    *finer, coarsest = features if isinstance(features, tuple) else (features,)
    fixed = lax.stop_gradient(coarsest)
    scaled = fixed + factor * (coarsest - fixed)
    return (*finer, scaled) if isinstance(features, tuple) else scaled


def _distilled(logits: Sequence[jax.Array], temperature: float, valid: jax.Array) -> jax.Array:
    """Σ over earlier exits of T² × mean KL(last ‖ exit)."""
    *earlier, last = (jax.nn.log_softmax(z.astype(jnp.float32) / temperature) for z in logits)
    target = lax.stop_gradient(last)
    losses = [jnp.sum(jnp.exp(target) * (target - own), -1) for own in earlier]
    total = sum(jnp.sum(jnp.where(valid, loss, 0.0)) for loss in losses)
    return temperature**2 * total / jnp.sum(valid)
