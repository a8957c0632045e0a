"""Networks without some of their units. Read `narrow` first."""

# R replicates, U units of a group

import dataclasses
import functools
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
from pruning.structured.graph import Graph, arguments
from pruning.structured.rules import RULES
from pruning.structured.walk import Walk

Keep = Mapping[str, np.ndarray]
"""Group → [U] or [R, U] bool, True = kept. Groups that it lacks are kept whole."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Narrowed:
    """A network without some units, called as the network that it was made of.

    Attributes:
      graph: of that network.
      keep: group → [U] or [R, U] bool.
    """

    graph: Graph
    keep: Keep

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Narrowed) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> Any:
        kept = sorted((name, np.asarray(units).tobytes()) for name, units in self.keep.items())
        return id(self.graph), tuple(kept)

    def apply(self, variables: Variables, *args: Any, **kwargs: Any) -> Any:
        """Returns what the network computes on variables without the units.

        The call is traced at its full size and computed again on what is left, so it works under
        jit, grad, vmap and shard_map as the network itself does.

        Args:
          variables: of the narrow network.
          *args: as the network takes them.
          **kwargs: likewise.

        Raises:
          ValueError: the variables are not those of the narrow network, or this call treats units
            together of which some are gone.
        """
        graph = self.graph
        apply = network.apply_of(graph.model)
        traced = program.trace(
            lambda variables, given: apply(variables, *given[0], **given[1]),
            _at_full_size(graph, variables),
            (args, kwargs),
        )
        walk = Walk(rules=RULES, split=graph.split, forest=graph.forest.copy())
        given = arguments(walk, traced, graph.axes)
        walk.settle(traced.closed, given, lambda outputs: None)
        walk.removed = _checked(walk, graph, self.keep)
        walk.check = functools.partial(_checked, walk, graph, self.keep)
        values = program.arrays((variables, (args, kwargs)))
        for path, axes, value in zip(traced.paths, given, values, strict=True):
            if path is not None and np.shape(value) != (size := walk.size(axes)):
                raise ValueError(f"{path} is {np.shape(value)}, not {size} as the units kept say")
        outputs = walk.run(traced.closed, given, values)[1]
        return jax.tree.unflatten(jax.tree.structure(traced.outputs), outputs)

    def init(self, key: jax.Array, *args: Any, **kwargs: Any) -> Variables:
        """Returns new variables of the narrow network, of one replicate: see `renewed`.

        Args:
          key: for random numbers.
          *args: as the network's own `init` takes them.
          **kwargs: likewise.
        """
        first = {
            name: np.reshape(units, (-1, np.shape(units)[-1]))[0]
            for name, units in self.keep.items()
        }
        return renewed(self.graph, self.graph.model.init(key, *args, **kwargs), first)


def narrow(graph: Graph, variables: Variables, keep: Keep) -> tuple[Narrowed, Variables]:
    """Returns the network without the units that are not kept, and its variables.

    Args:
      graph: see `groups`.
      variables: of the whole network; leaves may be [R, …] if `keep` is.
      keep: see `Keep`. With replicates, each keeps as many units of a group as any other.

    Raises:
      ValueError: a group is unknown, has another number of units, or would lose all of them.
    """
    check(graph, keep)
    return Narrowed(graph=graph, keep=dict(keep)), cut(graph, variables, keep)


def cut(graph: Graph, variables: Variables, keep: Keep) -> Variables:
    """Returns the variables, or gradients of them, without the units that are not kept."""
    kept = _entries(graph, keep)

    def one(path: str, leaf: Any) -> Any:
        for axis, entries in kept.get(path, {}).items():
            leaf = _taken(leaf, entries, axis)
        return leaf

    return trees.map_with_path(one, variables)


def renewed(graph: Graph, variables: Variables, keep: Keep) -> Variables:
    """Returns new variables of a narrow network, which are new ones of the whole network, cut.

    The parameters of products are scaled by the root of the number of inputs before over the number
    after, which the usual initialisers give a network that is built as narrow as this one; biases
    and all else are as they were made.

    Args:
      graph: see `groups`.
      variables: of the whole network, before any training; leaves may be [R, …] if `keep` is.
      keep: see `Keep`.
    """

    def one(path: str, leaf: Any) -> Any:
        axes, first = graph.summed.get(path, ()), leaf.ndim - len(graph.axes[path])
        before = [len(graph.axes[path][axis]) for axis in axes]
        after = [leaf.shape[first + axis] for axis in axes]
        return leaf * float(np.sqrt(np.prod(before) / np.prod(after)))

    return trees.map_with_path(one, cut(graph, variables, keep))


def expand(graph: Graph, variables: Variables, keep: Keep) -> Variables:
    """Returns the variables of a narrow network at full size, with zeros where units are gone."""
    kept = _entries(graph, keep)

    def one(path: str, leaf: Any) -> Any:
        for axis, entries in kept.get(path, {}).items():
            leaf = _spread(np.asarray(leaf), entries, axis)
        return leaf

    return trees.map_with_path(one, variables)


def mask(graph: Graph, variables: Variables, keep: Keep) -> Variables:
    """Returns the variables with zeros in place of the units that are not kept.

    Raises:
      ValueError: see `narrow`.
    """
    check(graph, keep)
    kept = _entries(graph, keep)

    def one(path: str, leaf: Any) -> Any:
        for axis, entries in kept.get(path, {}).items():
            ranks = len(graph.axes[path])
            shape = [-1 if n == axis else 1 for n in range(ranks)]
            leaf = jnp.where(
                entries.reshape(*entries.shape[:-1], *shape), leaf, jnp.zeros((), leaf.dtype)
            )
        return leaf

    return trees.map_with_path(one, variables)


def _taken(leaf: Any, entries: np.ndarray, axis: int) -> Any:
    """Returns the entries of a leaf that are kept along an axis, of each replicate its own."""
    if entries.all():
        return leaf
    if entries.ndim == 1:
        take = np.take if isinstance(leaf, np.ndarray) else jnp.take  # which compiles a program
        return take(leaf, np.flatnonzero(entries), axis=axis)
    if isinstance(leaf, np.ndarray):
        return np.stack([_taken(*each, axis) for each in zip(leaf, entries, strict=True)])
    chosen = np.stack([np.flatnonzero(one) for one in entries])
    return jax.vmap(lambda leaf, chosen: jnp.take(leaf, chosen, axis=axis))(leaf, chosen)


def _spread(leaf: np.ndarray, entries: np.ndarray, axis: int) -> np.ndarray:
    if entries.ndim == 2:
        return np.stack([_spread(*each, axis) for each in zip(leaf, entries, strict=True)])
    shape = [*leaf.shape[:axis], len(entries), *leaf.shape[axis + 1 :]]
    whole = np.zeros(shape, leaf.dtype)
    whole[(slice(None),) * axis + (np.flatnonzero(entries),)] = leaf
    return whole


def _entries(graph: Graph, keep: Keep) -> dict[str, dict[int, np.ndarray]]:
    """Returns path → axis → of each entry, or [R, …] of each replicate's, whether it is kept."""
    kept: dict[str, dict[int, np.ndarray]] = {}
    several = np.broadcast_shapes(*(np.shape(units)[:-1] for units in keep.values()))
    for group in graph.groups:
        units = np.asarray(keep.get(group.name, np.ones(group.units, bool)))
        units = np.broadcast_to(units, (*several, group.units))
        for member in group.members:
            count = len(graph.axes[member.path][member.axis])
            axes = kept.setdefault(member.path, {})
            entries = axes.setdefault(member.axis, np.ones((*several, count), bool))
            entries[..., member.positions] &= units[..., None]
    return kept


