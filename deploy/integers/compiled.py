"""A graph of integers as a function of JAX: the integers of `deploy.integers`, fast on a CPU."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deploy.graphs.graph import Graph, Grid
from deploy.integers.program import program
from groundwork.architectures.cpu import integers


def compiled(graph: Graph, form: int | None = None) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Returns `(apply, arrays)` of a graph with grids.

    Its integers are those of `deploy.integers.codes`, all of them. On a CPU with AVX-512 one call
    runs the whole network; elsewhere `jax.lax` computes the same.

    Args:
      graph: with grids.
      form: of the products, see `groundwork.architectures.cpu.integers`; by default the fastest.

    Returns:
      `apply(arrays, *inputs)` gives float32 outputs for a batch of any size: one array, or a tuple
      of them in the order of the graph's outputs; and the arrays, which are of this machine.

    Raises:
      ValueError: the graph has no grids, an operation has no compiled form (`Unsupported`), or a
        sum could leave an int32.
    """
    if not graph.grids:
        raise ValueError("the graph has no grids: deploy.grids.quantized makes a graph with them")
    made = program(graph)
    prepared, arrays = integers.prepared(made.network, made.weights, form)

    def apply(arrays: Mapping[str, jax.Array], *inputs: Any) -> Any:
        given = [jnp.asarray(array, jnp.float32) for array in jax.tree.leaves(inputs)]
        wanted = [graph.values[name].shape[1:] for name in graph.inputs]
        if [array.shape[1:] for array in given] != wanted:
            shapes = [array.shape for array in given]
            raise ValueError(f"inputs must be of shapes [N, …] with {wanted}, not {shapes}")
        results = integers.run(prepared, arrays, given)
        outputs = tuple(
            _floats(results[place], graph.grids[name], graph.values[name].shape[1:])
            for name, place in zip(graph.outputs, made.outputs, strict=True)
        )
        if graph.structure == "stacked":
            return jnp.stack(outputs)
        return outputs[0] if graph.structure == "single" else outputs

    return apply, arrays


def _floats(codes: jax.Array, grid: Grid, shape: tuple[int, ...]) -> jax.Array:
    """Returns the points of a grid, of codes as they are stored."""
    zero = grid.zero + (128 if grid.bits == 8 else 0)
    points = (codes.astype(jnp.float32) - zero) * np.float32(grid.scale)
    return points.reshape(len(codes), *shape)
