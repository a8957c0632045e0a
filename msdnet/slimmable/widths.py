"""Which units a width has: the first ones of each group."""

# U units of a group

import itertools
import math
from collections.abc import Sequence

import numpy as np

from pruning.structured import Graph, Keep


def check(widths: Sequence[float]) -> tuple[float, ...]:
    """Returns widths as a tuple of floats.

    Raises:
      ValueError: they are no shares in (0, 1] that grow and end with 1.

    Example:
        >>> from msdnet import slimmable
        >>> slimmable.check([0.5, 1])
        (0.5, 1.0)
        >>> slimmable.check([1, 0.5])
        Traceback (most recent call last):
            ...
        ValueError: widths=(1, 0.5) must grow: (0.5, 1)
    """
    given = tuple(widths) if isinstance(widths, Sequence) else ()
    numbers = [w for w in given if isinstance(w, int | float) and not isinstance(w, bool)]
    if not given or len(numbers) < len(given) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"widths={widths!r} must be numbers in (0, 1], such as (0.5, 1.0)")
    if outside := [w for w in given if not 0 < w <= 1]:
        raise ValueError(f"widths={given}: {outside[0]} must be in (0, 1]: 1 is the whole network")
    if repeated := [w for w, after in itertools.pairwise(given) if w == after]:
        raise ValueError(f"widths={given}: {repeated[0]} must stand there once")
    if list(given) != sorted(given):
        raise ValueError(f"widths={given} must grow: {tuple(sorted(given))}")
    if given[-1] != 1:
        raise ValueError(f"widths={given} must end with 1.0: no width would train the rest")
    return tuple(float(width) for width in given)


def keeps(graph: Graph, widths: Sequence[float]) -> tuple[Keep, ...]:
    """Returns what each width keeps: the first round(width × U) units of each group.

    Args:
      graph: of the whole network; see `pruning.structured.groups`.
      widths: see `check`.

    Raises:
      ValueError: a group would keep none of its units.

    Example:
        >>> from msdnet import slimmable
        >>> from pruning import structured
        >>> network = lambda variables, x: jax.nn.relu(x @ variables["first"]) @ variables["last"]
        >>> variables = {"first": jnp.ones((2, 4)), "last": jnp.ones((4, 1))}
        >>> graph = structured.groups(network, variables, jnp.ones((1, 2)))
        >>> for keep in slimmable.keeps(graph, (0.5, 1.0)):
        ...     print([units.astype(int).tolist() for units in keep.values()])
        [[1, 1, 0, 0]]
        [[1, 1, 1, 1]]
    """
    return tuple(_kept(graph, width) for width in check(widths))


def _kept(graph: Graph, width: float) -> dict[str, np.ndarray]:
    counts = {group.name: round(width * group.units) for group in graph.groups}
    for group in graph.groups:
        if not counts[group.name]:
            raise ValueError(
                f"width {width} leaves none of the {group.units} units of {group.name}: give a "
                "larger width, or a network with more units"
            )
    return {group.name: np.arange(group.units) < counts[group.name] for group in graph.groups}
