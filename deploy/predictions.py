"""Predictions of a `.cna` file in integers. `compress.load` asks for `of_file` by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from compress.archive import files
from deploy.graphs import trace
from deploy.graphs.graph import Graph
from deploy.integers.compiled import compiled
from deploy.layer_grids import with_layer_grids
from deploy.sources import archives
from groundwork import copies
from groundwork.errors import UserError

BATCH = 2  # of the graph; its network takes any
HOW = (
    "quantize with quantize.method='uniform' (8 bits, symmetric) and quantize.activation_bits=8, "
    "or load the file without compute='int8'"
)


def of_file(
    path: str | Path, model: Any = None, like: Any = None
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Returns the network of a file, which computes in integers; see `compress.load`."""
    if like is not None:
        raise UserError("compute='int8' takes no like=: it is for files of Linen modules")
    try:
        graph = graph_of_file(path, model)
        apply, arrays = compiled(graph)
    except ValueError as error:
        raise UserError(f"cannot load {path} with compute='int8': {error}") from error
    dense, floats = files.load(path, model)
    example = [jax.ShapeDtypeStruct(graph.values[n].shape, jnp.float32) for n in graph.inputs]
    structure = jax.tree.structure(jax.eval_shape(dense, floats, *example))

    def call(variables: Any, inputs: Any, train: bool = False) -> Any:
        if train:
            raise ValueError("a network of integers does not train: call it with train=False")
        outputs = apply(variables, jnp.asarray(inputs))
        return jax.tree.unflatten(structure, jax.tree.leaves(outputs))

    return call, arrays


def graph_of_file(path: str | Path, model: Any = None) -> Graph:
    """Returns the network of a file as a graph of integers, for `BATCH` examples.

    Kernels have the file's integers, and the inputs of layers lie on its grids. What has no grid
    there is wider, see `layer_grids`. `deploy.integers.run` is the reference of what it computes.

    Args:
      path: of the file.
      model: the network, if the file does not describe it.

    Raises:
      UserError: see `compress.load`.
      ValueError: the file lacks integers of 8 bits, or an operation of the network has no integers;
        the error is one line, and says what to do.
    """
    network = archives.load(copies.near_file(path), model)
    if not network.grids:
        raise ValueError(f"the inputs of its layers have no grids: {HOW}")
    for layer, grid in network.grids.items():
        if grid.bits != 8:
            raise ValueError(f"the inputs of {layer!r} have {grid.bits} bits, not 8: {HOW}")
    if network.example is None:
        raise ValueError("it does not say what shape an example has: save it with example=")
    example = jax.ShapeDtypeStruct((BATCH, *network.example), jnp.float32)
    graph = trace.graph(network.model, network.variables, example, network.stored)
    for node in graph.nodes:
        if node.operation in ("conv", "dense") and node.inputs[1] not in graph.stored:
            why = graph.lost.get(node.inputs[1], "its integers are none of 8 symmetric bits")
            raise ValueError(f"the kernel of {node.layer!r} stays floats, {why}: {HOW}")
    return with_layer_grids(graph, network.grids)
