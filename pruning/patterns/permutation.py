"""The order of channels of which N:M keeps most: a greedy search of swaps, on the host."""

# C channels, L all other entries; G groups of m channels

from typing import Any, NamedTuple

import numpy as np

from pruning.patterns.pattern import INPUTS, NM, check_fits, check_n_m

CHUNK = 2**24  # numbers that are held at once


class Permutation(NamedTuple):
    """An order of channels, and the sum of the scores that N:M keeps."""

    order: np.ndarray  # [C] int: the channel that comes to each place
    before: float  # of neighbours as they are
    after: float  # of neighbours in that order, never less


def n_m_permutation(
    scores: Any, n: int, m: int, axis: int = INPUTS, *, escapes: int = 8
) -> Permutation:
    """Returns an order of the channels along an axis in which N:M keeps a larger sum of scores.

    The best of all swaps of two channels is made until none helps. Then two swaps at random leave
    that optimum, and the search goes on; the best order counts. The result is a function of the
    arguments alone, and a local optimum: only few channels have so few orders that all could be
    tried. A round costs C² L comparisons, a swap about m C L.

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
    """Returns the order after the best swaps, until none keeps more."""
    order = order.copy()
    count = len(order)
    group = np.arange(count) // m  # of each place
    with_ = np.empty((count, count))  # [place, place]: the group of the first, with the second in
    _fill(with_, channels, order, n, m, np.arange(count // m), np.arange(count))
    limit = 1e-6 * np.abs(channels).sum(dtype=np.float64) / count  # below it, rounding decides
    while True:
        own = with_.diagonal()  # what each place's group keeps as it is
        gains = with_ + with_.T - own[:, None] - own[None, :]
        gains[group[:, None] == group[None, :]] = 0
        one, two = np.unravel_index(np.argmax(gains), gains.shape)
        if gains[one, two] <= limit:
            return order
        order[[one, two]] = order[[two, one]]
        changed = group[[one, two]]
        _fill(with_, channels, order, n, m, changed, np.arange(count))
        _fill(with_, channels, order, n, m, np.delete(np.arange(count // m), changed), [one, two])


def _fill(
    with_: np.ndarray,
    channels: np.ndarray,
    order: np.ndarray,
    n: int,
    m: int,
    groups: Any,
    others: Any,
) -> None:
    """Fills in what groups keep if the channel at another place takes that of one of their own.

    Without its place, a group keeps the n − 1 best of the rest, and the larger of the newcomer and
    the n-th best.
    """
    newcomers = channels[order[others]]  # [O, L]
    for number in groups:
        places = np.arange(number * m, (number + 1) * m)
        for place in places:
            rest = np.sort(channels[order[places[places != place]]], axis=0)[::-1]  # [m − 1, L]
            base = rest[: n - 1].sum(dtype=np.float64)
            for first in range(0, len(newcomers), step := max(1, CHUNK // rest.shape[1])):
                part = np.maximum(newcomers[first : first + step], rest[n - 1])
                with_[place, others[first : first + step]] = base + part.sum(1, dtype=np.float64)


def _disturbed(order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the order after two swaps at random."""
    order = order.copy()
    for _ in range(2):
        one, two = rng.choice(len(order), 2, replace=False)
        order[[one, two]] = order[[two, one]]
    return order
