"""A digest of what a function computes, by which a changed program is known."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

ADDRESS = re.compile(r"0x[0-9a-f]{6,}")  # of a Python object, which differs between processes


def digest(function: Callable[..., Any], *args: Any) -> str:
    """Returns a SHA-256 of a function's jaxpr, of its constants and of the shape of its results.

    It is the same in every process. Another release of JAX may write another jaxpr.

    Args:
      function: anything that JAX traces; nothing is computed.
      *args: trees of arrays or shapes.
    """
    closed, results = jax.make_jaxpr(function, return_shape=True)(*args)
    text = ADDRESS.sub("0x", str(closed.jaxpr))
    total = hashlib.sha256(f"{text}\n{jax.tree.structure(results)}".encode())
    for constant in closed.consts:
        if hasattr(constant, "dtype") and jax.dtypes.issubdtype(
            constant.dtype, jax.dtypes.prng_key
        ):
            constant = jax.random.key_data(constant)
        total.update(np.asarray(constant).tobytes())
    return total.hexdigest()
