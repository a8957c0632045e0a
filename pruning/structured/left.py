"""Which entries of arrays are left once units are removed, the same for all replicates or not."""

# n entries of an axis, R replicates

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from pruning.structured.axes import Axes, Axis
from pruning.structured.forest import Forest


@dataclasses.dataclass(kw_only=True)
class Left:
    """What is left of a network's arrays.

    Attributes:
      forest: of all ids.
      removed: of each replicate, the ids of the units that are missing; without any, nothing is.
    """

    forest: Forest
    removed: Sequence[np.ndarray] = ()

    def kept(self, axis: Axis, replicate: int = 0) -> np.ndarray:
        """Returns of each entry [n] whether it is there."""
        if not self.removed:
            return np.ones(len(axis), bool)
        gone = self.forest.roots(self.removed[replicate])
        return ~np.isin(self.forest.roots(axis["id"]), gone)

    def alike(self, computed: Callable[[int], Any]) -> Any:
        """Returns what is computed of a replicate's entries, if it is the same for all.

        Raises:
          ValueError: replicates differ, so that no one program serves all of them.
        """
        first = computed(0)
        for replicate in range(1, len(self.removed)):
            if computed(replicate) != first:
                raise ValueError(
                    "replicates keep units of one group at places that the network treats "
                    "differently: let all keep the same ones"
                )
        return first

    def size(self, axes: Axes) -> tuple[int, ...]:
        """Returns the shape of an array without the units that are removed."""
        return self.alike(lambda r: tuple(int(self.kept(axis, r).sum()) for axis in axes))

    def whole(self, axes: Axes) -> bool:
        """Returns whether nothing of an array is missing, in the first replicate."""
        return all(self.kept(axis).all() for axis in axes)

    def cut(self, value: Any, axes: Axes) -> Any:
        """Returns a constant without the units that are removed."""
        for n, axis in enumerate(axes):
            places = self.alike(functools.partial(self._places, axis))
            if len(places) < len(axis):
                value = jnp.take(value, np.array(places, np.int32), axis=n)
        return value

    def _places(self, axis: Axis, replicate: int) -> list[int]:
        return np.flatnonzero(self.kept(axis, replicate)).tolist()
