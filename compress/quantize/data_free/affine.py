"""What the steps of a chain do to a channel: y → a y + b. Read `composite` first."""

# C output channels

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress.quantize.data_free.chains import Chain, Step, leaf_of, used_once
from compress.quantize.data_free.flat import Flat, constant
from groundwork import trees
from groundwork.trees import Variables
from pruning.structured import program


def composite(flat: Flat, chain: Chain, leaves: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the steps of a chain do: y → a y + b of each channel, float64 [C] both."""
    factor, offset = np.ones(chain.channels), np.zeros(chain.channels)
    for step in chain.steps:
        value = vector(flat, chain, step, leaves)
        if step.name in ("mul", "div"):
            value = 1 / value if step.name == "div" else value
            factor, offset = factor * value, offset * value
        else:
            offset = offset - value if step.name == "sub" else offset + value
    return factor, offset


def vector(flat: Flat, chain: Chain, step: Step, leaves: Mapping[str, Any]) -> np.ndarray:
    """Returns the operand of a step for each channel, float64 [C]."""
    array = np.asarray(constant(flat, step.operand, leaves), np.float64)
    along = [slice(None) if n == step.axis else 0 for n in range(array.ndim)]
    return np.broadcast_to(array[tuple(along)], (chain.channels,))


def added(flat: Flat, chain: Chain) -> dict[int, str]:
    """Returns step → path of the variable [C] that it adds or subtracts.

    Those that other equations use, too, are left out.
    """
    found = {}
    for number, step in enumerate(chain.steps):
        if step.name in ("mul", "div"):
            continue
        path = leaf_of(flat, step.operand)
        if path and flat.sizes[path] == chain.channels and used_once(flat, path):
            found[number] = path
    return found


def slope(flat: Flat, chain: Chain, leaves: Mapping[str, Any], path: str) -> np.ndarray:
    """Returns by how much the end of a chain grows with a variable that a step adds, [C]."""
    ends = [
        composite(flat, chain, {**leaves, path: np.full_like(leaves[path], value)})[1]
        for value in (0.0, 1.0)
    ]
    return ends[1] - ends[0]


def leaves_of(variables: Variables) -> dict[str, np.ndarray]:
    """Returns path → array on the host; random keys and what is no array are left as they are."""
    return {path: _on_host(leaf) for path, leaf in trees.flatten(variables).items()}


def _on_host(leaf: Any) -> Any:
    is_key = jnp.issubdtype(getattr(leaf, "dtype", None) or object, jax.dtypes.prng_key)
    return leaf if is_key or not program.is_array(leaf) else np.asarray(leaf)
