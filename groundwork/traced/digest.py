"""A digest of what a function computes, by which a changed program is known."""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

NAME = re.compile(r"\bname=\S+")  # of a function that is compiled by itself
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")  # of a Python object, which differs between processes


def digest(function: Callable[..., Any], *args: Any) -> str:
    """Returns a SHA-256 of a function's jaxpr, of its constants and of the shape of its results.

    It is the same in every process. Another release of JAX may write another jaxpr. What a callback
    computes is not known.

    Args:
      function: anything that JAX traces; nothing is computed.
      *args: trees of arrays or shapes.
    """
    closed, results = jax.make_jaxpr(function, return_shape=True)(*args)
    text = NAME.sub("", ADDRESS.sub("0x", str(closed.jaxpr)))
    total = hashlib.sha256(f"{text}\n{jax.tree.structure(results)}".encode())
    for constant in _constants(closed):
        if hasattr(constant, "dtype") and jax.dtypes.issubdtype(
            constant.dtype, jax.dtypes.prng_key
        ):
            constant = jax.random.key_data(constant)
        total.update(np.asarray(constant).tobytes())
    return total.hexdigest()


def _constants(value: Any) -> Iterator[Any]:
    """Yields the constants of a jaxpr, and of all that it calls, in their order."""
    if hasattr(value, "eqns"):
        yield from getattr(value, "consts", ())
        for equation in value.eqns:
            for parameter in equation.params.values():
                yield from _constants(parameter)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _constants(item)
