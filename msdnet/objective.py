"""The loss of a network with exits: the weighted sum over exits, and two ways to help them.

Source: Huang et al., arXiv:1703.09844, equation 1 (weights of 1); gradient equilibrium and
distillation: Li et al., arXiv:1908.06294, Sections 3.1 and 3.3.
Departs: distillation is added to the cross-entropies, where the source weighs the two by 1 − γ and
γ; and it acts from the first step on, where the source needs a second training.
"""

# B batch, L tokens, C classes, K exits

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from groundwork.train.losses import CROSS_ENTROPY, Counts, cross_entropy
from groundwork.train.step import Batch, EvalFn, LossFn
from groundwork.trees import Variables
from msdnet.exit_network import Features

OF_TOKENS = cross_entropy(tokens=True)


def make_loss(
    model: nn.Module,
    weights: Sequence[float],
    *,
    distillation: float = 0.0,
    temperature: float = 3.0,
    equilibrium: bool = False,
) -> LossFn:
    """Returns the loss function: the mean over a batch of Σ weights[k] × exit k's cross-entropy.

    Where exits give logits of tokens, [B, L, C], each token counts as an example, and those with a
    negative label do not count; see `groundwork.train.losses.cross_entropy`.

    Args:
      model: a network with K exits.
      weights: [K].
      distillation: weight of the last exit's softened answers as targets of the earlier ones.
      temperature: divides the logits for distillation; the term is multiplied by its square.
      equilibrium: scale gradients so that each block gets as much from all exits behind it.
    """

    def loss_fn(key: jax.Array, variables: Variables, batch: Batch) -> tuple[jax.Array, Any]:
        logits, updated = model.apply(
            variables,
            batch.inputs,
            equilibrium,
            method=_logits,
            mutable=[name for name in variables if name != "params"],
            rngs={"dropout": key},
        )
        counts = count_exits(logits, weights, batch)
        loss = counts.loss / jnp.maximum(counts.examples, 1)
        if distillation:
            loss += distillation * _distilled(logits, temperature, batch)
        return loss, (updated, counts)

    return loss_fn


def make_evaluate(model: nn.Module, weights: Sequence[float]) -> EvalFn:
    """Returns (variables, batch) → counts, as `count_exits` makes them."""

    def evaluate(variables: Variables, batch: Batch) -> Counts:
        return count_exits(model.apply(variables, batch.inputs, train=False), weights, batch)

    return evaluate


def count_exits(logits: Any, weights: Sequence[float], batch: Batch) -> Counts:
    """Returns the weighted sum of the exits' losses; all other counts are the last exit's."""
    count = (CROSS_ENTROPY if logits[-1].ndim == 2 else OF_TOKENS).count
    each = [count(exit_logits, batch.labels, batch.valid) for exit_logits in logits]
    loss = sum(weight * counts.loss for weight, counts in zip(weights, each, strict=True))
    return each[-1]._replace(loss=jnp.asarray(loss))


def _logits(model: Any, images: jax.Array, equilibrium: bool) -> list[jax.Array]:
    """Returns the logits of all exits in training, K × [B, C]."""
    features, all_logits, exits = images, [], model.exits
    for k in range(exits):
        features = model.advance(k, features, True)
        if equilibrium:
            features = _rescale(features, 1 / (exits - k))
        all_logits.append(model.classify(k, features, True))
        if equilibrium:
            features = _rescale(features, exits - k - 1)
    return all_logits


def _rescale(features: Features, factor: float) -> Features:
    """Returns the same features; their gradient is multiplied by `factor`.

    Of a tuple, which has one array for each scale, this is that of the last and coarsest alone,
    from which exits answer.
    """
    if isinstance(features, tuple):
        return (*features[:-1], _rescale(features[-1], factor))

    def one(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        fixed = lax.stop_gradient(leaf)
        return fixed + factor * (leaf - fixed)

    return jax.tree.map(one, features)


def _distilled(logits: Sequence[jax.Array], temperature: float, batch: Batch) -> jax.Array:
    """Returns Σ over earlier exits of T² × mean KL(last ‖ exit)."""
    *earlier, last = (jax.nn.log_softmax(z.astype(jnp.float32) / temperature) for z in logits)
    target = lax.stop_gradient(last)
    losses = [jnp.sum(jnp.exp(target) * (target - log_p), -1) for log_p in earlier]
    valid = batch.valid
    if last.ndim > 2:
        valid = valid[:, None] & (batch.labels >= 0)
    total = sum(jnp.sum(jnp.where(valid, loss, 0.0)) for loss in losses)
    return temperature**2 * total / jnp.maximum(jnp.sum(valid), 1)
