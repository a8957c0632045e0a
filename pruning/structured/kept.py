"""Which units are kept, and variables without the others. Read `cut` first."""

# R replicates, U units of a group

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork import trees
from groundwork.errors import unknown
from groundwork.trees import Variables
from pruning.structured.graph import Graph

Keep = Mapping[str, np.ndarray]
"""Group → [U] or [R, U] bool, True = kept. Groups that it lacks are kept whole."""


def cut(graph: Graph, variables: Variables, keep: Keep) -> Variables:
    """Returns the variables, or gradients of them, without the units that are not kept.

    Leaves of numpy are cut by numpy, on the host, and nothing is compiled for them.

    Raises:
      ValueError: a leaf that loses entries has not the shape that it has in the whole network.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": np.array([[1.0, 5.0, 3.0]]), "out": np.array([[1.0, 2.0, 4.0]]).T}
        >>> graph = structured.groups(network, params, jnp.ones((1, 1)))
        >>> small = structured.cut(graph, params, {"hidden": np.array([False, True, True])})
        >>> small["hidden"].tolist(), small["out"].tolist()
        ([[5.0, 3.0]], [[2.0], [4.0]])
    """
    kept = entries_kept(graph, keep)

    def one(path: str, leaf: Any) -> Any:
        lost = [entries for entries in kept.get(path, {}).values() if not entries.all()]
        if lost:
            check_shape(graph, path, leaf, lost[0].shape[:-1])
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
      graph: see `grouping.groups`.
      variables: of the whole network, before any training; leaves may be [R, …] if `keep` is.
      keep: see `Keep`.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": np.ones((1, 4)), "out": np.ones((4, 1))}
        >>> graph = structured.groups(network, params, jnp.ones((1, 1)))
        >>> keep = {"hidden": np.array([True, False, False, False])}
        >>> new = structured.renewed(graph, params, keep)  # 1 input in place of 4: twice as large
        >>> new["hidden"].tolist(), new["out"].tolist()
        ([[1.0]], [[2.0]])
    """

    def one(path: str, leaf: Any) -> Any:
        axes, first = graph.summed.get(path, ()), leaf.ndim - len(graph.axes[path])
        before = [len(graph.axes[path][axis]) for axis in axes]
        after = [leaf.shape[first + axis] for axis in axes]
        return leaf * float(np.sqrt(np.prod(before) / np.prod(after)))

    return trees.map_with_path(one, cut(graph, variables, keep))


def expand(graph: Graph, variables: Variables, keep: Keep) -> Variables:
    """Returns the variables of a narrow network at full size, with zeros where units are gone.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": np.ones((1, 3)), "out": np.ones((3, 1))}
        >>> graph = structured.groups(network, params, jnp.ones((1, 1)))
        >>> small = {"hidden": np.array([[5.0, 3.0]]), "out": np.array([[2.0], [4.0]])}
        >>> whole = structured.expand(graph, small, {"hidden": np.array([True, False, True])})
        >>> whole["hidden"].tolist(), whole["out"].tolist()
        ([[5.0, 0.0, 3.0]], [[2.0], [0.0], [4.0]])
    """
    kept = entries_kept(graph, keep)

    def one(path: str, leaf: Any) -> Any:
        for axis, entries in kept.get(path, {}).items():
            leaf = _spread(np.asarray(leaf), entries, axis)
        return leaf

    return trees.map_with_path(one, variables)


def mask(graph: Graph, variables: Variables, keep: Keep) -> Variables:
    """Returns the variables with zeros in place of the units that are not kept.

    Raises:
      ValueError: see `narrow`.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": np.array([[1.0, 5.0, 3.0]]), "out": np.array([[1.0, 2.0, 4.0]]).T}
        >>> graph = structured.groups(network, params, jnp.ones((1, 1)))
        >>> zeroed = structured.mask(graph, params, {"hidden": np.array([False, True, True])})
        >>> zeroed["hidden"].tolist(), zeroed["out"].tolist()
        ([[0.0, 5.0, 3.0]], [[0.0], [2.0], [4.0]])
    """
    check(graph, keep)
    kept = entries_kept(graph, keep)

    def one(path: str, leaf: Any) -> Any:
        for axis, entries in kept.get(path, {}).items():
            ranks = len(graph.axes[path])
            shape = [-1 if n == axis else 1 for n in range(ranks)]
            where = np.where if isinstance(leaf, np.ndarray) else jnp.where
            spread = entries.reshape(*entries.shape[:-1], *shape)
            leaf = where(spread, leaf, np.zeros((), leaf.dtype))
        return leaf

    return trees.map_with_path(one, variables)


def check(graph: Graph, keep: Keep) -> None:
    """Refuses what cannot be kept.

    Raises:
      ValueError: a group is unknown, has another number of units, loses all of them, or keeps
        another number in one replicate than in another.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": jnp.ones((2, 3)), "out": jnp.ones((3, 1))}
        >>> graph = structured.groups(network, params, jnp.ones((1, 2)))
        >>> structured.check(graph, {"hidden": np.array([False, False, False])})
        Traceback (most recent call last):
        ValueError: group hidden would lose all of its units: keep one at least
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


