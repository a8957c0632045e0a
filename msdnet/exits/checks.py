"""What the functions of this package are given, as arrays of NumPy; or one line that says why not.

Lists, and arrays of JAX and of any type of number, are taken alike.
"""

# N examples, K exits

import numbers as numbers_lib
import operator
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from groundwork.errors import ArgumentError


def numbers(what: str, given: ArrayLike) -> np.ndarray:
    """Returns an array of float64.

    Raises:
      ArgumentError: `given` does not hold real numbers, has rows of different lengths, or is
        traced by JAX.

    Example:
        >>> from msdnet import exits
        >>> exits.numbers("costs", [1, 2])
        array([1., 2.])
        >>> exits.numbers("costs", ["one", "two"])
        Traceback (most recent call last):
            ...
        groundwork.errors.ArgumentError: costs must be numbers, not <U3
    """
    if isinstance(given, jax.core.Tracer):
        raise ArgumentError(
            f"{what} must be known: it is decided on the host, outside jit and vmap"
        )
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ArgumentError(f"{what} must be numbers: {reason[:200]}") from error
    whole = array.dtype.kind == "O" and all(isinstance(x, numbers_lib.Real) for x in array.flat)
    if (
        array.dtype.kind not in "biuf"
        and not whole
        and not jax.numpy.issubdtype(array.dtype, np.floating)
    ):
        raise ArgumentError(f"{what} must be numbers, not {array.dtype}")
    return array.astype(np.float64, copy=False)


def rows(what: str, given: ArrayLike, exits: int | None = None) -> np.ndarray:
    """Returns confidences [N, K] as float64.

    Raises:
      ArgumentError: they are no numbers, or of another shape, or of another number of exits.
    """
    array = numbers(what, given)
    if array.ndim != 2 or not array.shape[1] or exits not in (None, array.shape[1]):
        expected = "exits" if exits is None else exits
        raise ArgumentError(f"{what} must be [N, {expected}], not an array of {array.shape}")
    return array


def right(given: ArrayLike, exits: int | None = None) -> np.ndarray:
    """Returns which answers are right, [N, K] bool.

    Raises:
      ArgumentError: they are neither bool nor 0 and 1, of another shape, or of no example.
    """
    array = rows("correct", given, exits)
    if not len(array):
        raise ArgumentError("correct has no example")
    if not np.isin(array, (0, 1)).all():
        raise ArgumentError("correct must be bool: whether each answer is right")
    return array.astype(bool)


def costs(given: ArrayLike) -> np.ndarray:
    """Returns the costs of all exits, [K] float64.

    Raises:
      ArgumentError: they are no finite numbers, or of another shape.
    """
    array = numbers("costs", given)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ArgumentError(f"costs={array.tolist()} must be one finite number for each exit")
    return array


def places(given: ArrayLike, examples: int, exits: int) -> np.ndarray:
    """Returns the exits at which examples leave, [N] int.

    Raises:
      ArgumentError: they are no integers in [0, K), or not one for each example.
    """
    array = numbers("exits", given)
    if array.shape != (examples,):
        raise ArgumentError(f"{examples} examples leave at as many exits, not {array.shape}")
    if not np.isin(array, np.arange(exits)).all():
        raise ArgumentError(f"exits must be integers from 0 to {exits - 1}")
    return array.astype(int)


def count(what: str, given: Any) -> int:
    """Returns a number of things, from 1.

    Raises:
      ArgumentError: it is no integer, or less than 1.
    """
    try:
        number = operator.index(given)
    except TypeError:
        number = 0
    if number < 1:
        raise ArgumentError(f"{what}={given!r} must be an integer from 1")
    return number


def thresholds(given: ArrayLike, exits: int) -> np.ndarray:
    """Returns thresholds as [K − 1] float64: float32 might round one of them to a confidence.

    Raises:
      ArgumentError: there is not one threshold fewer than exits, or one of them is NaN.

    Example:
        >>> from msdnet import exits
        >>> exits.check_thresholds([0.9, 0.5], exits=3).tolist()
        [0.9, 0.5]
        >>> exits.check_thresholds([0.9, 0.5], exits=2)
        Traceback (most recent call last):
            ...
        groundwork.errors.ArgumentError: 2 exits need 1 thresholds, not an array of (2,)
    """
    limits = numbers("thresholds", given)
    if limits.shape != (exits - 1,):
        raise ArgumentError(
            f"{exits} exits need {exits - 1} thresholds, not an array of {limits.shape}"
        )
    if np.isnan(limits).any():
        raise ArgumentError(f"thresholds={limits.tolist()} must not be NaN: no confidence is above")
    return limits
