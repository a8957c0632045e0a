"""How the network of a file computes: one function for each value of `compress.load`'s `compute`.

A function takes the path, the model and `like` of `compress.load`, and returns (apply, variables).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import jax

from groundwork import named
from groundwork.errors import UserError, unknown
from groundwork.traced import predictions

DENSE = "dense"
# `deploy` stands above this package. It is imported where a caller asks for integers, by name.
INTEGERS = "deploy.predictions:of_file"
LOAD = "compress.archive.files:load"  # which imports this module, so it is found by name


def loaded(compute: str, path: str | Path, model: Any, like: Any) -> tuple[Callable[..., Any], Any]:
    """Returns what `compress.load` does for a `compute` other than `dense`.

    Raises:
      UserError: there is no such way to compute, or the file is not for it.
    """
    if compute not in WAYS:
        raise unknown("compute", compute, [DENSE, *WAYS])
    return WAYS[compute](path, model, like)


def _sparse(path: str | Path, model: Any, like: Any) -> tuple[Callable[..., Any], Any]:
    """Returns (apply, variables), without the zeros of kernels where that is faster."""
    apply, variables = named.load("compute", LOAD)(path, model, like)
    own, tree = jax.tree.flatten(variables)
    fast = predictions.compiled(apply, jax.tree.unflatten(tree, own), sparse=True)

    def computed(given: Any, *inputs: Any, **settings: Any) -> Any:
        leaves, structure = jax.tree.leaves(given), cast(Any, jax.tree.structure(given))
        if structure != tree or any(a is not b for a, b in zip(leaves, own, strict=True)):
            raise UserError(
                "a network that was loaded with compute='sparse' is computed for the zeros of its "
                "own variables: give it those that load returned, not changed or traced ones"
            )
        return fast(*inputs, **settings)

    return computed, variables


def _integers(path: str | Path, model: Any, like: Any) -> tuple[Callable[..., Any], Any]:
    """Returns (apply, variables), in integers."""
    made: tuple[Callable[..., Any], Any] = named.load("compute", INTEGERS)(path, model, like)
    return made


Way = Callable[[str | Path, Any, Any], tuple[Callable[..., Any], Any]]
WAYS: Mapping[str, Way] = MappingProxyType({"int8": _integers, "sparse": _sparse})