def check_shape(graph: Graph, path: str, leaf: Any, several: tuple[int, ...] = ()) -> None:
    """Refuses a variable that is not the whole network's.

    Args:
      graph: see `grouping.groups`.
      path: of the variable.
      leaf: that is given for it.
      several: (R,) if it has a leading axis of replicates.

    Raises:
      ValueError: its shape is another one.
    """
    wanted = (*several, *(len(ids) for ids in graph.axes[path]))
    if np.shape(leaf) != wanted:
        raise ValueError(f"{path} is {np.shape(leaf)}, not {wanted} as of the whole network")


def entries_kept(graph: Graph, keep: Keep) -> dict[str, dict[int, np.ndarray]]:
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


def composed(first: Graph, before: Keep, second: Graph, after: Keep) -> Keep | None:
    """Returns which units of a network are left after two rounds; None if parts of units went.

    Args:
      first: of the network.
      before: what the first round kept of it.
      second: of the network that the first round left.
      after: what the second round kept of that.
    """
    rounds = [before, after]
    shapes = [np.shape(units) for keep in rounds for units in keep.values()]
    if not (several := np.broadcast_shapes(*(shape[:-1] for shape in shapes))):
        return _composed(first, before, second, after)
    made = []
    for replicate in range(*several):
        one, two = (
            {
                name: np.atleast_2d(units)[replicate % len(np.atleast_2d(units))]
                for name, units in keep.items()
            }
            for keep in rounds
        )
        made.append(_composed(first, one, second, two))
    if any(keep is None for keep in made):
        return None
    return {name: np.stack([keep[name] for keep in made if keep]) for name in made[0] or {}}


def _composed(first: Graph, before: Keep, second: Graph, after: Keep) -> Keep | None:
    """Returns the same of one replicate."""
    left, later = entries_kept(first, before), entries_kept(second, after)
    for path, axes in later.items():
        for axis, kept in axes.items():
            entries = left.get(path, {}).get(axis)
            if entries is not None:
                entries[entries] = kept
            elif not kept.all():
                return None
    keep = {}
    for group in first.groups:
        units = [left[m.path][m.axis][m.positions].all(1) for m in group.members]
        keep[group.name] = np.logical_and.reduce(units)
    again = entries_kept(first, keep)
    same = all((again[p][axis] == left[p][axis]).all() for p in left for axis in left[p])
    return keep if same else None


def _taken(leaf: Any, entries: np.ndarray, axis: int) -> Any:
    """Returns the entries of a leaf that are kept along an axis, of each replicate its own."""
    if entries.all():
        return leaf
    if isinstance(leaf, np.ndarray):  # nothing is compiled
        if entries.ndim == 1:
            return np.compress(entries, leaf, axis)
        return np.stack([np.compress(*each, axis) for each in zip(entries, leaf, strict=True)])
    if entries.ndim == 1:
        chosen = np.flatnonzero(entries)
        if not entries[len(chosen) :].any():  # a slice and its gradient are faster than a gather
            return lax.slice_in_dim(leaf, 0, len(chosen), axis=axis)
        return jnp.take(leaf, chosen, axis=axis)
    chosen = np.stack([np.flatnonzero(one) for one in entries])
    return jax.vmap(lambda leaf, chosen: jnp.take(leaf, chosen, axis=axis))(leaf, chosen)


def _spread(leaf: np.ndarray, entries: np.ndarray, axis: int) -> np.ndarray:
    if entries.ndim == 2:
        return np.stack([_spread(*each, axis) for each in zip(leaf, entries, strict=True)])
    shape = [*leaf.shape[:axis], len(entries), *leaf.shape[axis + 1 :]]
    whole = np.zeros(shape, leaf.dtype)
    whole[(slice(None),) * axis + (np.flatnonzero(entries),)] = leaf
    return whole
