"""Which layers of a network can be decomposed, and what they are given."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from groundwork.errors import unknown
from groundwork.traced import override
from groundwork.traced.override import LayerError, Reached
from groundwork.trees import Variables
from lowrank.factorization import layers
from lowrank.factorization.plan import Plan, checked, parameters


def decomposable(
    model: nn.Module, variables: Variables, shape: tuple[int, ...], leave: Sequence[str] = ()
) -> tuple[dict[str, Reached], dict[str, str]]:
    """Returns the layers that can be decomposed, in the order of their calls, and the others.

    Args:
      model: any Linen module.
      variables: arrays or shapes; nothing is computed.
      shape: of an example.
      leave: patterns (fnmatch) of paths that are left alone.

    Returns:
      `(layers, refused)`: layers by path; and path → the reason, of the others that have weights.

    Raises:
      LayerError: no layer matches a pattern.
    """
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    reached, refused = override.layers(model, variables, example)
    for pattern in leave:
        if not any(fnmatchcase(path, pattern) for path in reached):
            raise LayerError(str(unknown("layer", pattern, reached)))
    for path, one in reached.items():
        if any(fnmatchcase(path, pattern) for pattern in leave):
            refused[path] = "leave names it"
        elif one.layer.groups != 1:
            refused[path] = f"it has {one.layer.groups} groups"
    return {path: one for path, one in reached.items() if path not in refused}, refused


def collect(
    model: nn.Module, variables: Variables, plan: Plan, inputs: jax.Array | None, **kwargs: Any
) -> dict[str, jax.Array]:
    """Returns what those layers are given that a plan decomposes by their outputs, as `rows`.

    It is empty where there are no such layers, or no inputs.
    """
    paths = tuple(
        path
        for path, entry in plan.items()
        if checked(path, entry, parameters(variables, path)["kernel"])[0].needs_inputs
    )
    return rows(model, variables, paths, inputs, **kwargs) if paths and inputs is not None else {}


def rows(
    model: nn.Module, variables: Variables, paths: tuple[str, ...], inputs: jax.Array, **kwargs: Any
) -> dict[str, jax.Array]:
    """Returns what some layers are given when the network sees `inputs`, as `layers.rows` does.

    Returns:
      Path → [rows, N].

    Raises:
      LayerError: a layer cannot be reached, is called more than once, or stands in a scan or vmap.
    """
    reached, refused = override.layers(model, variables, inputs, **kwargs)
    for path in paths:
        if path not in reached:
            reason = refused[f"{path}/kernel".lstrip("/")]
            raise LayerError(f"layer {path!r} cannot be computed in another way: {reason}")
        if len(reached[path].inputs) > 1:
            raise LayerError(
                f"layer {path!r} is shared, by {len(reached[path].inputs)} calls: decompose it by "
                "its weights alone, as svd does"
            )
    seen = override.inputs_of(model, variables, inputs, paths, **kwargs)
    for path in paths:
        if not seen[path]:
            raise LayerError(
                f"layer {path!r}: what it is given stays within a scan or vmap: decompose it by "
                "its weights alone, as svd does"
            )
    return {
        path: layers.rows(reached[path].layer, reached[path].kernel, x)
        for path, (x,) in seen.items()
    }
