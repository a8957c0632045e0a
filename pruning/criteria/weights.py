"""Criteria of the weights alone, or of nothing. Users' own loops can call them, too."""

import jax
import jax.numpy as jnp

from groundwork.trees import Params
from pruning.criteria.evidence import Criterion
from pruning.masks import Mask, flatten
from pruning.select import Scores


def magnitude(params: Params, mask: Mask, *, key: jax.Array | None = None) -> Scores:
    """Returns |weight| at the end of training. Source: Han et al., arXiv:1506.02626."""
    del key
    return {path: jnp.abs(leaf) for path, leaf in flatten(params, mask.__contains__).items()}


def random(params: Params, mask: Mask, *, key: jax.Array) -> Scores:
    """Returns uniform numbers in [0, 1), the control for every other criterion."""
    del params
    paths = sorted(mask)
    split = jax.random.split(key, len(paths))
    return {p: jax.random.uniform(k, mask[p].shape) for p, k in zip(paths, split, strict=True)}


MAGNITUDE = Criterion(score=lambda evidence: magnitude(evidence.params, evidence.mask))
RANDOM = Criterion(score=lambda evidence: random(evidence.params, evidence.mask, key=evidence.key))
