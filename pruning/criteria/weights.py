"""Criteria of the weights alone, or of nothing. Users' own loops can call them, too."""

import jax
import jax.numpy as jnp

from groundwork.trees import Params
from pruning.criteria.evidence import Criterion, Evidence
from pruning.masks import Mask, flatten
from pruning.select import Scores


def magnitude(params: Params, mask: Mask, *, key: jax.Array | None = None) -> Scores:
    """Returns |weight| at the end of training. Source: Han et al., arXiv:1506.02626.

    Example:
        >>> from pruning import criteria
        >>> params = {"fc": {"kernel": jnp.array([3.0, -4.0, 0.5]), "bias": jnp.array([9.0])}}
        >>> mask = {"fc/kernel": jnp.array([True, True, False])}
        >>> {path: score.tolist() for path, score in criteria.magnitude(params, mask).items()}
        {'fc/kernel': [3.0, 4.0, 0.5]}
    """
    del key
    return {path: jnp.abs(leaf) for path, leaf in flatten(params, mask.__contains__).items()}


def random(params: Params, mask: Mask, *, key: jax.Array) -> Scores:
    """Returns uniform numbers in [0, 1), the control for every other criterion.

    Example:
        >>> from pruning import criteria, masks, select
        >>> params = {"fc": {"kernel": jnp.arange(8.0)}}
        >>> mask = masks.ones(params)
        >>> scores = criteria.random(params, mask, key=jax.random.key(0))
        >>> float(masks.density(select.prune(mask, scores, 0.25)))
        0.75
    """
    del params
    paths = sorted(mask)
    split = jax.random.split(key, len(paths))
    return {p: jax.random.uniform(k, mask[p].shape) for p, k in zip(paths, split, strict=True)}


def l1(evidence: Evidence) -> Scores:
    """Returns |w|, what a weight adds to the L1 norm of a block.

    Of single weights, `magnitude`, `l1` and `l2` give the same order, in a layer and globally. They
    differ where scores are added up, as over blocks.
    """
    return {path: jnp.abs(weight) for path, weight in evidence.weights.items()}


def l2(evidence: Evidence) -> Scores:
    """Returns w², what a weight adds to the squared L2 norm of a block; see `l1`.

    Squares below the least float, of weights below 1e-22 in float32, are all 0.
    """
    return {path: jnp.square(weight) for path, weight in evidence.weights.items()}


def lamp(evidence: Evidence) -> Scores:
    """Returns w² over the sum of the squares of all weights of its array that are as large or more.

    The order within an array is that of magnitude. Between arrays, the score is the share of what
    would be left, so a global scope prunes each array by how its weights are spread, and none
    wholly: the largest weight of each array scores 1. Only weights that are kept so far count.
    An array that stacks several layers counts as one.

    Source: Lee et al., arXiv:2010.07611, equation 4.
    """
    return {path: _lamp(weight, evidence.mask[path]) for path, weight in evidence.weights.items()}


def _lamp(weight: jax.Array, keep: jax.Array) -> jax.Array:
    squares = jnp.square(jnp.where(keep, weight, 0)).reshape(-1)
    order = jnp.argsort(-squares, stable=True)  # the largest first
    ordered = squares[order]
    shares = ordered / jnp.maximum(jnp.cumsum(ordered), jnp.finfo(squares.dtype).tiny)
    return jnp.zeros_like(squares).at[order].set(shares).reshape(weight.shape)


def _random(evidence: Evidence) -> Scores:
    assert evidence.key is not None
    return random(evidence.params, evidence.mask, key=evidence.key)


MAGNITUDE = Criterion(score=lambda evidence: magnitude(evidence.params, evidence.mask))
RANDOM = Criterion(score=_random, needs=("key",))
L1 = Criterion(score=l1)
L2 = Criterion(score=l2)
LAMP = Criterion(score=lamp)
