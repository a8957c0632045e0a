"""Losses and what they count beside the loss itself.

Sums are taken over examples (in a language model, over tokens) and divided at the end, so that
each example counts once, whatever the batches are.
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
    """Sums over examples, to be divided at the end."""

    loss: jax.Array  # [] float32; of the cross-entropy, in nats
    examples: jax.Array  # [] int32
    measures: dict[str, jax.Array]  # name → [], such as the number of right answers

    def means(self) -> dict[str, Any]:
        """Returns the mean loss and the mean of each measure, by name."""
        sums = {"loss": self.loss, **self.measures}
        return {name: total / self.examples for name, total in sums.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of a batch, and what it counts."""

    count: Callable[[Any, Any, jax.Array], Counts]  # outputs, targets, valid [B] → sums
    measures: Mapping[str, Any]  # name → dtype of its sum


def count_cross_entropy(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> Counts:
    """Returns the cross-entropies and right answers of the valid examples.

    Args:
      logits: [B, C]. The loss is computed in float32 even if they are of a shorter type.
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
