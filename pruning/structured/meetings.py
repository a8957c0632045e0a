"""Which axes of a network's parameters are summed over in products."""

from collections.abc import Mapping

import numpy as np

from groundwork.traced.walk import PRODUCTS
from pruning.structured.axes import Axes, Axis
from pruning.structured.rules.products import contracted
from pruning.structured.walk import Step


class Owners:
    """Which variable, and which of its axes, an id was made for."""

    def __init__(self, axes: Mapping[str, list[np.ndarray]]) -> None:
        self._names = [(path, axis) for path, ids in axes.items() for axis in range(len(ids))]
        size = 1 + max((int(ids.max(initial=0)) for of in axes.values() for ids in of), default=0)
        self._of = np.full(size, -1)
        number = 0
        for given in axes.values():
            for ids in given:
                if len(ids) > 1:
                    self._of[ids] = number
                number += 1

    def axis(self, axis: Axis) -> tuple[str, int] | None:
        """Returns the variable and its axis that all entries of an axis were made for."""
        ids = axis["id"]
        if len(ids) < 2 or ids.max() >= len(self._of):
            return None
        numbers = np.unique(self._of[ids])
        return self._names[numbers[0]] if len(numbers) == 1 and numbers[0] >= 0 else None

    def variable(self, axes: Axes) -> str | None:
        """Returns the variable that all axes of an operand were made for, but single entries."""
        names = {self.axis(axis) for axis in axes if len(axis) > 1}
        paths = {name[0] for name in names if name}
        return next(iter(paths)) if len(paths) == 1 and None not in names else None


class Sums:
    """Listens to a walk, and finds the axes of parameters over which products sum.

    Attributes:
      found: path of a parameter → those of its axes.
    """

    def __init__(self, axes: Mapping[str, list[np.ndarray]]) -> None:
        self.found: dict[str, tuple[int, ...]] = {}
        self._owners = Owners(axes)

    def listen(self, step: Step) -> None:
        """Is told of an equation."""
        if pair := _of_step(self._owners, step):
            self.found.update([pair])


def _of_step(owners: Owners, step: Step) -> tuple[str, tuple[int, ...]] | None:
    """Returns the path of a product's parameter, and those of its axes that are summed over."""
    if step.equation.primitive.name not in PRODUCTS:
        return None
    paths = [owners.variable(axes) for axes in step.axes[:2]]
    if (paths[0] is None) == (paths[1] is None):
        return None
    side = 0 if paths[1] is None else 1
    known = [owners.axis(step.axes[side][pair[side]]) for pair in contracted(step.equation)]
    return paths[side] or "", tuple(pair[1] for pair in known if pair)
