"""Does a network have these arrays? From shapes alone; nothing is computed."""

import flax.linen as nn

from compress.archive import forms
from compress.archive.forms import Leaves
from compress.form import Form
from groundwork.errors import UserError

SIDES = (32, 28, 8, 16, 64, 12, 20, 24, 40, 48, 56, 96, 128, 160, 192, 224)  # of images, tried
_LISTED = 3


def example(form: Form, leaves: Leaves, given: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Shape of one example for which the network has these arrays.

    Args:
      form: of the network, its module any Linen module. Its paths are those of `headers`.
      leaves: all of its variables, those of `networks.ACTIVATIONS` included.
      given: the shape. None: images of several sizes, or vectors, are tried.

    Returns:
      The shape; None where none is given and those that were tried cannot tell: the module takes
      none of them, or a matrix behind convolutions differs, as of images of another size.

    Raises:
      UserError: the network has other arrays, or not the layers that its form names.
    """
    forms.check_ties(form, leaves)
    found = _example(form, forms.without_grids(form, leaves), given)
    if found is not None and form.activations:
        forms.check_reached(form, found)
    return found


def _example(form: Form, leaves: Leaves, given: tuple[int, ...] | None) -> tuple[int, ...] | None:
    model = form.model
    if given is not None:
        _check(model, forms.arrays(forms.shapes(model, given), form), leaves)
        return given
    nearest: Leaves | None = None
    refused: UserError | None = None
    for shapes in _candidates(leaves):
        for shape in shapes:
            try:
                own = forms.shapes(model, shape)
            except UserError:
                continue
            try:
                found = forms.arrays(own, form)
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
            f"{name} {forms.said(leaves.get(name))}, not {forms.said(found.get(name))}"
            for name in differing[:_LISTED]
        ]
        more = f", and {len(differing) - _LISTED} more" if len(differing) > _LISTED else ""
        raise UserError(f"not the arrays of {type(model).__name__}: {'; '.join(said)}{more}")
