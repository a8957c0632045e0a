"""What a rule of integer-only inference reads: a node, its operands, and where its result lies."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from deploy.graphs.graph import FREE, Graph, Grid, Node
from deploy.integers import fixed


class Operand(NamedTuple):
    """An array of codes with their grid; without one, integers or truth values as they are."""

    codes: np.ndarray
    grid: Grid | None

    @property
    def centred(self) -> np.ndarray:
        """Returns int64 codes less the grid's zero."""
        return self.codes.astype(np.int64) - (self.grid.zero if self.grid else 0)

    @property
    def scale(self) -> float:
        """Returns the grid's scale."""
        return float(np.float32(self.grid.scale)) if self.grid else 1.0


class Call(NamedTuple):
    """What a rule reads: a node, its operands, and where its result lies."""

    graph: Graph
    node: Node
    given: list[Operand]
    shape: tuple[int, ...]
    grid: Grid
    twice: bool  # see `fixed.scaled`

    def scaled(self, value: np.ndarray, real: float | np.ndarray) -> np.ndarray:
        """Returns integers times a real factor, rounded."""
        return fixed.scaled(value, fixed.factor(real), self.twice)

    def rescaled(self, value: np.ndarray, real: float | np.ndarray) -> np.ndarray:
        """Returns the codes of integers times a real factor of the result's scale."""
        out = float(np.float32(self.grid.scale))
        codes = fixed.saturated(self.scaled(value, real / out) + self.grid.zero, self.grid)
        bounds = self.node.attributes.get("bounds", FREE)
        return fixed.within(codes, bounds, self.grid)

    def moved(self, operand: Operand) -> np.ndarray:
        """Returns an operand's codes on the result's grid."""
        return fixed.moved(operand.codes, operand.grid or self.grid, self.grid, self.twice)


Rule = Callable[[Call], np.ndarray]
