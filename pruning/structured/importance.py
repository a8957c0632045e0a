"""How much each unit matters, by several criteria. Read `scores` and `CRITERIA`; higher = keep."""

# U units of a group, N values of a unit

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.errors import unknown
from groundwork.trees import Variables
from pruning.structured import layers
from pruning.structured.graph import Graph, Group, Member

Scores = dict[str, np.ndarray]
"""Group → [U] float64, higher = keep."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """What criteria look at.

    Attributes:
      graph: of the network.
      variables: of one replicate.
      members: `all` = the units' entries in all parameters, or `first` = those in the kernel that
        makes the units alone.
      loss: variables → the mean loss of examples, for `taylor`.
      inputs: [B, …] of the network, for criteria of what units compute.
      seed: of random scores.
    """

    graph: Graph
    variables: Variables
    members: str = "all"
    loss: Callable[[Variables], jax.Array] | None = None
    inputs: Any = None
    seed: int = 0

    @functools.cached_property
    def gradients(self) -> Variables:
        """The gradients of the loss by all variables."""
        if self.loss is None:
            raise ValueError("criterion taylor looks at gradients: give it a loss")
        return jax.grad(self.loss, allow_int=True)(self.variables)

    @functools.cached_property
    def given(self) -> tuple[dict[str, layers.Reached], dict[str, Any]]:
        """The layers whose inputs can be had, and what each of them is given."""
        if self.inputs is None:
            raise ValueError("this criterion looks at what units compute: give it inputs")
        found, _ = layers.reached(self.graph, self.inputs)
        return found, layers.given(self.graph, self.variables, self.inputs, tuple(found))

    def entries(self, group: Group, leaves: Any = None) -> list[np.ndarray]:
        """Returns of each member [U, E]: the entries that each unit has in a parameter.

        Args:
          group: whose units.
          leaves: a tree like the variables; by default these themselves.
        """
        flat = trees.flatten(self.variables if leaves is None else leaves)
        return [_entries(np.asarray(flat[m.path]), m) for m in self.chosen(group)]

    def chosen(self, group: Group) -> list[Member]:
        """Returns the members that are parameters, or the first of them."""
        of_params = [m for m in group.members if not m.path.startswith("batch_stats/")]
        if self.members == "all":
            return of_params
        kernels = [m for m in of_params if len(self.graph.axes[m.path]) > 1]
        made = [m for m in kernels if m.axis not in self.graph.summed.get(m.path, ())]
        return (made or kernels or of_params)[:1]


Criterion = Callable[[Evidence, Group], np.ndarray]


def scores(
    graph: Graph,
    variables: Variables,
    criterion: str = "l2",
    *,
    members: str = "all",
    loss: Callable[[Variables], jax.Array] | None = None,
    inputs: Any = None,
    seed: int = 0,
) -> Scores:
    """Returns a score of each unit of each group, higher = keep.

    Args:
      graph: see `graph.groups`.
      variables: of one replicate.
      criterion: one of `CRITERIA`.
      members: see `Evidence`.
      loss: see `Evidence`.
      inputs: see `Evidence`.
      seed: see `Evidence`.

    Raises:
      ValueError: the criterion is unknown, or cannot judge a group of this network.
    """
    if criterion not in CRITERIA:
        raise ValueError(str(unknown("criterion", criterion, CRITERIA)))
    if members not in ("all", "first"):
        raise ValueError(f"members={members!r} must be all or first")
    evidence = Evidence(
        graph=graph, variables=variables, members=members, loss=loss, inputs=inputs, seed=seed
    )
    return {group.name: CRITERIA[criterion](evidence, group) for group in graph.groups}


def check_criterion(graph: Graph, criterion: str, inputs: Any) -> None:
    """Refuses a criterion that cannot judge a group of this network; nothing is computed.

    Args:
      graph: see `graph.groups`.
      criterion: one of `CRITERIA`.
      inputs: [B, …] of the network, arrays or shapes.

    Raises:
      ValueError: the error says which group, and why.
    """
    if criterion == "scale":
        for group in graph.groups:
            scales(group)
    elif criterion in OF_VALUES:
        found, _ = layers.reached(graph, inputs)
        for group in graph.groups:
            _consumer(graph, group, found)


def l1(evidence: Evidence, group: Group) -> np.ndarray:
    """Σ |w| of a unit's entries. Source: Li et al., arXiv:1608.08710 (with members=first)."""
    return sum(np.abs(e).sum(1) for e in evidence.entries(group))


def l2(evidence: Evidence, group: Group) -> np.ndarray:
    """The root of Σ w² of a unit's entries."""
    return np.sqrt(sum(np.square(e).sum(1) for e in evidence.entries(group)))


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
    return sum(np.abs(_entries(np.asarray(flat[m.path]), m)).sum(1) for m in scales(group))


def geometric_median(evidence: Evidence, group: Group) -> np.ndarray:
    """The sum of a unit's distances from all units of its group.

    Source: He et al., arXiv:1811.00250, equation 4 (with members=first).
    """
    rows = np.concatenate(evidence.entries(group), 1).astype(float)
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
    values = values_of(evidence, group).astype(float)
    values -= values.mean(1, keepdims=True)
    norms = np.sqrt(np.square(values).sum(1))
    alike = np.abs(values @ values.T) / np.maximum(np.outer(norms, norms), np.finfo(float).tiny)
    most = np.tril(alike, -1).max(1, initial=0)
    return np.where(norms > 0, 1 - most, 0)


def random(evidence: Evidence, group: Group) -> np.ndarray:
    """Uniform numbers in [0, 1), the control for all others."""
    return _draw(evidence.seed, group.name).random(group.units)


def scales(group: Group) -> list[Member]:
    """Returns the scales of the normalisations that follow a group.

    Raises:
      ValueError: there is none.
    """
    found = [m for m in group.members if m.path.rpartition("/")[2] == "scale"]
    if not found:
        raise ValueError(f"criterion scale: no normalisation scales the units of {group.name}")
    return found


def _draw(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])


def _entries(leaf: np.ndarray, member: Member) -> np.ndarray:
    """Returns [U, E]: the entries of a leaf that each unit has along the member's axis."""
    rows = np.moveaxis(leaf, member.axis, 0).reshape(leaf.shape[member.axis], -1)
    return rows[member.positions].reshape(len(member.positions), -1)


def _back(ordered: np.ndarray, order: np.ndarray) -> np.ndarray:
    back = np.empty_like(ordered)
    back[order] = ordered
    return back


def values_of(evidence: Evidence, group: Group) -> np.ndarray:
    """Returns [U, N]: what the next layer is given of each unit."""
    found, given = evidence.given
    after = _consumer(evidence.graph, group, found)
    inputs = given[after.layer.layer.path]
    columns = np.asarray(jnp.reshape(inputs, (-1, inputs.shape[-1]))).T
    return np.stack([columns[after.units == unit].reshape(-1) for unit in range(group.units)])


def _consumer(graph: Graph, group: Group, found: dict[str, layers.Reached]) -> layers.Consumer:
    """Returns the first layer that sums over the units of a group."""
    after = layers.consumers(graph, group, found)
    if not after:
        raise ValueError(f"no layer whose inputs can be had sums over the units of {group.name}")
    return after[0]


OF_VALUES = ("apoz", "activation", "correlation")  # criteria of what units compute


CRITERIA: dict[str, Criterion] = {
    "l1": l1,
    "l2": l2,
    "scale": scale,
    "geometric_median": geometric_median,
    "taylor": taylor,
    "apoz": apoz,
    "activation": activation,
    "correlation": correlation,
    "lamp": lamp,
    "random": random,
}
