"""Wanda: weights by their size and by how large their inputs are."""

import jax.numpy as jnp

from pruning import grams
from pruning.criteria.evidence import Criterion, Evidence
from pruning.select import Scores


def wanda(evidence: Evidence) -> Scores:
    """Returns |w|·‖x‖₂, of the input x of a weight over all examples and positions.

    Source: Sun et al., arXiv:2306.11695, equation 1. There weights are ranked within each output of
    a layer, as the pattern `output` has it (see `pruning.patterns`); scopes rank in a layer or in
    all layers.

    Raises:
      ValueError: the inputs of a layer cannot be had; the error says why.
    """
    found, norms = grams.layers(evidence), grams.squares(evidence)
    scores = {}
    for path, weight in evidence.weights.items():
        matrices = jnp.abs(grams.as_matrices(found[path], weight))
        scaled = matrices * jnp.sqrt(norms[path])[..., None]
        scores[path] = grams.from_matrices(found[path], scaled)
    return scores


WANDA = Criterion(score=wanda, examples=1024, needs=("apply", "examples"))
