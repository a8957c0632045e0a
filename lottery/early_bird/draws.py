"""Which channels or weights a network keeps at an epoch: the masks that are compared and drawn."""

# R replicates, U channels of a group

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from groundwork.trees import Variables
from pruning import masks, select, structured
from pruning.criteria import magnitude
from pruning.structured import Graph, Scores
from pruning.structured.evidence import scales

SCOPES = ("global", "layerwise")


def scale_scores(graph: Graph, variables: Variables) -> Scores:
    """Returns group → [U] float64: |γ| of BatchNorm, the mean over the norms that a group has.

    Args:
      graph: see `structured.groups`.
      variables: of one replicate.

    Raises:
      ValueError: a group has no such scale.
    """
    sums = structured.scores(graph, variables, "scale")
    return {group.name: sums[group.name] / len(scales(group)) for group in graph.groups}


def channels(scores: Scores, ratio: float, scope: str = "global") -> dict[str, np.ndarray]:
    """Returns group → [U] bool, True = kept: all but the lowest scores.

    `round(ratio × channels)` of them go, of all groups together or of each; ties go to the higher
    index, in the order of the groups.
    Source: You et al., arXiv:1909.11957, Section 3.1, after Liu et al., arXiv:1708.06519. Departs:
    the highest score of each group stays, without which the network would be cut in two.

    Args:
      scores: see `scale_scores`.
      ratio: the share of the channels that goes, in [0, 1).
      scope: `global` ranks all groups together, `layerwise` each by itself.

    Raises:
      ValueError: the ratio or the scope is none of these.
    """
    _check(ratio, scope)
    names, sizes = list(scores), [len(values) for values in scores.values()]
    if scope == "global":
        together = np.concatenate(list(scores.values()))
        keep = structured.lowest_go(together, round(ratio * len(together)))
        kept = dict(zip(names, np.split(keep, np.cumsum(sizes)[:-1]), strict=True))
    else:
        kept = {n: structured.lowest_go(v, round(ratio * len(v))) for n, v in scores.items()}
    best = {n: structured.lowest_go(v, len(v) - 1) for n, v in scores.items()}
    return {name: kept[name] | best[name] for name in names}


def shared_counts(scores: Sequence[Scores], ratio: float, scope: str) -> dict[str, np.ndarray]:
    """Returns group → [R, U] bool: as many of each group in all replicates, of each its own best.

    The counts are those of the mean score of each rank, so that the narrow networks have one shape.
    Of one replicate, and of the scope `layerwise`, the result is that of `channels`.

    Args:
      scores: of each replicate.
      ratio: see `channels`.
      scope: see `channels`.
    """
    ranked = {n: np.mean([np.sort(one[n])[::-1] for one in scores], axis=0) for n in scores[0]}
    counts = {n: int((~kept).sum()) for n, kept in channels(ranked, ratio, scope).items()}
    return {
        name: np.stack([structured.lowest_go(one[name], count) for one in scores])
        for name, count in counts.items()
    }


def weights(params: Any, ratio: float, scope: str = "global") -> masks.Mask:
    """Returns path → bool array, True = kept: all kernels' weights but the smallest.

    `round(ratio × weights)` go, of all kernels together or of each; see `select.prune`.

    Args:
      params: of one replicate.
      ratio: the share of the weights that goes, in [0, 1).
      scope: see `channels`.

    Raises:
      ValueError: the ratio or the scope is none of these, or there is no kernel.
    """
    _check(ratio, scope)
    dense = masks.ones(params)
    sizes = {path: leaf.size for path, leaf in sorted(dense.items())}
    if scope == "global":
        paths, counts = {"all": tuple(sizes)}, {"all": sum(sizes.values())}
    else:
        paths, counts = {path: (path,) for path in sizes}, sizes
    kept = {name: count - round(ratio * count) for name, count in counts.items()}
    return select.prune_to(dense, magnitude(params, dense), kept, paths)


def shuffled(mask: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Returns a mask [R, …] with as many entries kept of each leaf, drawn at random."""
    rng = np.random.default_rng([seed, 1])
    return {
        name: rng.permuted(np.reshape(leaf, (len(leaf), -1)), axis=1).reshape(np.shape(leaf))
        for name, leaf in sorted(jax.tree.map(np.asarray, dict(mask)).items())
    }


def _check(ratio: float, scope: str) -> None:
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio={ratio} must be in [0, 1)")
    if scope not in SCOPES:
        raise ValueError(f"scope={scope!r} must be one of {', '.join(SCOPES)}")
