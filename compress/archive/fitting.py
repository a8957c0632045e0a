"""Checks that a network has the arrays of a file, from shapes alone: nothing is computed."""

from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn

from compress.archive import forms
from compress.archive.forms import Leaves
from compress.form import Form
from groundwork.errors import UserError

SIDES = (32, 28, 8, 16, 64, 12, 20, 24, 40, 48, 56, 96, 128, 160, 192, 224)  # of images, tried
_LISTED = 3  # differing arrays that an error names

Shape = tuple[int, ...]


def example(
    form: Form, leaves: Leaves, given: Any, kwargs: Mapping[str, Any] | None = None
) -> Shape | None:
    """Returns the shape of one example for which the network has these arrays.

    Args:
      form: of the network; its module is any Linen module. Its paths are those of `headers`.
      leaves: all variables of the network, with those of `form.ACTIVATIONS`.
      given: the shape, or what the module is called with. If it is None, images of several sizes,
        or vectors, are tried.
      kwargs: of the module's call.

    Returns:
      The shape. None if what the module is called with is given; or if nothing is, and the shapes
      that were tried cannot tell, because the module takes none of them, or because a matrix behind
      convolutions differs, as it does for images of another size.

    Raises:
      UserError: the network has other arrays, or it lacks layers that its form names.
    """
    forms.check_ties(form, leaves)
    stored = forms.without_grids(form, leaves)
    if given is None:
        shape = _search(form, stored)
    elif not _is_shape(given):
        _check(
            form.model,
            forms.arrays(forms.shapes_for(form.model, given, kwargs or {}), form),
            stored,
        )
        if form.activations:
            raise UserError("inputs are rounded where an example is the shape of one array")
        return None
    else:
        shape = given
        _check(form.model, forms.arrays(forms.shapes(form.model, given), form), stored)
    if shape is not None and form.activations:
        forms.check_reached(form, shape)
    return shape


def _is_shape(given: Any) -> bool:
    return type(given) is tuple and all(isinstance(size, int) for size in given)


def _search(form: Form, leaves: Leaves) -> Shape | None:
    """Returns the first shape for which the network has these arrays.

    Raises:
      UserError: the nearest network of all differs by more than the size of its images; or the form
        fits none of them.
    """
    networks: list[Leaves] = []
    errors: list[UserError] = []
    for shape, outcome in _trials(form, leaves):
        if outcome == leaves:
            return shape
        if isinstance(outcome, UserError):
            errors.append(outcome)
        else:
            networks.append(outcome)
    if networks:
        nearest = min(networks, key=lambda network: len(_differing(network, leaves)))
        if not _by_size(nearest, leaves):
            _check(form.model, nearest, leaves)
    elif errors:
        raise errors[0]
    return None


def _trials(form: Form, leaves: Leaves) -> Iterator[tuple[Shape, Leaves | UserError]]:
    """Yields shapes that the module takes, each with the network's arrays or why there are none.

    Sizes of images are tried until the arrays differ in a way that no other size can mend. Then the
    next number of channels follows.
    """
    for shapes in _candidates(leaves):
        for shape in shapes:
            outcome = _outcome(form, shape)
            if outcome is None:
                continue
            yield shape, outcome
            if not isinstance(outcome, UserError) and not _by_size(outcome, leaves):
                break


def _outcome(form: Form, shape: Shape) -> Leaves | UserError | None:
    """Returns the arrays of the network, or why it has none; None if it takes no such examples."""
    try:
        shapes = forms.shapes(form.model, shape)
    except UserError:
        return None
    try:
        return forms.arrays(shapes, form)
    except UserError as error:
        return error


def _candidates(leaves: Leaves) -> list[list[Shape]]:
    """Returns the shapes to try: images of all sizes for each number of channels, or vectors."""
    kernels = [leaf.shape for name, leaf in leaves.items() if name.split("/")[-1] == "kernel"]
    if channels := sorted({shape[-2] for shape in kernels if len(shape) > 3})[:2]:
        return [[(side, side, count) for side in SIDES] for count in channels]
    return [[(size,)] for size in dict.fromkeys(shape[-2] for shape in kernels if len(shape) > 1)]


def _by_size(network: Leaves, leaves: Leaves) -> bool:
    """Returns whether the size of images may explain the difference: it lies in matrices alone."""
    if not any(len(leaf.shape) > 2 for leaf in leaves.values()):
        return False
    both = [(network.get(name), leaves.get(name)) for name in _differing(network, leaves)]
    return all(a and b and len(a.shape) == len(b.shape) == 2 for a, b in both)


def _differing(network: Leaves, leaves: Leaves) -> list[str]:
    return sorted(name for name in network | leaves if network.get(name) != leaves.get(name))


def _check(model: nn.Module, network: Leaves, leaves: Leaves) -> None:
    if differing := _differing(network, leaves):
        listed = [
            f"{name} {forms.described(leaves.get(name))}, not {forms.described(network.get(name))}"
            for name in differing[:_LISTED]
        ]
        more = f", and {len(differing) - _LISTED} more" if len(differing) > _LISTED else ""
        raise UserError(f"not the arrays of {type(model).__name__}: {'; '.join(listed)}{more}")
