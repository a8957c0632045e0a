"""Which layers of a network can be decomposed, and what they are given."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp

from groundwork import trees
from groundwork.errors import unknown
from groundwork.traced import network, override, reach
from groundwork.traced.reach import Reached
from groundwork.trees import Variables
from lowrank.factorization import layers
from lowrank.factorization.methods import METHODS
from lowrank.factorization.plan import Plan


def decomposable(
    model: Any,
    variables: Variables,
    example: Any,
    leave: Sequence[str] = (),
    **kwargs: Any,
) -> tuple[dict[str, Reached], dict[str, str]]:
    """Returns the layers that can be decomposed, in the order of their calls, and the others.

    Args:
      model: see `factorize`.
      variables: arrays or shapes; nothing is computed.
      example: see `factorize`; arrays or shapes.
      leave: patterns (fnmatch) of paths that are left alone.
      **kwargs: see `factorize`.

    Returns:
      `(layers, refused)`: layers by path; and path → the reason, of the others that have weights.

    Raises:
      ValueError: no layer matches a pattern.
    """
    reached, missed = reach.layers(model, variables, *arguments(example), **kwargs)
    refused = {network.layer_path(path): reason for path, reason in missed.items()}
    weights = trees.flatten(network.params_of(variables))
    for pattern in leave:
        if not any(fnmatchcase(path, pattern) for path in reached):
            raise ValueError(str(unknown("layer", pattern, reached)))
    for path, one in reached.items():
        if any(fnmatchcase(path, pattern) for pattern in leave):
            refused[path] = "leave names it"
        elif one.layer.groups != 1:
            refused[path] = f"it has {one.layer.groups} groups"
        elif not jnp.issubdtype(dtype := weights[one.parameter].dtype, jnp.floating):
            refused[path] = f"its numbers are of {dtype}"
    return {path: one for path, one in reached.items() if path not in refused}, refused


def arguments(example: Any) -> tuple[Any, ...]:
    """Returns what a network is called with: a tuple of several arguments as it is, or the one."""
    return example if type(example) is tuple else (example,)


def planned(
    model: Any, variables: Variables, paths: Iterable[str], example: Any, **kwargs: Any
) -> dict[str, Reached]:
    """Returns the layers at some paths, as they are reached on an example.

    Raises:
      ValueError: a path is not that of a layer, or the layer cannot be computed in another way.
    """
    try:
        reached, missed = reach.layers(model, variables, *arguments(example), **kwargs)
    except Exception as error:  # a network may raise anything
        reason = " ".join(str(error).partition("-" * 20)[0].split()) or type(error).__name__
        raise ValueError(f"the network cannot be called with the example: {reason}") from error
    refused = {network.layer_path(path): reason for path, reason in missed.items()}
    paths = tuple(paths)
    for path in paths:
        if path not in reached and path in refused:
            raise ValueError(override.refusal(path, refused[path]))
        if path not in reached:
            raise ValueError(str(unknown("layer", path, [*reached, *refused])))
    return {path: reached[path] for path in paths}


def collect(
    model: Any,
    variables: Variables,
    plan: Plan,
    layers: Mapping[str, Reached],
    example: Any,
    **kwargs: Any,
) -> dict[str, jax.Array]:
    """Returns what those layers are given that a plan decomposes by their outputs, as `rows`."""
    wanted = {
        path: layers[path]
        for path, entry in plan.items()
        if any(
            methods[entry["method"]].needs_inputs
            for methods in METHODS.values()
            if entry["method"] in methods
        )
    }
    return rows(model, variables, wanted, example, **kwargs) if wanted else {}


def rows(
    model: Any, variables: Variables, layers_: Mapping[str, Reached], example: Any, **kwargs: Any
) -> dict[str, jax.Array]:
    """Returns what some layers are given when the network sees an example, as `layers.rows` does.

    Returns:
      Path → [rows, N].

    Raises:
      ValueError: a layer is called more than once, or stands in a scan or a rematerialised part.
    """
    for path, one in layers_.items():
        alone = "decompose it by its weights alone, as svd does"
        if one.enclosed:
            raise ValueError(
                f"layer {path!r}: what it is given stays within a scan or a rematerialised part: "
                f"{alone}"
            )
        if len(one.inputs) > 1:
            raise ValueError(f"layer {path!r} is shared, by {len(one.inputs)} calls: {alone}")
    seen = reach.inputs_of(model, variables, tuple(layers_), *arguments(example), **kwargs)
    return {
        path: layers.rows(one.layer, one.kernel, seen[path][0]) for path, one in layers_.items()
    }
