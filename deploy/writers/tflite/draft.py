"""A graph on its way into a file: which tensor holds which value, as floats or on which grid."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deploy.graphs.graph import FREE, Graph, Grid, Node
from deploy.integers import constant_grid, fixed
from deploy.writers.tflite.file import File, Tensor
from deploy.writers.tflite.versions import version

ACTIVATIONS = {FREE: 0, (0.0, float("inf")): 1, (-1.0, 1.0): 2, (0.0, 6.0): 3}
"""Bounds → the number of the activation that an operator can bring; others are operators."""


Kind = str | Grid | None
Options = tuple[str, Mapping[str, Any]]


class Draft:
    """What rules read and add to."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.file = File()
        self.tensors: dict[tuple[str, Grid | None], Tensor] = {}
        self.rounded: list[str] = []  # kernels whose codes are not those that are stored

    def grid(self, name: str) -> Grid | None:
        """Returns where a value lies; None for floats, and for indices and conditions."""
        return self.graph.grids.get(name)

    def value(self, name: str) -> Tensor:
        """Returns the tensor of a value on its own grid."""
        return self.tensors[name, self.grid(name)]

    def on(self, name: str, grid: Grid | None) -> Tensor:
        """Returns the tensor of a value on a grid, or as floats; a constant's, too."""
        if name in self.graph.constants:
            array = self.graph.constants[name]
            if grid is None or array.dtype != np.float32:
                return self.file.constant(name, array)
            return self.file.constant(name, fixed.quantized(array, grid), grid)
        if self.grid(name) is None:
            return self.value(name)
        if (name, grid) not in self.tensors:
            self.tensors[name, grid] = self.moved(self.value(name), grid, name)
        return self.tensors[name, grid]

    def operand(self, node: Node, name: str) -> Tensor:
        """Returns an operand that has a factor of its own: a constant's grid is its own."""
        if name not in self.graph.constants:
            return self.value(name)
        array = self.graph.constants[name]
        if self.grid(node.output) is None or array.dtype != np.float32:
            return self.on(name, None)
        return self.on(name, constant_grid(node.operation, array, self.grid(node.output)))

    def ints(self, numbers: Any) -> Tensor:
        """Returns a constant of int32."""
        return self.file.constant("numbers", np.asarray(numbers, np.int32))

    def add(
        self,
        code: str,
        inputs: Sequence[Tensor],
        name: str,
        shape: Sequence[int],
        kind: Kind,
        options: Options | None = None,
    ) -> Tensor:
        """Adds an operator and returns its result.

        Args:
          code: the operator's name in the schema.
          inputs: its tensors.
          name: of the result.
          shape: of the result.
          kind: its grid, or a dtype; None for float32.
          options: see `File.operator`.
        """
        grid = kind if isinstance(kind, Grid) else None
        dtype = "int8" if grid else str(kind or "float32")
        output = self.file.tensor(name, shape, dtype, grid)
        fields = {} if options is None else options[1]
        self.file.operator(code, inputs, output, version(code, inputs, output, fields), options)
        return output

    def moved(self, tensor: Tensor, grid: Grid | None, name: str) -> Tensor:
        """Returns the values of a tensor on another grid, or as floats."""
        if tensor.grid == grid:
            return tensor
        if grid is None:
            options: Options = ("DequantizeOptions", {})
            return self.add("DEQUANTIZE", [tensor], name, tensor.shape, None, options)
        return self.add("QUANTIZE", [tensor], name, tensor.shape, grid, ("QuantizeOptions", {}))

    def bounded(self, tensor: Tensor, bounds: tuple[float, float], name: str) -> Tensor:
        """Returns a tensor within bounds, by operators for those that its grid does not keep."""
        if tensor.grid is not None:
            low, high = fixed.code_bounds(bounds, tensor.grid)
            wanted = [("MAXIMUM", low, low > fixed.LOWEST), ("MINIMUM", high, high < fixed.HIGHEST)]
            limits: list[tuple[str, Any]] = [
                (code, np.int8(limit)) for code, limit, needed in wanted if needed
            ]
        else:
            given = zip(("MAXIMUM", "MINIMUM"), bounds, strict=True)
            limits = [
                (code, np.asarray(bound, tensor.dtype))
                for code, bound in given
                if np.isfinite(bound)
            ]
        for code, limit in limits:
            other = self.file.constant("bound", limit, tensor.grid)
            options: Options = ("MaximumMinimumOptions", {})
            kind = tensor.grid or tensor.dtype
            tensor = self.add(code, [tensor, other], name, tensor.shape, kind, options)
        return tensor

    def fused(self, bounds: tuple[float, float], grid: Grid | None) -> tuple[int, Any]:
        """Returns the activation that an operator brings, and the bounds that remain to be kept."""
        if grid is not None and fixed.code_bounds(bounds, grid) == (fixed.LOWEST, fixed.HIGHEST):
            return 0, FREE
        if bounds in ACTIVATIONS:
            return ACTIVATIONS[bounds], FREE
        return 0, bounds
