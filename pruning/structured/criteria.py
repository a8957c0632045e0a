"""Criteria of importance: (evidence, group) → [U], higher = keep."""

# U units of a group

import numpy as np

from groundwork import trees
from pruning.structured.evidence import Evidence, entries_of, scales, values_of
from pruning.structured.graph import Group


def l1(evidence: Evidence, group: Group) -> np.ndarray:
    """Σ |w| of a unit's entries. Source: Li et al., arXiv:1608.08710 (with members=first)."""
    return sum(np.abs(e).sum(1) for e in evidence.entries(group))


def l2(evidence: Evidence, group: Group) -> np.ndarray:
    """The root of Σ w² of a unit's entries."""
    return np.sqrt(sum(np.square(e).sum(1) for e in evidence.entries(group)))


def product(evidence: Evidence, group: Group) -> np.ndarray:
    """The product of the norms of a unit's entries in each kernel.

    No rescaling of a unit of ReLU, whose outgoing weights make up for its incoming ones, changes
    it; a unit without either scores 0.
    """
    members = zip(evidence.chosen(group), evidence.entries(group), strict=True)
    kernels = [e for m, e in members if len(evidence.graph.axes[m.path]) > 1]
    norms = [np.sqrt(np.square(entries).sum(1)) for entries in kernels]
    return np.prod([np.ones(group.units), *norms], 0)


def lamp(evidence: Evidence, group: Group) -> np.ndarray:
    """Σ w² of a unit over that of all units of the group that have as much or more.

    Source: Lee et al., arXiv:2010.07611, equation 4, for units in the place of weights.
    """
    squares = np.square(l2(evidence, group))
    order = np.argsort(squares, kind="stable")
    rest = np.cumsum(squares[order][::-1])[::-1]
    return _back(squares[order] / np.maximum(rest, np.finfo(float).tiny), order)


def scale(evidence: Evidence, group: Group) -> np.ndarray:
    """|γ| of the normalisation that follows. Source: Liu et al., arXiv:1708.06519 (slimming).

    Raises:
      ValueError: no normalisation has a scale for these units.
    """
    flat = trees.flatten(evidence.variables)
    return sum(np.abs(entries_of(np.asarray(flat[m.path]), m)).sum(1) for m in scales(group))


def geometric_median(evidence: Evidence, group: Group) -> np.ndarray:
    """The sum of a unit's distances from all units of its group.

    Source: He et al., arXiv:1811.00250, equation 4 (with members=first).
    """
    rows = np.concatenate(evidence.entries(group), 1)
    squares = np.square(rows).sum(1)
    distances = squares[:, None] + squares - 2 * rows @ rows.T
    np.fill_diagonal(distances, 0)
    return np.sqrt(np.maximum(distances, 0)).sum(1)


def taylor(evidence: Evidence, group: Group) -> np.ndarray:
    """|Σ w g| of a unit's entries: what the loss would lose, to first order.

    Source: Molchanov et al., arXiv:1906.10771, equation 8 (its root).

    Raises:
      ValueError: no loss was given.
    """
    pairs = zip(evidence.entries(group), evidence.entries(group, evidence.gradients), strict=True)
    return np.abs(sum((w * g).sum(1) for w, g in pairs))


def apoz(evidence: Evidence, group: Group) -> np.ndarray:
    """The share of a unit's values that are not zero. Source: Hu et al., arXiv:1607.03250."""
    return (values_of(evidence, group) != 0).mean(1)


def activation(evidence: Evidence, group: Group) -> np.ndarray:
    """The mean of a unit's absolute values."""
    return np.abs(values_of(evidence, group)).mean(1)


def correlation(evidence: Evidence, group: Group) -> np.ndarray:
    """1 − the largest absolute correlation of a unit's values with an earlier unit's.

    So of units that are alike, the first one stays. A unit without variance scores 0.
    """
    values = values_of(evidence, group)
    values -= values.mean(1, keepdims=True)
    norms = np.sqrt(np.square(values).sum(1))
    alike = np.abs(values @ values.T) / np.maximum(np.outer(norms, norms), np.finfo(float).tiny)
    most = np.tril(alike, -1).max(1, initial=0)
    return np.where(norms > 0, 1 - most, 0)


def random(evidence: Evidence, group: Group) -> np.ndarray:
    """Uniform numbers in [0, 1), the control for all others."""
    return _draw(evidence.seed, group.name).random(group.units)


def _draw(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])


def _back(ordered: np.ndarray, order: np.ndarray) -> np.ndarray:
    back = np.empty_like(ordered)
    back[order] = ordered
    return back
