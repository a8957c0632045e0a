"""Which units are kept: a ratio of each group or of all together, or what a cost allows."""

# U units of a group

import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import numpy as np

from pruning.structured.graph import Graph, Group
from pruning.structured.importance import Scores
from pruning.structured.kept import Keep

SCOPES = ("group", "isomorphic", "global")

Ratio = float | Mapping[str, float]


def choose(
    graph: Graph,
    scores: Scores,
    ratio: Ratio = 0.5,
    *,
    scope: str = "group",
    round_to: int = 1,
    limit: float = 1.0,
) -> Keep:
    """Returns which units are kept: of each group all but the lowest scores.

    Units are taken by rank, ties go to the lower index, and each group keeps one unit at least.

    Args:
      graph: see `grouping.groups`.
      scores: group → [U], higher = keep.
      ratio: the share of units that goes, in [0, 1); or patterns of groups' names with such
        numbers, of which the name itself counts before the longest that matches:
        {"*": 0.5, "conv1": 0}.
      scope: `group` ranks each group by itself; `global` all units together, by their scores over
        the mean of their group's; `isomorphic` the units together that have alike members, as
        those of blocks that repeat. The latter two take one ratio for all.
      round_to: each group keeps a multiple of it, rounded up.
      limit: the largest share of a group's units that goes, in (0, 1].

    Raises:
      ValueError: a ratio or limit is out of range, a pattern matches no group, or a score is
        missing.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": jnp.ones((2, 4)), "out": jnp.ones((4, 1))}
        >>> graph = structured.groups(network, params, jnp.ones((1, 2)))
        >>> scores = {"hidden": np.array([3.0, 1.0, 4.0, 2.0])}
        >>> structured.choose(graph, scores, 0.5)["hidden"].astype(int).tolist()
        [1, 0, 1, 0]
    """
    _check(graph, scores, scope, round_to, limit)
    ratios = _ratios(graph, ratio)
    if scope == "group":
        counts = {g.name: _gone(g.units, ratios[g.name]) for g in graph.groups}
    else:
        if len(set(ratios.values())) > 1:
            raise ValueError(f"scope={scope!r} ranks groups together: give one ratio for all")
        counts = _together(graph, scores, scope, next(iter(ratios.values())))
    return {
        group.name: lowest_go(
            scores[group.name], _allowed(group, counts[group.name], round_to, limit)
        )
        for group in graph.groups
    }


def to_target(
    graph: Graph,
    scores: Scores,
    cost: Callable[[Keep], float],
    target: float,
    **how: object,
) -> tuple[Keep, float]:
    """Returns the least that must go for a cost to be at most its target, and the ratio of it.

    Args:
      graph: see `grouping.groups`.
      scores: group → [U], higher = keep.
      cost: of what is kept, such as multiply-adds, parameters or measured milliseconds.
      target: of the cost.
      **how: see `choose`; not the ratio.

    Raises:
      ValueError: the target is below what is left with one unit in each group; the error says it.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": jnp.ones((2, 4)), "out": jnp.ones((4, 1))}
        >>> graph = structured.groups(network, params, jnp.ones((1, 2)))
        >>> scores = {"hidden": np.array([3.0, 1.0, 4.0, 2.0])}
        >>> cost = lambda keep: 3 * keep["hidden"].sum()  # parameters: 2 before a unit, 1 behind it
        >>> structured.to_target(graph, scores, cost, 10)[0]["hidden"].astype(int).tolist()
        [1, 0, 1, 1]
    """

    def kept(ratio: float) -> Keep:
        return choose(graph, scores, ratio, **how)  # type: ignore[arg-type]

    low, high = 0.0, math.nextafter(1.0, 0.0)
    if math.isnan(target):
        raise ValueError("the target is no number")
    if cost(kept(low)) <= target:
        return kept(low), low
    if (least := cost(kept(high))) > target:
        raise ValueError(f"the target {target:g} cannot be met: the least is {least:g}")
    units = sum(group.units for group in graph.groups)
    while high - low > 0.5 / units:
        middle = (low + high) / 2
        low, high = (low, middle) if cost(kept(middle)) <= target else (middle, high)
    return kept(high), high


