"""What criteria of importance look at: entries of units, gradients, and what units compute."""

# U units of a group, E entries of a unit in a parameter, N values of a unit

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from groundwork import trees
from groundwork.trees import Variables
from pruning.structured import layers
from pruning.structured.graph import Graph, Group, Member, parameters


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
        """Returns of each member [U, E] float64: the entries that each unit has in a parameter.

        Args:
          group: whose units.
          leaves: a tree like the variables; by default these themselves.
        """
        flat = trees.flatten(self.variables if leaves is None else leaves)
        return [entries_of(np.asarray(flat[m.path]), m) for m in self.chosen(group)]

    def chosen(self, group: Group) -> list[Member]:
        """Returns the members that are parameters, or the first of them."""
        of_params = parameters(self.graph, group.members)
        if self.members == "all":
            return list(of_params)
        kernels = [m for m in of_params if len(self.graph.axes[m.path]) > 1]
        made = [m for m in kernels if m.axis not in self.graph.summed.get(m.path, ())]
        return list(made or kernels or of_params)[:1]


def entries_of(leaf: np.ndarray, member: Member) -> np.ndarray:
    """Returns [U, E] float64: the entries of a leaf that each unit has along the member's axis.

    Sums of half floats would lose their last terms, or overflow.
    """
    rows = np.moveaxis(leaf, member.axis, 0).reshape(leaf.shape[member.axis], -1)
    return rows[member.positions].reshape(len(member.positions), -1).astype(np.float64)


def scales(group: Group) -> list[Member]:
    """Returns the scales of the normalisations that follow a group.

    Raises:
      ValueError: there is none.
    """
    found = [m for m in group.members if m.path.rpartition("/")[2] == "scale"]
    if not found:
        raise ValueError(f"criterion scale: no normalisation scales the units of {group.name}")
    return found


def values_of(evidence: Evidence, group: Group) -> np.ndarray:
    """Returns [U, N] float64: what the next layer is given of each unit, in all of its calls."""
    found, given = evidence.given
    after = consumer(evidence.graph, group, found)
    calls = given[after.layer.layer.path]
    rows = [np.asarray(inputs, np.float64).reshape(-1, inputs.shape[-1]) for inputs in calls]
    columns = np.concatenate(rows).T
    return np.stack([columns[after.units == unit].reshape(-1) for unit in range(group.units)])


def consumer(graph: Graph, group: Group, found: dict[str, layers.Reached]) -> layers.Consumer:
    """Returns the first layer that sums over the units of a group."""
    after = layers.consumers(graph, group, found)
    if not after:
        raise ValueError(f"no layer whose inputs can be had sums over the units of {group.name}")
    return after[0]
