"""What can be removed from a network: groups of units that are alike. Read `Graph` first."""

# U units of a group

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from groundwork.traced import network
from groundwork.trees import Shapes
from pruning.structured import table
from pruning.structured.forest import Forest


@dataclasses.dataclass(frozen=True)
class Member:
    """What the units of a group have along one axis of a variable.

    Attributes:
      path: of the variable, "params/conv1/kernel".
      axis: of it.
      positions: [U, n] integers: the entries along the axis that each unit has.
    """

    path: str
    axis: int
    positions: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Units that are alike: each has as many entries in the same variables as any other.

    Attributes:
      name: of the layer that makes them.
      units: U.
      members: where their entries are.
      doubt: why the network without a unit may compute something else than with zeros in its place;
        "" if it does not.
      ids: [U] integers that stand for them in the graph.
    """

    name: str
    units: int
    members: tuple[Member, ...]
    doubt: str
    ids: np.ndarray

    @property
    def exact(self) -> bool:
        """Whether the network without a unit computes what it does with zeros in its place."""
        return not self.doubt


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """What can be removed from a network.

    Attributes:
      groups: of units, in the order in which the network makes them.
      frozen: "path axis" → why its entries, or some of them, stay.
      model: the network.
      shapes: of its variables.
      axes: path of a variable → of each axis the ids of its entries.
      summed: path of a parameter → its axes over which products sum.
      forest: which ids belong together.
      split: as `groups` was told.
      ignored: likewise.
    """

    groups: tuple[Group, ...]
    frozen: Mapping[str, str]
    model: Any
    shapes: Shapes
    axes: Mapping[str, list[np.ndarray]]
    summed: Mapping[str, tuple[int, ...]]
    forest: Forest
    split: str
    ignored: tuple[str, ...] = ()

    def __str__(self) -> str:
        return table.table(self.groups, self.frozen)

    def __repr__(self) -> str:  # that of a dataclass has pages of indices
        units = ", ".join(f"{group.name}: {group.units}" for group in self.groups)
        return f"Graph({units})"


def coupling(graph: Graph) -> dict[str, dict[str, list[str]]]:
    """Returns layer → {"makes": …, "takes": …}: the groups of its outputs, and of its inputs.

    A layer is what has a kernel; it takes the units over which its products sum, and makes all
    others. Layers are in the order of the last group that they meet; those that make none are last.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": jnp.ones((2, 3)), "out": jnp.ones((3, 1))}
        >>> structured.coupling(structured.groups(network, params, jnp.ones((1, 2))))
        {'hidden': {'makes': ['hidden'], 'takes': []}, 'out': {'makes': [], 'takes': ['hidden']}}
    """
    order = {group.name: number for number, group in enumerate(graph.groups)}
    layers: dict[str, dict[str, list[str]]] = {}
    for group in graph.groups:
        for member in group.members:
            if len(graph.axes[member.path]) < 2:
                continue
            sums = member.axis in graph.summed.get(member.path, ())
            layer = layers.setdefault(layer_of(member.path), {"makes": [], "takes": []})
            names = layer["takes" if sums else "makes"]
            names += [] if group.name in names else [group.name]

    def place(layer: str) -> tuple[bool, int, int]:
        makes, takes = ([order[n] for n in layers[layer][side]] for side in ("makes", "takes"))
        return not makes, max(makes + takes), max(takes, default=-1)

    return {layer: layers[layer] for layer in sorted(layers, key=place)}


def parameters(graph: Graph, members: tuple[Member, ...]) -> tuple[Member, ...]:
    """Returns the members that are parameters, where other collections stand beside `params`."""
    several = network.has_collections(graph.shapes)
    return tuple(m for m in members if not several or m.path.startswith("params/"))


def layer_of(path: str) -> str:
    """Returns the path of the layer that has a variable: "conv1" of "params/conv1/kernel"."""
    inside = path.removeprefix("params/")
    return inside.rpartition("/")[0] or inside
