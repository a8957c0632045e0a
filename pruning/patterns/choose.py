"""Which weights a pattern keeps: exact counts, by rank. Pure functions of one replicate."""

# I inputs, O outputs of a kernel

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pruning.masks import Mask
from pruning.patterns.pattern import (
    INPUTS,
    NM,
    Axis,
    Blocks,
    Pattern,
    PerOutput,
    axis_of,
    check_fits,
    check_n_m,
    check_shape,
    parse,
    unfit,
)
from pruning.select import Scores, check_same


def n_m(scores: Any, n: int, m: int, axis: Axis = INPUTS, *, order: Any = None) -> Any:
    """Returns the mask that keeps the n best of each m neighbours along an axis.

    Exactly n are kept in every group. Among equal scores the lower index is kept; NaN ranks lowest.

    Args:
      scores: an array, or a flat dict, path → array; higher = keep.
      n: the number that is kept in each group, in [1, m).
      m: the size of a group.
      axis: along which groups lie, or path → axis; by default that of the inputs in [I, O] and
        [KH, KW, I, O], over which hardware sums.
      order: a permutation of the axis, such as `n_m_permutation` finds: groups are then of
        neighbours in that order, while the mask has the axis in the order of the scores. Hardware
        runs it after the layer's inputs and its kernel's axis were put into that order
        (`jnp.take(kernel, order, axis)`); the outputs stay as they are.

    Raises:
      ValueError: m does not divide an axis, or there is no such axis, pattern or order.

    Source: Mishra et al., arXiv:2104.08378, Section 3 (2:4).

    Example:
        >>> from pruning import patterns
        >>> scores = jnp.array([4.0, 1.0, 3.0, 2.0, 9.0, 9.0, 9.0, 8.0])
        >>> patterns.n_m(scores, 2, 4, axis=0).astype(int).tolist()
        [1, 0, 1, 0, 1, 1, 0, 0]
    """
    check_n_m(n, m)
    if isinstance(scores, Mapping):
        if order is not None:
            raise ValueError("an order is of one array: call n_m for each path")
        return {path: n_m(leaf, n, m, axis_of(axis, path)) for path, leaf in scores.items()}
    scores = jnp.asarray(scores)
    return _n_m(jnp.ones(scores.shape, bool), scores, NM(n, m), axis_of(axis, ""), order)


def blocks(scores: Any, shape: tuple[int, int], density: float) -> Any:
    """Returns the mask that keeps the best blocks over the last two axes, exactly their share.

    A block's score is the sum of its weights' scores. Of each array, `round(density × blocks)` are
    kept (Python's round); all axes before the last two are ranked together. Ties go to the lower
    index; blocks with a NaN rank lowest. Edges that a block does not divide are refused: a part of
    a block has fewer scores to sum and another density than its block.

    Args:
      scores: an array [..., I, O], or a flat dict, path → array; higher = keep.
      shape: of a block: (inputs, outputs), as the axes of a Flax kernel are; (1, 4) has four
        neighbouring outputs of one input. Where the network has [O, I], it is (outputs, inputs).
      density: kept / all blocks, in [0, 1].

    Raises:
      ValueError: the blocks do not divide the last two axes, or the density is outside [0, 1].

    Source: Narang et al., arXiv:1711.02782. Departs: ranked by sums, and not by the largest weight
    against a threshold.

    Example:
        >>> from pruning import patterns
        >>> scores = jnp.array([[1.0, 2.0, 5.0, 5.0], [9.0, 0.0, 1.0, 1.0]])  # sums 3, 10, 9 and 2
        >>> patterns.blocks(scores, (1, 2), density=0.5).astype(int).tolist()
        [[0, 0, 1, 1], [1, 1, 0, 0]]
    """
    check_shape(shape)
    if not 0 <= density <= 1:
        raise ValueError(f"density={density} must be in [0, 1]")
    if isinstance(scores, Mapping):
        return {path: blocks(leaf, shape, density) for path, leaf in scores.items()}
    scores = jnp.asarray(scores)
    return _blocks(jnp.ones(scores.shape, bool), scores, Blocks(*shape), density)


def prune_to(
    pattern: Pattern | str,
    mask: Mask,
    scores: Scores,
    density: float | None = None,
    axis: Axis = INPUTS,
) -> tuple[Mask, dict[str, str]]:
    """Prunes a mask to a pattern, leaf by leaf.

    Weights that are pruned stay pruned and rank last: a group that has at most n weights left keeps
    them all; a block's score sums over what is left in it, and its density is that of all blocks,
    so masks of falling densities are nested. It works under jit and vmap.

    Args:
      pattern: or its text, such as "2:4" or "4x4".
      mask: path → bool array.
      scores: arrays with the same paths and shapes; higher = keep.
      density: of blocks, or of the weights of each output, in [0, 1]: exactly
        `round(density × inputs)` of these. That of N:M is n / m; None, or that number.
      axis: of the inputs, as for `n_m`; `input_axes` reads it from a network.

    Returns:
      `(mask, left)`: the mask, and path → the reason, of the leaves that the pattern does not fit,
      whose mask is as it was.

    Raises:
      ValueError: the pattern or the density is none, the scores have other paths or shapes, or no
        leaf can be pruned.

    Example:
        >>> from pruning import masks, patterns
        >>> fc = jnp.array([[4.0], [1.0], [3.0], [2.0]])
        >>> scores = {"conv/kernel": jnp.ones((3, 3, 1, 2)), "fc/kernel": fc}
        >>> mask, left = patterns.prune_to("2:4", masks.ones(scores), scores)
        >>> mask["fc/kernel"].ravel().astype(int).tolist()
        [1, 0, 1, 0]
        >>> left
        {'conv/kernel': '4 does not divide the 1 entries of axis -2'}
    """
    pattern = parse(pattern) if isinstance(pattern, str) else pattern
    check_same(mask, scores)
    density = _density(pattern, density)
    left = unfit(pattern, mask, axis)
    if len(left) == len(mask):
        path, reason = next(iter(left.items()), ("", "the mask is empty"))
        raise ValueError(f"pattern {pattern} fits no layer; {path!r}: {reason}")
    new = dict(mask)
    for path in mask.keys() - left.keys():
        keep, score = jnp.asarray(mask[path]), jnp.asarray(scores[path])
        if isinstance(pattern, NM):
            new[path] = _n_m(keep, score, pattern, axis_of(axis, path), None)
        elif isinstance(pattern, PerOutput):
            new[path] = _per_output(keep, score, density, axis_of(axis, path))
        else:
            new[path] = _blocks(keep, score, pattern, density)
    return new, left


