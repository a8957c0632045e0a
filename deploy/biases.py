"""Biases that make up for the mean errors of 8-bit integers. Read `corrected` first."""

# B batch of the graph, O outputs of a layer

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deploy.graphs.evaluate import compute, rounded
from deploy.graphs.graph import FREE, Graph, Node

EXAMPLES = 64  # over which means are taken, at most: all are computed at once
_AXIS = "batches"


def corrected(graph: Graph, exact: Graph, batches: Sequence[tuple[np.ndarray, ...]]) -> Graph:
    """Returns a graph of integers whose layers have the mean outputs of the exact one's.

    Each output channel's mean error, over examples and positions, before the layer's bounds, is
    subtracted from its bias, layer by layer: what a layer is given is what the layers before it
    give once they are corrected. So errors of rounded values count as those of kernels do.

    Args:
      graph: with grids and stored integers.
      exact: the same nodes, of floats.
      batches: arrays [B, …] of all inputs; the first `EXAMPLES` examples are used.

    Returns:
      The graph with other biases. A bias that several nodes read stays as it is.

    Source: Nagel et al., arXiv:1906.04721, Section 4.2 and its appendix on empirical bias
    correction. Departs: values are rounded, too.
    """
    count = max(1, EXAMPLES // len(batches[0][0]))
    stacked = [np.stack(arrays) for arrays in zip(*batches[:count], strict=True)]
    program = jax.jit(jax.vmap(lambda *given: _changes(graph, exact, given), axis_name=_AXIS))
    changes = program(*stacked)
    constants = dict(graph.constants)
    for name, change in changes.items():
        constants[name] = constants[name] + np.asarray(change[0])
    return dataclasses.replace(graph, constants=constants)


def _changes(graph: Graph, exact: Graph, given: Sequence[Any]) -> dict[str, jax.Array]:
    """Returns bias → what is added to it, [O]."""
    wanted: dict[str, Any] = {**exact.constants, **dict(zip(exact.inputs, given, strict=True))}
    found: dict[str, Any] = {**graph.constants}
    for name, array in zip(graph.inputs, given, strict=True):
        found[name] = rounded(jnp.asarray(array), graph.grids.get(name))
    read = collections.Counter(name for node in graph.nodes for name in node.inputs)
    changes: dict[str, jax.Array] = {}
    for node in graph.nodes:
        free = _without_bounds(node)
        shape = graph.values[node.output].shape
        exactly, roughly = (_computed(free, values, shape) for values in (wanted, found))
        if node.operation in ("conv", "dense") and read[node.inputs[2]] == 1:
            axes = tuple(range(len(shape) - 1))
            change = lax.pmean(jnp.mean(exactly - roughly, axes), _AXIS)
            roughly = roughly + change.reshape((1,) * len(axes) + (-1,))
            changes[node.inputs[2]] = change
        bounds = node.attributes.get("bounds", FREE)
        if bounds != FREE:
            exactly, roughly = (jnp.clip(value, *bounds) for value in (exactly, roughly))
        wanted[node.output] = exactly
        found[node.output] = rounded(roughly, graph.grids.get(node.output))
    return changes


def _computed(node: Node, values: Mapping[str, Any], shape: tuple[int, ...]) -> jax.Array:
    return compute(node, [jnp.asarray(values[name]) for name in node.inputs], shape)


def _without_bounds(node: Node) -> Node:
    if "bounds" not in node.attributes:
        return node
    return dataclasses.replace(node, attributes={**node.attributes, "bounds": FREE})
