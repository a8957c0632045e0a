"""Whether a factorised network computes what its factors say: checked once, on an example."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.traced import network
from groundwork.train.replicates import quickly

TOLERANCE = 1e-2  # relative, of the norms of outputs; of two kernels that differ it is near 1
UNCHECKED = (
    "no example: the factorised network was not compared with the original, and its layers are "
    "taken for Flax's Dense and Conv; give example="
)
SHAPES = "the example is of shapes: the factorised network was not compared with the original"
Called = tuple[Callable[..., Any], Any]  # a network's function, and its variables


def check(
    original: Called, factorised: Called, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bool:
    """Refuses a factorised network that computes something else than the original one.

    Nothing is checked where values are not known, as under jit.

    Args:
      original: the network's own function, and variables with the kernels that the factors make up.
      factorised: the function and variables of the factorised network.
      args: of the example, beside the variables.
      kwargs: likewise.

    Returns:
      Whether there were values, or tracers in their place; not for an example of shapes.

    Raises:
      ValueError: outputs differ by more than `TOLERANCE`, or tenfold that in 16 bits, or have
        another dtype.
    """

    def outputs(variables: Any, changed: Any, args: Any, kwargs: Any) -> Any:
        own = original[0](variables, *args, **kwargs)
        other = factorised[0](changed, *args, **kwargs)
        return _floats(own), _floats(other)

    call, arrays = network.of_arrays(outputs, original[1], factorised[1], args, kwargs)
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in arrays.values()):
        return False
    if any(isinstance(leaf, jax.core.Tracer) for leaf in arrays.values()):
        return True
    both = list(zip(*jax.jit(call, compiler_options=quickly())(arrays), strict=True))
    if other_dtypes := [(a.dtype, b.dtype) for a, b in both if a.dtype != b.dtype]:
        own, other = other_dtypes[0]
        raise ValueError(f"the factorised network gives {other} where the original gives {own}")
    error, size = (
        sum(norm) for norm in zip(*([_norms(*pair) for pair in both] or [(0.0, 0.0)]), strict=True)
    )
    short = 10 if any(own.dtype.itemsize < 4 for own, _ in both) else 1
    share = np.sqrt(error / (size or 1))
    if not share <= short * TOLERANCE:  # nan is an error, too
        raise ValueError(
            "the factorised network computes something else than the original with the same "
            f"kernels: outputs differ by {share:.2g} of their norm"
        )
    return True


def _norms(own: jax.Array, other: jax.Array) -> tuple[float, float]:
    """Returns the squared norms of the difference and of an output, where it is finite."""
    want, got = (np.asarray(leaf, np.float64) for leaf in (own, other))
    finite = np.isfinite(want)
    return float(np.sum((got - want)[finite] ** 2)), float(np.sum(want[finite] ** 2))


def _floats(tree: Any) -> list[jax.Array]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
