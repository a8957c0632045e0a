"""Networks without some of their units. Read `narrow` first."""

# R replicates, U units of a group

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.errors import unknown
from groundwork.traced import network
from groundwork.trees import Variables
from pruning.structured import program
from pruning.structured.groups import Graph, arguments
from pruning.structured.rules import RULES
from pruning.structured.walk import Walk

Keep = Mapping[str, np.ndarray]
"""Group → [U] or [R, U] bool, True = kept. Groups that it lacks are kept whole."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Narrowed:
    """A network without some units, called as the network that it was made of.

    Attributes:
      graph: of that network.
      keep: group → [U] bool.
    """

    graph: Graph
    keep: Keep

    def apply(self, variables: Variables, *args: Any, **kwargs: Any) -> Any:
        """Returns what the network computes on variables without the units.

        The call is traced at its full size and computed again on what is left, so it works under
        jit, grad, vmap and shard_map as the network itself does.

        Args:
          variables: of the narrow network.
          *args: as the network takes them.
          **kwargs: likewise.

        Raises:
          ValueError: this call treats units together of which some are gone.
        """
        graph = self.graph
        apply = network.apply_of(graph.model)
        traced = program.trace(
            lambda variables, given: apply(variables, *given[0], **given[1]),
            graph.shapes,
            (args, kwargs),
        )
        walk = Walk(rules=RULES, split=graph.split, forest=graph.forest.copy())
        given = arguments(walk, traced, graph.axes)
        walk.settle(traced.closed, given, lambda outputs: None)
        walk.removed = _checked(walk, graph, self.keep)
        values = program.arrays((variables, (args, kwargs)))
        outputs = walk.run(traced.closed, given, values)[1]
        return jax.tree.unflatten(jax.tree.structure(traced.outputs), outputs)

    def init(self, key: jax.Array, *args: Any, **kwargs: Any) -> Variables:
        """Returns new variables of the narrow network.

        The network's own are made at full size and cut. What is multiplied by inputs is scaled up
        as if the network had been made narrow: by the root of the inputs before over those after.
        """
        raise NotImplementedError


def narrow(graph: Graph, variables: Variables, keep: Keep) -> tuple[Narrowed, Variables]:
    """Returns the network without the units that are not kept, and its variables.

    Args:
      graph: see `groups`.
      variables: of the whole network; leaves may be [R, …] if `keep` is.
      keep: see `Keep`. With replicates, each keeps as many units of a group as any other.

    Raises:
      ValueError: a group is unknown, has another number of units, or would lose all of them.
    """
    _check(graph, keep)
    return Narrowed(graph=graph, keep=dict(keep)), cut(graph, variables, keep)


def cut(graph: Graph, variables: Variables, keep: Keep) -> Variables:
    """Returns the variables without the units that are not kept."""
    kept = _entries(graph, keep)

    def one(path: str, leaf: Any) -> Any:
        for axis, entries in kept.get(path, {}).items():
            if not entries.all():
                leaf = jnp.take(leaf, np.flatnonzero(entries), axis=axis)
        return leaf

    return trees.map_with_path(one, variables)


def mask(graph: Graph, variables: Variables, keep: Keep) -> Variables:
    """Returns the variables with zeros in place of the units that are not kept."""
    _check(graph, keep)
    kept = _entries(graph, keep)

    def one(path: str, leaf: Any) -> Any:
        for axis, entries in kept.get(path, {}).items():
            shape = [-1 if n == axis else 1 for n in range(leaf.ndim)]
            leaf = jnp.where(entries.reshape(shape), leaf, jnp.zeros((), leaf.dtype))
        return leaf

    return trees.map_with_path(one, variables)


def _entries(graph: Graph, keep: Keep) -> dict[str, dict[int, np.ndarray]]:
    """Returns path → axis → of each entry whether it is kept."""
    kept: dict[str, dict[int, np.ndarray]] = {}
    for group in graph.groups:
        gone = ~np.asarray(keep.get(group.name, np.ones(group.units, bool)))
        for member in group.members:
            axes = kept.setdefault(member.path, {})
            entries = axes.setdefault(
                member.axis, np.ones(len(graph.axes[member.path][member.axis]), bool)
            )
            entries[member.positions[gone].reshape(-1)] = False
    return kept


def _check(graph: Graph, keep: Keep) -> None:
    known = {group.name: group for group in graph.groups}
    for name, units in keep.items():
        if name not in known:
            raise ValueError(str(unknown("group", name, known)))
        if np.shape(units)[-1:] != (known[name].units,):
            raise ValueError(f"group {name} has {known[name].units} units, not {np.shape(units)}")
        if not np.asarray(units).any(-1).all():
            raise ValueError(f"group {name} would lose all of its units: keep one at least")


def _checked(walk: Walk, graph: Graph, keep: Keep) -> np.ndarray:
    """Returns the ids of the units that are gone, if this call treats none of them otherwise."""
    gone, left = [], []
    for group in graph.groups:
        kept = np.asarray(keep.get(group.name, np.ones(group.units, bool)))
        gone.append(group.ids[~kept])
        left.append(group.ids[kept])
        stays = ~walk.forest.free(group.ids[~kept])
        if stays.any():
            why = walk.forest.reason(int(group.ids[~kept][stays][0]))
            raise ValueError(f"units of {group.name} are gone, but here one stays: {why}")
    removed, rest = np.concatenate(gone), np.concatenate(left)
    mixed = np.isin(walk.forest.roots(removed), walk.forest.roots(rest))
    if mixed.any():
        raise ValueError("this call joins units that are gone with others that are left")
    return removed
