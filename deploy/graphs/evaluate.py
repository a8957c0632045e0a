"""What a graph computes, in JAX: the reference beside which engines' outputs are held."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deploy.graphs.graph import FREE, Graph, Grid, Node


def evaluate(graph: Graph, *inputs: Any) -> dict[str, jax.Array]:
    """Returns every value of the graph but its constants, by name.

    In a graph with grids each value is moved to the nearest point of its grid as soon as it is
    computed (fake quantisation), and products are those of floats. For use under `jax.jit`.

    Args:
      graph: see `Graph`.
      *inputs: an array for each of `graph.inputs`.
    """
    values: dict[str, jax.Array] = {}
    constants = {name: jnp.asarray(array) for name, array in graph.constants.items()}
    for name, array in zip(graph.inputs, inputs, strict=True):
        values[name] = rounded(jnp.asarray(array), graph.grids.get(name))
    for node in graph.nodes:
        given = [values[name] if name in values else constants[name] for name in node.inputs]
        shape = graph.values[node.output].shape
        output = compute(node, given, shape)
        values[node.output] = rounded(output, graph.grids.get(node.output))
    return values


def outputs(graph: Graph, *inputs: Any) -> Any:
    """Returns the results as the network does: an array, a stack of them, or a tuple of leaves."""
    values = evaluate(graph, *inputs)
    found = tuple(values[name] for name in graph.outputs)
    if graph.structure == "stacked":
        return jnp.stack(found)
    return found[0] if graph.structure == "single" else found


def rounded(value: jax.Array, grid: Grid | None) -> jax.Array:
    """Returns the nearest points of a grid, half to even; the value itself without a grid."""
    if grid is None:
        return value
    codes = jnp.clip(jnp.round(value / grid.scale) + grid.zero, grid.lowest, grid.highest)
    return (codes - grid.zero) * jnp.float32(grid.scale)


def compute(node: Node, given: list[jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """Returns the output of one node.

    Args:
      node: see `OPERATIONS`.
      given: its inputs.
      shape: of its output.
    """
    options, operation = node.attributes, node.operation
    if operation in _OF_ENTRIES:
        return _bounded(_OF_ENTRIES[operation](*_of_one_rank(given)), options)
    match operation:
        case "matmul":
            return given[0] @ given[1]
        case "conv":
            return _bounded(_conv(given[0], given[1], given[2], options), options)
        case "dense":
            product, bias = _of_one_rank([given[0] @ given[1], given[2]])
            return _bounded(product + bias, options)
        case "max_pool":
            return _windows(given[0], -jnp.inf, lax.max, options)
        case "average_pool":
            return _windows(given[0], 0.0, lax.add, options) / np.prod(options["window"])
        case "mean" | "sum" | "reduce_max":
            reduce: Any = {"mean": jnp.mean, "sum": jnp.sum, "reduce_max": jnp.max}[operation]
            return reduce(given[0], axis=options["axes"], keepdims=options["keepdims"])
        case "softmax":
            return jax.nn.softmax(given[0], axis=options["axis"])
        case "cast":
            return given[0].astype(options["dtype"])
        case "reshape":
            return given[0].reshape(shape)
        case "broadcast":
            return jnp.broadcast_to(given[0], shape)
        case "transpose":
            return given[0].transpose(options["permutation"])
        case "concat":
            return jnp.concatenate(given, options["axis"])
        case "pad":
            return jnp.pad(given[0], options["pads"], constant_values=options["value"])
        case "slice":
            return lax.slice(given[0], options["begin"], options["end"], options["strides"])
        case "channel_shuffle":
            grouped = given[0].reshape(*shape[:-1], options["groups"], -1)
            return grouped.swapaxes(-1, -2).reshape(shape)
        case "gather":
            return given[0][given[1]]
    raise ValueError(f"no such operation: {operation}")


_OF_ENTRIES: Mapping[str, Any] = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": jnp.divide,
    "max": jnp.maximum,
    "min": jnp.minimum,
    "pow": jnp.power,
    "clip": lambda x: x,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "exp": jnp.exp,
    "log": jnp.log,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "erf": lax.erf,
    "neg": jnp.negative,
    "abs": jnp.abs,
    "sign": jnp.sign,
    "where": jnp.where,
    "equal": jnp.equal,
    "less": jnp.less,
    "greater": jnp.greater,
}


def _of_one_rank(given: list[jax.Array]) -> list[jax.Array]:
    """Returns the arrays with as many axes as the one that has most, for JAX to broadcast."""
    rank = max(array.ndim for array in given)
    return [array.reshape((1,) * (rank - array.ndim) + array.shape) for array in given]


def _bounded(value: jax.Array, options: Mapping[str, Any]) -> jax.Array:
    low, high = options.get("bounds", FREE)
    return value if (low, high) == FREE else jnp.clip(value, low, high)


def _conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, options: Mapping[str, Any]
) -> jax.Array:
    return bias[None, None, None] + lax.conv_general_dilated(
        x,
        kernel,
        options["strides"],
        options["padding"],
        rhs_dilation=options["dilation"],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=options["groups"],
    )


def _windows(x: jax.Array, start: float, combine: Any, options: Mapping[str, Any]) -> jax.Array:
    window, strides = (1, *options["window"], 1), (1, *options["strides"], 1)
    padding = ((0, 0), *options["padding"], (0, 0))
    return lax.reduce_window(x, start, combine, window, strides, padding)
