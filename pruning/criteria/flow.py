"""SynFlow: how much each weight carries through the network, without data."""

from typing import Any

import jax
import jax.numpy as jnp

from groundwork import trees
from groundwork.trees import Params
from pruning.criteria.evidence import Criterion, Evidence
from pruning.select import Scores

ROUNDS = 100
LARGE = 2.0**100  # beyond it, or below its inverse, the sum of outputs needs another input


def synflow(evidence: Evidence) -> Scores:
    """Returns |w|·∂R/∂|w|, where R is the sum of the outputs for an input of ones and |parameters|.

    All parameters, also biases and the scales of normalisations, are taken by their absolute
    values, and the network is in evaluation, as in the authors' code. Of examples only the shapes
    are used: floats are ones, all else (tokens) is as in the first example. In a layer without
    biases, as at step 0, where they are zero, the scores of the weights add up to R. Criteria and
    pruners call it in 100 rounds; see `rounds.prune`.

    Scores are divided by R, so that they add up to 1 in such a layer. Deep networks have sums that
    float32 cannot hold, where the authors take float64: if R is beyond 2¹⁰⁰, the input is 2⁻¹⁰⁰
    instead of 1, and if it is below 2⁻¹⁰⁰, the input is 2¹⁰⁰, which changes no order in networks
    without biases. If R is infinite or 0 even then, no score is a number.

    Departs: batch statistics that are no part of the evidence's `params`, as in the commands, are
    as they are; the authors take the absolute values of means, too, which are zero at step 0.

    Source: Tanaka et al., arXiv:2006.05467, Algorithm 1.
    """
    weights = {path: jnp.abs(weight) for path, weight in evidence.weights.items()}
    absolute = _absolute(evidence.params)

    def flow(weights: Any, size: jax.Array) -> jax.Array:
        assert evidence.apply is not None
        params = trees.map_with_path(
            lambda path, leaf: weights[path].astype(leaf.dtype) if path in weights else leaf,
            absolute,
        )
        outputs = evidence.apply(params, _ones(evidence.examples, size))
        floats = [leaf for leaf in jax.tree.leaves(outputs) if _is_float(leaf)]
        return sum((jnp.sum(leaf.astype(jnp.float32)) for leaf in floats), jnp.zeros(()))

    unscaled = flow(weights, jnp.ones(()))
    size = jnp.where(unscaled < LARGE, 1.0, 1 / LARGE)  # NaN is not below
    size = jnp.where(unscaled < 1 / LARGE, LARGE, size)
    total, back = jax.vjp(lambda weights: flow(weights, size), weights)
    (gradients,) = back(1 / jnp.where(total > 0, total, 1))
    scores = {path: weights[path] * gradients[path] for path in weights}
    finite = jnp.isfinite(total) & (total > 0)
    return {
        path: jnp.where(finite & jnp.isfinite(score), score, jnp.nan)
        for path, score in scores.items()
    }


def _absolute(params: Params) -> Params:
    return jax.tree.map(lambda leaf: jnp.abs(leaf) if _is_float(leaf) else leaf, params)


def _ones(examples: Any, size: jax.Array) -> Any:
    """Returns one example, whose floats all have this size."""
    return jax.tree.map(
        lambda leaf: jnp.full_like(leaf[:1], size) if _is_float(leaf) else leaf[:1], examples
    )


def _is_float(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.floating))


SYNFLOW = Criterion(score=synflow, examples=1, needs=("apply", "examples"), rounds=ROUNDS)