def check(graph: Graph, keep: Keep) -> None:
    """Refuses what cannot be kept.

    Raises:
      ValueError: a group is unknown, has another number of units, loses all of them, or keeps
        another number in one replicate than in another.
    """
    known = {group.name: group for group in graph.groups}
    for name, units in keep.items():
        if name not in known:
            raise ValueError(str(unknown("group", name, known)))
        units = np.asarray(units)
        if units.dtype != bool or units.ndim not in (1, 2) or units.shape[-1] != known[name].units:
            found = f"{units.dtype}{list(units.shape)}"
            raise ValueError(f"group {name} needs {known[name].units} truths, not {found}")
        counts = np.unique(units.sum(-1))
        if not counts.all():
            raise ValueError(f"group {name} would lose all of its units: keep one at least")
        if len(counts) > 1:
            raise ValueError(
                f"group {name} keeps {counts.min()} to {counts.max()} units: all "
                "replicates must keep as many"
            )


def _at_full_size(graph: Graph, variables: Variables) -> Any:
    """Returns the shapes of the whole network's variables, of the narrow ones' dtypes."""
    if len({jax.tree.structure(tree) for tree in (variables, graph.shapes)}) > 1:
        ours, theirs = (set(trees.flatten(tree)) for tree in (graph.shapes, variables))
        differing = ", ".join(sorted(ours ^ theirs)) or "the kinds of their nodes"
        raise ValueError(f"the variables are another network's: they differ in {differing}")

    def one(whole: Any, leaf: Any) -> Any:
        if not program.is_array(whole):
            return whole
        return network.shape_like(leaf, whole.shape)

    return jax.tree.map(one, graph.shapes, variables)


def _checked(walk: Walk, graph: Graph, keep: Keep) -> list[np.ndarray]:
    """Returns the ids of the units that are gone, of each replicate, if this call allows it.

    Raises:
      ValueError: see `Narrowed.apply`.
    """
    replicates = max((len(np.atleast_2d(units)) for units in keep.values()), default=1)
    return [_gone(walk, graph, keep, replicate) for replicate in range(replicates)]


def _gone(walk: Walk, graph: Graph, keep: Keep, replicate: int) -> np.ndarray:
    gone, left = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for group in graph.groups:
        units = np.atleast_2d(keep.get(group.name, np.ones(group.units, bool)))
        kept = units[min(replicate, len(units) - 1)]
        gone.append(group.ids[~kept])
        left.append(group.ids[kept])
        stays = ~walk.forest.free(group.ids[~kept])
        if stays.any():
            why = walk.forest.reason(int(group.ids[~kept][stays][0]))
            raise ValueError(f"units of {group.name} are gone, but in this call they stay: {why}")
    removed, rest = np.concatenate(gone), np.concatenate(left)
    if np.isin(walk.forest.roots(removed), walk.forest.roots(rest)).any():
        raise ValueError("this call joins units that are gone with others that are left")
    return removed
