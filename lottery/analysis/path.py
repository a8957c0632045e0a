"""The straight path between two networks, and how much error rises on it.

Source: Frankle et al., arXiv:1912.05671, sections 2 and 3.
"""

# P points of the path

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import trees

POINTS = 30


class Instability(NamedTuple):
    """How much error rises between two networks.

    Attributes:
      errors: [P, …] along the path, both ends included, as `error` gives them.
      instability: the worst error minus the mean of the two ends', [] or […]; at least 0. The
        paper calls two networks linearly connected where it is below 0.02.
    """

    errors: np.ndarray
    instability: np.ndarray


def instability(
    error: Callable[[Any], Any], first: Any, second: Any, points: int = POINTS
) -> Instability:
    """Returns the errors along the straight path between two networks, and their instability.

    The points are evenly spaced, and both ends are among them. All leaves lie on the path, the
    statistics of BatchNorm as well, if the trees have them: they are then means of the ends'
    statistics, which are not those of a network between them. An `error` that counts them anew on
    training examples measures the other reading.

    Args:
      error: a tree → its error, [] or an array, such as of several data sets.
      first: parameters, or variables, of one end.
      second: of the other end; it has the same paths and shapes.
      points: their number P, at least 2.

    Raises:
      ValueError: the trees differ in more than their values, have entries that are not finite, or
        others than floats and random keys that differ; there are too few points; or an error is not
        finite.

    Example:
        >>> from lottery import analysis
        >>> error = lambda params: 1 - params["w"] ** 2  # 0 at -1 and at 1, and 1 halfway
        >>> first, second = {"w": jnp.array(-1.0)}, {"w": jnp.array(1.0)}
        >>> found = analysis.instability(error, first, second, points=3)
        >>> found.errors.tolist(), float(found.instability)
        ([0.0, 1.0, 0.0], 1.0)
    """
    if isinstance(points, bool) or not isinstance(points, int | np.integer) or points < 2:
        raise ValueError(f"points={points!r} must be an integer of at least 2: the ends are two")
    check_ends(first, second)
    errors = [
        np.asarray(error(between(first, second, place)), np.float64)
        for place in np.linspace(0, 1, points).tolist()
    ]
    if len({value.shape for value in errors}) > 1:
        raise ValueError("error gives arrays of several shapes: give one shape at all points")
    return of_errors(np.stack(errors))


def of_errors(errors: np.ndarray) -> Instability:
    """Returns the instability of errors [P, …] along a path.

    Raises:
      ValueError: one is not finite.

    Example:
        >>> from lottery import analysis
        >>> found = analysis.of_errors(np.array([0.1, 0.5, 0.2]))  # the ends' mean is 0.15
        >>> round(float(found.instability), 3)
        0.35
    """
    if not np.isfinite(errors).all():
        place = int(np.argwhere(~np.isfinite(errors))[0, 0])
        raise ValueError(f"the error is not finite at point {place} of {len(errors)} on the path")
    return Instability(errors, errors.max(0) - (errors[0] + errors[-1]) / 2)


def between(first: Any, second: Any, place: Any) -> Any:
    """Returns the tree at a place of the path, which is `first` at 0 and `second` at 1.

    What is no float, such as an integer, a random key or a function, is that of `first`. It works
    under jit and vmap.

    Example:
        >>> from lottery import analysis
        >>> first, second = {"w": jnp.array([0.0, 2.0])}, {"w": jnp.array([4.0, 4.0])}
        >>> analysis.between(first, second, 0.25)["w"].tolist()
        [1.0, 2.5]
    """

    def one(start: Any, end: Any) -> Any:
        if not _is_float(start):
            return start
        value = start * (1 - place) + end * place
        return value.astype(start.dtype) if hasattr(start, "dtype") else value

    return jax.tree.map(one, first, second)


def check_ends(first: Any, second: Any) -> None:
    """Refuses trees between which there is no path.

    Raises:
      ValueError: see `instability`.
    """
    one, two = trees.flatten(first), trees.flatten(second)
    if differing := sorted(one.keys() ^ two.keys()):
        raise ValueError(f"the two ends are different trees: only one of them has {differing[0]}")
    for path, leaf in one.items():
        shapes = [np.shape(tree[path]) for tree in (one, two)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{path} has the shape {shapes[0]} at one end, {shapes[1]} at the other"
            )
        if not _is_float(leaf):
            if not _is_key(leaf) and not np.array_equal(leaf, two[path]):
                raise ValueError(
                    f"{path} is no float, and differs: nothing lies between its values. Give both "
                    "ends the same"
                )
        elif not all(bool(jnp.isfinite(tree[path]).all()) for tree in (one, two)):
            raise ValueError(f"{path} has entries that are not finite")


def _is_float(leaf: Any) -> bool:
    """Returns whether a leaf lies on the path: an array of floats, or a Python float."""
    return isinstance(leaf, float | complex) or jnp.issubdtype(
        getattr(leaf, "dtype", np.dtype(object)), jnp.inexact
    )


def _is_key(leaf: Any) -> bool:
    """Returns whether a leaf is an array of random keys, as NNX keeps them in its state."""
    return jnp.issubdtype(getattr(leaf, "dtype", np.dtype(object)), jax.dtypes.prng_key)
