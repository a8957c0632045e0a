"""Losses: what a batch costs, and what is counted beside. A loss brings its own counts.

Sums are taken over examples (of a language model: over tokens) and divided at the end, so that
each example counts once, whatever the batches.
"""

# B batch, C classes

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Counts(NamedTuple):
    """Sums over examples. Divide them at the end: each example counts once."""

    loss: jax.Array  # [] float32; of the cross-entropy, in nats
    examples: jax.Array  # [] int32
    measures: dict[str, jax.Array]  # name → [], such as the examples that are right

    def means(self) -> dict[str, Any]:
        """Returns the mean loss and the mean of each measure, by name."""
        sums = {"loss": self.loss, **self.measures}
        return {name: total / self.examples for name, total in sums.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss of a batch and what it counts."""

    count: Callable[[Any, Any, jax.Array], Counts]  # outputs, targets, valid [B] → sums
    measures: Mapping[str, Any]  # name → dtype of its sum


def count_cross_entropy(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> Counts:
    """Cross-entropies and right answers of the valid examples.

    Args:
      logits: [B, C]. In a type shorter than float32 the loss is still computed in float32.
      labels: [B] int, in [0, C).
      valid: [B] bool.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = jnp.argmax(logits, -1) == labels
    return Counts(
        loss=jnp.sum(jnp.where(valid, losses, 0.0)),
        examples=jnp.sum(valid, dtype=jnp.int32),
        measures={"accuracy": jnp.sum(right & valid, dtype=jnp.int32)},
    )


CROSS_ENTROPY = Loss(count=count_cross_entropy, measures={"accuracy": np.int32})
