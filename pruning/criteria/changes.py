"""Criteria of how weights have changed in training."""

import jax
import jax.numpy as jnp

from pruning.criteria.evidence import Criterion, Evidence
from pruning.select import Scores


def magnitude_increase(evidence: Evidence) -> Scores:
    """Returns |w_f| − |w_i|, of the weights after training and at step 0.

    Source: Zhou et al., arXiv:1905.01067 (there, `large_final` is our `magnitude`).
    """
    return {path: abs(final) - abs(initial) for path, (initial, final) in _pairs(evidence).items()}


def magnitude_increase_same_sign(evidence: Evidence) -> Scores:
    """Returns max(0, |w_f| − |w_i|) of weights that keep their sign, and 0 of all others.

    Source: Zhou et al., arXiv:1905.01067.
    """
    return {
        path: jnp.where(_same_sign(initial, final), jnp.maximum(abs(final) - abs(initial), 0), 0)
        for path, (initial, final) in _pairs(evidence).items()
    }


def large_final_same_sign(evidence: Evidence) -> Scores:
    """Returns |w_f| of weights that keep their sign, and 0 of all others.

    Source: Zhou et al., arXiv:1905.01067.
    """
    return {
        path: jnp.where(_same_sign(initial, final), abs(final), 0)
        for path, (initial, final) in _pairs(evidence).items()
    }


def distance(evidence: Evidence) -> Scores:
    """Returns |w_f − w_i|. Source: Zhou et al., arXiv:1905.01067, who call it movement."""
    return {path: abs(final - initial) for path, (initial, final) in _pairs(evidence).items()}


def movement(evidence: Evidence) -> Scores:
    """Returns Σ −g·w over the steps of the training: high where weights have moved away from zero.

    Source: Sanh et al., arXiv:2005.07683. There, scores are learnt under masks that
    change while training, with a straight-through gradient, and a learning rate that changes no
    order; here they are summed up over the training before, under the mask of its level.
    """
    return evidence.prunable(evidence.movement)


def _pairs(evidence: Evidence) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns path → the weights before and after training."""
    before = evidence.prunable(evidence.initial)
    return {path: (before[path], final) for path, final in evidence.weights.items()}


def _same_sign(initial: jax.Array, final: jax.Array) -> jax.Array:
    return jnp.sign(initial) == jnp.sign(final)


MAGNITUDE_INCREASE = Criterion(score=magnitude_increase, needs=("initial",))
MAGNITUDE_INCREASE_SAME_SIGN = Criterion(score=magnitude_increase_same_sign, needs=("initial",))
LARGE_FINAL_SAME_SIGN = Criterion(score=large_final_same_sign, needs=("initial",))
DISTANCE = Criterion(score=distance, needs=("initial",))
MOVEMENT = Criterion(score=movement, needs=("movement",))
