"""Whether a factorised network computes what its factors say: checked once, on an example."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.traced import network
from groundwork.train.replicates import QUICKLY

TOLERANCE = 1e-2  # relative, of the norms of outputs; of two kernels that differ it is near 1
UNCHECKED = (
    "no example: the factorised network was not compared with the original, and its layers are "
    "taken for Flax's Dense and Conv; give example="
)
Called = tuple[Callable[..., Any], Any]  # a network's function, and its variables


def check(
    original: Called, factorised: Called, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Refuses a factorised network that computes something else than the original one.

    Nothing is checked where values are not known, as under jit, or for shapes.

    Args:
      original: the network's own function, and variables with the kernels that the factors make up.
      factorised: the function and variables of the factorised network.
      args: of the example, beside the variables.
      kwargs: likewise.

    Raises:
      ValueError: an output differs by more than `TOLERANCE`, or tenfold that in 16 bits.
    """

    def outputs(variables: Any, changed: Any, args: Any, kwargs: Any) -> Any:
        own = original[0](variables, *args, **kwargs)
        other = factorised[0](changed, *args, **kwargs)
        return _floats(own), _floats(other)

    call, arrays = network.of_arrays(outputs, original[1], factorised[1], args, kwargs)
    if any(isinstance(leaf, jax.core.Tracer | jax.ShapeDtypeStruct) for leaf in arrays.values()):
        return
    options: dict[str, Any] = (
        {"compiler_options": QUICKLY} if jax.default_backend() == "cpu" else {}
    )
    for own, other in zip(*jax.jit(call, **options)(arrays), strict=True):
        short = 10 if own.dtype.itemsize < 4 else 1
        want, got = (np.asarray(leaf, np.float64) for leaf in (own, other))
        finite = np.isfinite(want)
        error = np.linalg.norm((got - want)[finite])
        if not error <= short * TOLERANCE * np.linalg.norm(want[finite]):  # nan is an error, too
            share = error / (np.linalg.norm(want[finite]) or 1)
            raise ValueError(
                "the factorised network computes something else than the original with the same "
                f"kernels: outputs of shape {own.shape} differ by {share:.2g} of their norm"
            )


def _floats(tree: Any) -> list[jax.Array]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