def _check(graph: Graph, scores: Scores, scope: str, round_to: int, limit: float) -> None:
    if scope not in SCOPES:
        raise ValueError(f"scope={scope!r} must be one of {', '.join(SCOPES)}")
    if round_to < 1:
        raise ValueError(f"round_to={round_to} must be 1 or more")
    if not 0 < limit <= 1:
        raise ValueError(f"limit={limit} must be in (0, 1]")
    check_scores(graph, scores)


def check_scores(graph: Graph, scores: Scores) -> None:
    """Refuses scores that are not one number for each unit.

    Raises:
      ValueError: a group has no scores, or another number of them.
    """
    for group in graph.groups:
        if np.shape(scores.get(group.name, ())) != (group.units,):
            raise ValueError(f"scores need {group.units} numbers for group {group.name}")


def _ratios(graph: Graph, ratio: Ratio) -> dict[str, float]:
    """Returns group → the share of its units that goes."""
    patterns = ratio if isinstance(ratio, Mapping) else {"*": ratio}
    names = [group.name for group in graph.groups]
    for pattern, value in patterns.items():
        if not 0 <= value < 1:
            raise ValueError(f"ratio {value} of {pattern!r} must be in [0, 1)")
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"ratio's pattern {pattern!r} matches no group: {', '.join(names)}")
    matching = {n: [p for p in patterns if fnmatchcase(n, p)] for n in names}
    return {
        n: patterns[max(found, key=lambda p: (p == n, len(p)))] if found else 0.0
        for n, found in matching.items()
    }


def _gone(units: int, ratio: float) -> int:
    return round(ratio * units)


def _together(graph: Graph, scores: Scores, scope: str, ratio: float) -> dict[str, int]:
    """Returns group → how many of its units are among the lowest of all that are ranked with it."""
    counts: dict[str, int] = {}
    for groups in _ranked_together(graph, scope):
        ranked = [(s, n, g.name) for g in groups for n, s in enumerate(_relative(scores[g.name]))]
        gone = sorted(ranked, key=lambda one: (one[0], -one[1]))[: _gone(len(ranked), ratio)]
        names = [name for _, _, name in gone]
        counts |= {group.name: names.count(group.name) for group in groups}
    return counts


def _relative(scores: np.ndarray) -> np.ndarray:
    """Returns scores over their mean, so that groups can be compared."""
    mean = float(np.mean(scores[scores > 0])) if (scores > 0).any() else 0.0
    return scores / mean if mean else scores


def _ranked_together(graph: Graph, scope: str) -> list[list[Group]]:
    if scope == "global":
        return [list(graph.groups)]
    alike: dict[tuple[object, ...], list[Group]] = {}
    for group in graph.groups:
        kinds = [
            (m.axis, len(graph.axes[m.path]), m.path.rpartition("/")[2]) for m in group.members
        ]
        alike.setdefault(tuple(sorted(kinds)), []).append(group)
    return list(alike.values())


def _allowed(group: Group, gone: int, round_to: int, limit: float) -> int:
    """Returns how many units go, so that a multiple of `round_to` is left, and one at least."""
    left = max(group.units - min(gone, int(limit * group.units)), 1)
    return group.units - min(group.units, math.ceil(left / round_to) * round_to)


def lowest_go(scores: np.ndarray, count: int) -> np.ndarray:
    """Returns [U] bool, False for so many of the lowest scores; ties go to the higher index.

    Example:
        >>> from pruning import structured
        >>> structured.lowest_go(np.array([3.0, 1.0, 4.0, 1.0]), 1).astype(int).tolist()
        [1, 1, 1, 0]
    """
    keep = np.ones(len(scores), bool)
    order = np.lexsort((-np.arange(len(scores)), np.where(np.isnan(scores), -np.inf, scores)))
    keep[order[:count]] = False
    return keep
