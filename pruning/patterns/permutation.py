"""The order of channels of which N:M keeps most: a greedy search of swaps, on the host."""

# C channels, L all other entries

from typing import Any, NamedTuple

import numpy as np

from pruning.patterns.pattern import INPUTS, NM, check_fits, check_n_m

SWAPS = 10  # the most for each channel


class Permutation(NamedTuple):
    """An order of channels, and the sum of the scores that N:M keeps."""

    order: np.ndarray  # [C] int: the channel that comes to each place
    before: float  # of neighbours as they are
    after: float  # of neighbours in that order, never less


def n_m_permutation(
    scores: Any, n: int, m: int, axis: int = INPUTS, *, escapes: int = 8
) -> Permutation:
    """Returns an order of the channels along an axis in which N:M keeps a larger sum of scores.

    The best of all swaps of two channels is made until none helps, at most `SWAPS` times C. Then
    two swaps at random leave that optimum, and the search goes on; the best order counts. The
    result is a function of the arguments alone, and the best of all orders only where channels are
    few. A search costs C² L comparisons, and each swap about 2 m C L.

    Args:
      scores: an array of finite numbers; higher = keep.
      n: the number that is kept in each group, in [1, m).
      m: the size of a group.
      axis: of the channels; by default that of the inputs in [I, O] and [KH, KW, I, O].
      escapes: how often an optimum is left.

    Returns:
      The order, for `n_m(scores, n, m, axis, order=order)`, and what it keeps.

    Raises:
      ValueError: m does not divide the channels, a score is not finite, or the pattern is none.

    Source: Pool & Yu, Channel Permutations for N:M Sparsity, NeurIPS 2021. Departs: an optimum is
    left by swaps at random, and groups are not searched exhaustively in pairs.

    Example:
        >>> from pruning import patterns
        >>> scores = np.array([4.0, 3.0, 1.0, 2.0])
        >>> found = patterns.n_m_permutation(scores, 1, 2, axis=0)
        >>> found.before, found.after  # 4 + 2 of neighbours as they are, 4 + 3 at best
        (6.0, 7.0)
        >>> scores[found.order].tolist()
        [1.0, 3.0, 4.0, 2.0]
    """
    check_n_m(n, m)
    scores = np.asarray(scores, np.float32)
    check_fits(NM(n, m), scores.shape, axis)
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite to sum what an order keeps")
    if escapes < 0:
        raise ValueError(f"escapes={escapes} must be at least 0")
    channels = np.moveaxis(scores, axis, 0).reshape(scores.shape[axis], -1)  # [C, L]
    start = np.arange(len(channels))
    before = _kept(channels, start, n, m)
    best, after = start, before
    rng = np.random.default_rng(0)
    for attempt in range(escapes + 1 if len(channels) > m else 0):
        order = _disturbed(best, rng) if attempt else best
        order = _climb(channels, order, n, m)
        value = _kept(channels, order, n, m)
        if value > after:
            best, after = order, value
    return Permutation(best, before, after)


def _kept(channels: np.ndarray, order: np.ndarray, n: int, m: int) -> float:
    """Returns the sum of the scores that N:M keeps in an order."""
    groups = channels[order].reshape(-1, m, channels.shape[1])  # [G, m, L]
    return float(np.sort(groups, axis=1)[:, m - n :].sum(dtype=np.float64))


def _climb(channels: np.ndarray, order: np.ndarray, n: int, m: int) -> np.ndarray:
    """Returns the order after the best swaps, until none keeps more.

    Without the channel at a place, a group keeps its n − 1 best, and the larger of its n-th best
    and whatever comes to that place. So the first cancel where two channels are compared.
    """
    order = order.copy()
    placed = channels[order]  # [C, L]
    group = np.arange(len(order)) // m  # of each place
    bound = np.empty_like(placed)  # [C, L]: the n-th best of the group's others
    kept = np.empty((len(order), len(order)))  # by the first place's group, of the second's channel
    changed, arrived = np.arange(len(order)), np.arange(0)
    least = 1e-6 * np.abs(channels).sum(dtype=np.float64) / len(order)
    for _ in range(SWAPS * len(order)):
        for place in changed:
            others = placed[(group == group[place]) & (np.arange(len(order)) != place)]
            bound[place] = np.sort(others, axis=0)[-n]
            kept[place] = np.maximum(placed, bound[place]).sum(1, dtype=np.float64)
        for place in arrived:
            kept[:, place] = np.maximum(placed[place], bound).sum(1, dtype=np.float64)
        own = kept.diagonal()
        gains = kept + kept.T - own[:, None] - own[None, :]
        gains[group[:, None] == group[None, :]] = 0
        arrived = np.array(np.unravel_index(np.argmax(gains), gains.shape))
        if gains[tuple(arrived)] <= least:
            break
        order[arrived], placed[arrived] = order[arrived[::-1]], placed[arrived[::-1]]
        changed = np.flatnonzero(np.isin(group, group[arrived]))
    return order


def _disturbed(order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the order after two swaps at random."""
    order = order.copy()
    for _ in range(2):
        one, two = rng.choice(len(order), 2, replace=False)
        order[[one, two]] = order[[two, one]]
    return order
