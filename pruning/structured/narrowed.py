"""Networks without some of their units. Read `narrow` first."""

# R replicates, U units of a group

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from groundwork import trees
from groundwork.traced import network
from groundwork.trees import Variables
from pruning.structured import program
from pruning.structured.graph import Graph
from pruning.structured.grouping import arguments
from pruning.structured.kept import Keep, check, composed, cut, renewed
from pruning.structured.rules import RULES
from pruning.structured.walk import Walk


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

    def __repr__(self) -> str:  # that of a dataclass has pages of indices
        units = (
            f"{group.name}: {np.sum(np.atleast_2d(self.keep[group.name])[0])} of {group.units}"
            for group in self.graph.groups
            if group.name in self.keep
        )
        return f"Narrowed({', '.join(units)})"

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
        walk.left.removed = _checked(walk, graph, self.keep)
        walk.check = functools.partial(_checked, walk, graph, self.keep)
        values = program.arrays((variables, (args, kwargs)))
        for path, axes, value in zip(traced.paths, given, values, strict=True):
            if path is not None and np.shape(value) != (size := walk.left.size(axes)):
                raise ValueError(f"{path} is {np.shape(value)}, not {size} as the units kept say")
        outputs = walk.run(traced.closed, given, values)[1]
        return jax.tree.unflatten(jax.tree.structure(traced.outputs), outputs)

    def init(self, key: jax.Array, *args: Any, **kwargs: Any) -> Variables:
        """Returns new variables of the narrow network, of one replicate: see `renewed`.

        Args:
          key: for random numbers.
          *args: as the network's own `init` takes them.
          **kwargs: likewise.

        Raises:
          ValueError: the network is a function, which has no `init`.
        """
        if not hasattr(self.graph.model, "init"):
            raise ValueError(
                "this network is a function and has no init: give new variables of the whole one "
                "to structured.renewed(graph, variables, keep)"
            )
        first = {
            name: np.reshape(units, (-1, np.shape(units)[-1]))[0]
            for name, units in self.keep.items()
        }
        return renewed(self.graph, self.graph.model.init(key, *args, **kwargs), first)


def narrow(graph: Graph, variables: Variables, keep: Keep) -> tuple[Narrowed, Variables]:
    """Returns the network without the units that are not kept, and its variables.

    Where the network lacks units already, and those that go are whole units of the first network,
    the result is the first network without both.

    Args:
      graph: see `grouping.groups`.
      variables: of the whole network; leaves may be [R, …] if `keep` is.
      keep: see `Keep`. With replicates, each keeps as many units of a group as any other.

    Raises:
      ValueError: a group is unknown, has another number of units, or would lose all of them.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": jnp.array([[1.0, 5.0, 3.0]]), "out": jnp.array([[1.0, 2.0, 4.0]]).T}
        >>> graph = structured.groups(network, params, jnp.ones((1, 1)))
        >>> small, few = structured.narrow(graph, params, {"hidden": np.array([False, True, True])})
        >>> small
        Narrowed(hidden: 2 of 3)
        >>> small.apply(few, jnp.ones((1, 1))).tolist()  # 5 × 2 + 3 × 4
        [[22.0]]
    """
    check(graph, keep)
    small = cut(graph, variables, keep)
    if isinstance(graph.model, Narrowed):
        first = graph.model
        both = composed(first.graph, first.keep, graph, keep)
        if both is not None:
            return Narrowed(graph=first.graph, keep=both), small
    return Narrowed(graph=graph, keep=dict(keep)), small


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