def _n_m(keep: jax.Array, scores: jax.Array, pattern: NM, axis: int, order: Any) -> jax.Array:
    """Returns the mask of the n best of those that are kept, in each group."""
    check_fits(pattern, scores.shape, axis)
    if order is None:
        return _best_of_groups(keep, scores, pattern, axis)
    order = np.asarray(order)
    if not np.array_equal(np.sort(order, axis=None), np.arange(scores.shape[axis])):
        raise ValueError(f"order must be a permutation of the {scores.shape[axis]} channels")
    keep, scores = jnp.take(keep, order, axis), jnp.take(scores, order, axis)
    return jnp.take(_best_of_groups(keep, scores, pattern, axis), np.argsort(order), axis)


@functools.partial(jax.jit, static_argnames=("pattern", "axis"))
def _best_of_groups(keep: jax.Array, scores: jax.Array, pattern: NM, axis: int) -> jax.Array:
    """Returns the mask of the n best of each m neighbours."""
    keep, scores = jnp.moveaxis(keep, axis, -1), jnp.moveaxis(scores, axis, -1)
    groups = (*scores.shape[:-1], -1, pattern.m)
    chosen = _best(keep.reshape(groups), scores.reshape(groups), pattern.n)
    return jnp.moveaxis(chosen.reshape(scores.shape), -1, axis)


def _blocks(keep: jax.Array, scores: jax.Array, pattern: Blocks, density: float) -> jax.Array:
    """Returns the mask of the best of the blocks of which something is kept."""
    check_fits(pattern, scores.shape, INPUTS)
    count = round(density * (scores.size // math.prod(pattern)))
    return _best_blocks(keep, scores, count, pattern)


@functools.partial(jax.jit, static_argnames="pattern")
def _best_blocks(
    keep: jax.Array, scores: jax.Array, count: jax.Array, pattern: Blocks
) -> jax.Array:
    """Returns the mask of so many blocks."""
    *lead, inputs, outputs = scores.shape
    shape = (*lead, inputs // pattern.rows, pattern.rows, outputs // pattern.columns)
    keep, scores = (leaf.reshape(*shape, pattern.columns) for leaf in (keep, scores))
    sums = jnp.sum(jnp.where(keep, scores, 0), (-3, -1))
    left = jnp.any(keep, (-3, -1))
    chosen = _best(left.ravel(), sums.ravel(), count).reshape(sums.shape)
    return (chosen[..., :, None, :, None] & keep).reshape(*lead, inputs, outputs)


def _per_output(keep: jax.Array, scores: jax.Array, density: float, axis: int) -> jax.Array:
    """Returns the mask of as many of the best weights of each output."""
    place = 1 - axis % 2 if scores.ndim == 2 else -1  # of the outputs
    count = round(density * (scores.size // scores.shape[place]))
    return _best_of_outputs(keep, scores, count, place)


@functools.partial(jax.jit, static_argnames="place")
def _best_of_outputs(keep: jax.Array, scores: jax.Array, count: jax.Array, place: int) -> jax.Array:
    """Returns the mask of so many weights of each entry of an axis."""
    keep, scores = jnp.moveaxis(keep, place, 0), jnp.moveaxis(scores, place, 0)
    rows = len(scores), -1
    chosen = _best(keep.reshape(rows), scores.reshape(rows), count).reshape(scores.shape)
    return jnp.moveaxis(chosen, 0, place)


def _best(keep: jax.Array, scores: jax.Array, count: Any) -> jax.Array:
    """Returns the `count` best along the last axis among those that are kept."""
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    order = jnp.lexsort((-scores, ~keep), axis=-1)  # stable: kept first, then best first
    ranks = jnp.argsort(order, axis=-1)
    return (ranks < count) & keep


def _density(pattern: Pattern, density: float | None) -> float:
    """Returns the density that a pattern is asked for."""
    if isinstance(pattern, NM):
        if density is not None and not math.isclose(density, pattern.n / pattern.m):
            raise ValueError(f"density={density}: pattern {pattern} keeps {pattern.n / pattern.m}")
        return pattern.n / pattern.m
    if density is None or not 0 <= density <= 1:
        raise ValueError(f"density={density} of the pattern {pattern} must be in [0, 1]")
    return density
