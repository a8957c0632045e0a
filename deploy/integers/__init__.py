"""Integer-only inference: what a network of 8-bit integers computes, without an engine.

Source: Jacob et al. 2018 (arXiv:1712.05877). Values are int8 codes on the graph's grids, products
are added in int32, a fixed-point factor (int32 mantissa and shift) brings a sum to its grid, and
functions of one value are tables of 256 codes. Floats are there at the ends alone: inputs are
rounded to their grid, outputs are codes times a scale. Only numpy is needed.

It is a reference: engines' outputs are held beside it. It differs from the paper in this: codes
are int8, kernels are symmetric and have a scale for each output channel, as LiteRT wants them.
"""

from typing import Any, Literal

import numpy as np

from deploy.graphs.graph import Graph, Grid, Unsupported
from deploy.integers import fixed
from deploy.integers.call import Call, Operand
from deploy.integers.indices import of_indices
from deploy.integers.operations import computed

Rounding = Literal["once", "twice"]


def run(graph: Graph, *inputs: Any, rounding: Rounding = "once") -> Any:
    """Returns the outputs of a network that computes with integers alone.

    Args:
      graph: with grids; one without them gets `deploy.grids.quantized(graph, inputs)`: its
        ranges are those of these very inputs, which flatters it. That, and nothing else, needs JAX.
      *inputs: an array for each of the graph's inputs, of exactly its shape.
      rounding: of a sum that is brought to its grid: `once`, to the nearest code, as LiteRT's
        default kernels do; or `twice`, as gemmlowp and LiteRT's reference kernels do, which then
        agree with this bit for bit.

    Returns:
      float32 logits [B, …], points of their grid; a tuple of arrays, or a stack of them, where the
      network returned one.

    Raises:
      ValueError: shapes differ from the graph's; an operation has no integers (`Unsupported`); a
        sum could leave an int32.

    Example:
        >>> import deploy
        >>> inputs = np.float32([[0.0, 1.004, 2.55]])  # 256 steps of 0.01
        >>> graph = deploy.graph(lambda kernel, x: x @ kernel, jnp.eye(3), inputs)
        >>> deploy.integers.run(graph, inputs).astype(float).round(3).tolist()
        [[0.0, 1.0, 2.55]]
    """
    if not graph.grids:
        graph = _calibrated(graph, inputs)
    found = codes(graph, *inputs, rounding=rounding)
    outputs = tuple(
        fixed.dequantized(found[name], graph.grids[name]) if name in graph.grids else found[name]
        for name in graph.outputs
    )
    if graph.structure == "stacked":
        return np.stack(outputs)
    return outputs[0] if graph.structure == "single" else outputs


def codes(graph: Graph, *inputs: Any, rounding: Rounding = "once") -> dict[str, np.ndarray]:
    """Returns every value of the graph but its constants, by name.

    Args:
      graph: with grids.
      *inputs: see `run`.
      rounding: see `run`.

    Returns:
      int8 codes where a value has a grid; other values (indices, conditions) as they are.

    Raises:
      ValueError: see `run`.

    Example:
        >>> import deploy
        >>> from deploy import grids
        >>> inputs = np.float32([[0.0, 1.004, 2.55]])  # 256 steps of 0.01; the lowest one is −128
        >>> graph = deploy.graph(lambda kernel, x: x @ kernel, jnp.eye(3), inputs)
        >>> deploy.integers.codes(grids.quantized(graph, inputs), inputs)["logits"].tolist()
        [[-128, -28, 127]]
    """
    if not graph.grids:
        raise ValueError("the graph has no grids: deploy.grids.quantized makes a graph with them")
    shapes = [graph.values[name].shape for name in graph.inputs]
    if [np.shape(array) for array in inputs] != shapes:
        given = [np.shape(array) for array in inputs]
        raise ValueError(f"the graph takes inputs of shapes {shapes}, not {given}")
    if rounding not in ("once", "twice"):
        raise ValueError(f"rounding={rounding!r} must be once or twice")
    values: dict[str, np.ndarray] = {}
    for name, array in zip(graph.inputs, inputs, strict=True):
        grid = graph.grids.get(name)
        values[name] = fixed.quantized(array, grid) if grid else np.asarray(array)
    for node in graph.nodes:
        grid, shape = graph.grids.get(node.output), graph.values[node.output].shape
        read = node.inputs[:1] if node.operation in ("conv", "dense") else node.inputs
        operands = [_operand(graph, values, name, grid, node.operation) for name in read]
        call = Call(graph, node, operands, shape, grid or Grid(1.0, 0), rounding == "twice")
        if grid:
            values[node.output] = computed(call)
            continue
        if any(operand.grid for operand in operands):
            raise Unsupported("integer-only inference", node, "its operands have a grid")
        given = [operand.codes for operand in operands]
        values[node.output] = of_indices(node, given, graph.values[node.output])
    return values


def _operand(
    graph: Graph, values: dict[str, np.ndarray], name: str, result: Grid | None, operation: str
) -> Operand:
    """A value's codes; a constant's on a grid of its own, or on the result's where it is moved."""
    if name in values:
        return Operand(values[name], graph.grids.get(name))
    array = graph.constants[name]
    if array.dtype != np.float32:
        return Operand(array, None)
    grid = constant_grid(operation, array, result)
    return Operand(fixed.quantized(array, grid), grid)


def constant_grid(operation: str, array: np.ndarray, result: Grid | None) -> Grid:
    """Returns the grid of a constant operand, on which engines that compute with integers keep it.

    Products and sums have a factor for each operand, so that it has its own grid; for operations
    that choose or move entries it is rounded to the grid of the result at once.

    Example:
        >>> import deploy
        >>> from deploy.graphs.graph import Grid
        >>> constant, result = np.float32([-127.0, 3.0]), Grid(scale=0.5, zero=0)
        >>> for operation in ("add", "max"):
        ...     print(operation, deploy.integers.constant_grid(operation, constant, result))
        add Grid(scale=1.0, zero=0, bits=8)
        max Grid(scale=0.5, zero=0, bits=8)
    """
    own = operation in ("add", "sub", "mul", "matmul") or result is None
    return fixed.of_constant(array) if own or result is None else result


def _calibrated(graph: Graph, inputs: tuple[Any, ...]) -> Graph:
    from deploy import grids

    return grids.quantized(graph, tuple(np.asarray(array) for array in inputs))


__all__ = ["codes", "constant_grid", "fixed", "run"]
