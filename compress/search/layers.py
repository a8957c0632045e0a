"""The layers of a network that a search may change, and the groups of units that may go."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from groundwork import trees
from groundwork.traced import reach
from groundwork.traced.reach import Reached
from groundwork.trees import Shapes
from pruning import structured
from pruning.structured import Graph

KERNEL = "kernel"  # the name of what is pruned and rounded


class Found(NamedTuple):
    """What may be changed.

    Attributes:
      layers: by path, in the order of their calls.
      graph: of the units, of which those of `exact` groups may go; None if none may.
      left: what may not → why: a layer, or "units of GROUP".
    """

    layers: dict[str, Reached]
    graph: Graph | None
    left: dict[str, str]


def find(model: Any, shapes: Shapes, example: Any) -> Found:
    """Returns the layers and units of a network that may be changed; nothing is computed.

    Args:
      model: a module, or a network without some units, of which no more are taken.
      shapes: of its variables, of one replicate.
      example: what it is called with, [1, …], arrays or shapes.
    """
    reached, refused = reach.layers(model, shapes, trees.example(example), train=False)
    left = {_layer(path): reason for path, reason in refused.items()}
    layers = {}
    for path, one in reached.items():
        dtype = trees.flatten(shapes["params"])[one.parameter].dtype
        if one.stack:
            left[path] = "it stands for all the layers of a scan"
        elif one.parameter.rpartition("/")[2] != KERNEL:
            left[path] = f"its weights are not called {KERNEL}"
        elif not jnp.issubdtype(dtype, jnp.floating):
            left[path] = f"its numbers are of {dtype}"
        else:
            layers[path] = one
    graph, missed = _graph(model, shapes, example, layers)
    return Found(layers, graph, left | missed)


def _layer(parameter: str) -> str:
    return parameter.removesuffix(f"/{KERNEL}")


def _graph(
    model: Any, shapes: Shapes, example: Any, layers: Mapping[str, Reached]
) -> tuple[Graph | None, dict[str, str]]:
    if isinstance(model, structured.Narrowed):
        return None, {"units": "the network has lost some before"}
    two = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), example)
    try:
        graph = structured.groups(model, shapes, two)
    except ValueError as error:
        return None, {"units": str(error)}
    left = {}
    for group in graph.groups:
        if group.name not in layers:
            left[f"units of {group.name}"] = "no layer that may be changed has their name"
        elif group.doubt:
            left[f"units of {group.name}"] = group.doubt
    return graph, left
