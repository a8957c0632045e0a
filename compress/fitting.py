"""Does a network have these arrays? From shapes alone; nothing is computed."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

import architectures
from experiment.errors import UserError
from lowrank import factorization

SIDES = (32, 28, 8, 16, 64, 12, 20, 24, 40, 48, 56, 96, 128, 160, 192, 224)  # of images, tried
_LISTED = 3


class Leaf(NamedTuple):
    """What is compared of an array."""

    shape: tuple[int, ...]
    is_float: bool


Leaves = dict[str, Leaf]  # by path, "params/fc1/kernel"


def example(
    model: nn.Module, leaves: Leaves, plan: factorization.Plan, given: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """Shape of one example for which the network has these arrays.

    Args:
      model: any Linen module.
      leaves: all of its variables.
      plan: of its low-rank layers, or empty.
      given: the shape. None: images of several sizes, or vectors, are tried.

    Returns:
      The shape; None where none is given and those that were tried cannot tell: the module takes
      none of them, or a matrix behind convolutions differs, as of images of another size.

    Raises:
      UserError: the network has other arrays.
    """
    if given is not None:
        _check(model, _planned(_shapes(model, given), plan), leaves)
        return given
    nearest: Leaves | None = None
    refused: UserError | None = None
    for shapes in _candidates(leaves):
        for shape in shapes:
            try:
                own = _shapes(model, shape)
            except UserError:
                continue
            try:
                found = _planned(own, plan)
            except UserError as error:
                refused = refused or error
                continue
            if not _differing(found, leaves):
                return shape
            if nearest is None or len(_differing(found, leaves)) < len(_differing(nearest, leaves)):
                nearest = found
            if not _by_size(found, leaves):
                break  # they differ at every size
    if nearest is not None and not _by_size(nearest, leaves):
        _check(model, nearest, leaves)
    if nearest is None and refused is not None:
        raise refused
    return None


def _shapes(model: nn.Module, shape: tuple[int, ...]) -> Any:
    try:
        return architectures.shapes(model, shape)
    except UserError:
        raise
    except Exception as error:  # whatever a module raises that does not take them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{type(model).__name__} takes no examples of {shape}: {reason}") from error


def _planned(shapes: Any, plan: factorization.Plan) -> dict[str, Leaf]:
    """The arrays of a network, some layers factorised.

    Raises:
      UserError: the plan does not fit it.
    """
    for path, entry in plan.items():
        shapes = factorization.planned(shapes, path, entry)
    return {
        jax.tree_util.keystr(keys, simple=True, separator="/"): Leaf(
            tuple(leaf.shape), jnp.issubdtype(leaf.dtype, jnp.floating)
        )
        for keys, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }


def _candidates(leaves: Leaves) -> list[list[tuple[int, ...]]]:
    """Shapes to try: images of all sizes, a list for each number of channels; or vectors."""
    kernels = [leaf.shape for name, leaf in leaves.items() if name.split("/")[-1] == "kernel"]
    if channels := sorted({shape[-2] for shape in kernels if len(shape) > 3})[:2]:
        return [[(side, side, count) for side in SIDES] for count in channels]
    return [[(size,)] for size in dict.fromkeys(shape[-2] for shape in kernels if len(shape) > 1)]


def _by_size(found: Leaves, leaves: Leaves) -> bool:
    """May these differ because images have another size? Then matrices alone do."""
    if not any(len(leaf.shape) > 2 for leaf in leaves.values()):
        return False
    both = [(found.get(name), leaves.get(name)) for name in _differing(found, leaves)]
    return all(a and b and len(a.shape) == len(b.shape) == 2 for a, b in both)


def _differing(found: Leaves, leaves: Leaves) -> list[str]:
    return sorted(name for name in found | leaves if found.get(name) != leaves.get(name))


def _check(model: nn.Module, found: Leaves, leaves: Leaves) -> None:
    if differing := _differing(found, leaves):
        said = [
            f"{name} {_said(leaves.get(name))}, not {_said(found.get(name))}"
            for name in differing[:_LISTED]
        ]
        more = f", and {len(differing) - _LISTED} more" if len(differing) > _LISTED else ""
        raise UserError(f"not the arrays of {type(model).__name__}: {'; '.join(said)}{more}")


def _said(leaf: Leaf | None) -> str:
    if leaf is None:
        return "none"
    return f"{'floats' if leaf.is_float else 'integers'} {leaf.shape}"
