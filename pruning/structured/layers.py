"""The layers whose kernels sum over units: what they are given, and which inputs are which unit."""

# U units of a group, N inputs of a layer

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from groundwork import trees
from groundwork.traced import network, reach
from groundwork.traced.products import as_kernel
from groundwork.traced.reach import Reached
from groundwork.trees import Variables
from pruning.structured import program
from pruning.structured.graph import Graph, Group, Member


class Consumer(NamedTuple):
    """A layer that sums over the units of a group.

    Attributes:
      layer: as it is reached.
      variable: the path of its kernel among the variables.
      units: [N] integers: the unit that each of its inputs is of, -1 for none. A convolution's
        inputs are channels.
    """

    layer: Reached
    variable: str
    units: np.ndarray


def reached(graph: Graph, inputs: Any) -> tuple[dict[str, Reached], dict[str, str]]:
    """Returns the layers of a network whose inputs can be had, and why others' cannot."""
    found, refused = reach.layers(program.evaluation(graph.model), graph.shapes, inputs)
    for path, layer in list(found.items()):
        if layer.enclosed:
            del found[path]
            refused[layer.parameter] = "it stands in a scan or a rematerialised part"
    return found, refused


def consumers(graph: Graph, group: Group, layers: Mapping[str, Reached]) -> list[Consumer]:
    """Returns the layers that sum over the units of a group, in the order of their calls."""
    members = {member.path: member for member in group.members if _sums(graph, member)}
    found = []
    for layer in layers.values():
        path = variable(graph, layer.parameter)
        if path in members and not layer.stack:
            found.append(Consumer(layer, path, _units(graph, layer, members[path])))
    return found


def given(
    graph: Graph, variables: Variables, inputs: Any, paths: tuple[str, ...]
) -> dict[str, list[Any]]:
    """Returns layer → what it is given in each call, as [..., N] or [B, H, W, N]."""
    return reach.inputs_of(program.evaluation(graph.model), variables, paths, inputs)


def _sums(graph: Graph, member: Member) -> bool:
    return member.axis in graph.summed.get(member.path, ())


def variable(graph: Graph, parameter: str) -> str:
    """Returns the path of a parameter among all variables."""
    return f"params/{parameter}" if network.has_collections(graph.shapes) else parameter


def _units(graph: Graph, layer: Reached, member: Member) -> np.ndarray:
    shape = trees.flatten(graph.shapes)[member.path].shape
    along = np.full(shape[member.axis], -1)
    for unit, positions in enumerate(member.positions):
        along[positions] = unit
    at = [-1 if n == member.axis else 1 for n in range(len(shape))]
    kernel = as_kernel(layer.layer, np.broadcast_to(along.reshape(at), shape))
    return np.asarray(kernel[0, 0, :, 0] if kernel.ndim == 4 else kernel[:, 0])
