"""What a form demands of a network and its arrays, from shapes alone. Read `arrays` first."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from compress import form as form_lib
from compress import share
from compress.archive.headers import above, shown
from compress.form import Form
from groundwork import architectures, trees
from groundwork.architectures.own import Own
from groundwork.errors import UserError, unknown
from groundwork.traced import network, reach
from groundwork.trees import Params, Shapes
from lowrank import factorization


class Leaf(NamedTuple):
    """The properties of an array that are compared."""

    shape: tuple[int, ...]
    is_float: bool


Leaves = dict[str, Leaf]  # by path, "params/fc1/kernel"


def arrays(shapes: Shapes, form: Form) -> Leaves:
    """Returns the arrays of a network, its layers tied and then factorised; without `grids`.

    Args:
      shapes: of all variables of the form's module.
      form: of the network. `headers` has checked its groups.

    Raises:
      UserError: the form does not fit the network.
    """
    if form.groups:
        shapes = {**shapes, "params": _tied(shapes["params"], form.groups)}
    try:
        shapes = factorization.shapes(shapes, form.plan)
    except ValueError as error:
        raise UserError(str(error)) from error
    return {
        path: Leaf(tuple(leaf.shape), jnp.issubdtype(leaf.dtype, jnp.floating))
        for path, leaf in trees.flatten(shapes).items()
    }


def shapes(model: nn.Module, shape: Any) -> Shapes:
    """Returns the shapes of the variables, as `architectures.shapes`, but of any module.

    Raises:
      UserError: the module takes no examples of this shape.
    """
    try:
        return architectures.shapes(model, shape)
    except UserError:
        raise
    except Exception as error:  # a module may raise anything
        raise _no_examples(model, shape, error) from error


def is_module(model: Any) -> bool:
    """Returns whether a model has variables in nested dicts: a Linen module, or one of a config."""
    return isinstance(model, nn.Module | Own)


def shapes_for(model: Any, example: Any, kwargs: Mapping[str, Any]) -> Shapes:
    """Returns the shapes of the variables of any module, by what it is called with.

    Args:
      model: any Linen module.
      example: arrays or shapes; several arguments are a tuple.
      kwargs: of its call.

    Raises:
      UserError: the module cannot be called so.
    """
    args = example if type(example) is tuple else (example,)
    try:
        return network.abstractly(
            lambda args, kwargs: model.init(jax.random.key(0), *args, **kwargs), args, dict(kwargs)
        )
    except Exception as error:  # a module may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{type(model).__name__} cannot be called so: {reason}") from error


def check_ties(form: Form, leaves: Leaves) -> None:
    """Refuses groups that the arrays alone contradict.

    Raises:
      UserError: the first of a group is not stored, another one of it is, or a single leaf of a
        factorised layer is tied.
    """
    stored = _with_parents(
        name.removeprefix("params/") for name in leaves if name.startswith("params/")
    )
    for first, *others in form.groups:
        if first not in stored:
            raise UserError(f"nothing is stored at {shown(first)}, to which others are tied")
        for path in others:
            if path in stored:
                raise UserError(
                    f"{shown(path)} is stored, and tied to {shown(first)}: tie the tree first"
                )
        for path in (first, *others):
            layer, _, leaf = path.rpartition("/")
            if layer in form.plan:
                raise UserError(
                    f"layer {shown(layer)} is factorised: its {shown(leaf)} cannot be tied alone"
                )


def without_grids(form: Form, leaves: Leaves) -> Leaves:
    """Returns all arrays but `grids`.

    Raises:
      UserError: one of the grids is missing, or has another shape.
    """
    others = dict(leaves)
    for name, grid in grids(form).items():
        if (stored := others.pop(name, None)) != grid:
            raise UserError(
                f"grid of inputs {shown(name)}: {described(stored)}, not {described(grid)}"
            )
    return others


def check_reached(form: Form, shape: tuple[int, ...]) -> None:
    """Refuses layers whose inputs cannot be rounded.

    Args:
      form: of the network.
      shape: of one example.

    Raises:
      UserError: there is no such layer, or nothing can take its place.
    """
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        reached, missed = reach.layers(form.model, shapes(form.model, shape), inputs)
    except Exception as error:  # a module may raise anything
        raise _no_examples(form.model, shape, error) from error
    for path in form.activations:
        for name, reason in missed.items():
            if network.layer_path(name) == path:
                raise UserError(f"the inputs of layer {shown(path)} cannot be rounded: {reason}")
        if path not in reached:
            raise unknown("layer", path[:80], reached)


def grids(form: Form) -> Leaves:
    """Returns the arrays that hold the grids of inputs: a scale and a zero point for each layer."""
    kinds = (Leaf((), True), Leaf((), False))
    return {
        f"{form_lib.ACTIVATIONS}/{name}": leaf
        for path in form.activations
        for name, leaf in zip(form_lib.grid_paths(path), kinds, strict=True)
    }


def check_grids(form: Form, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuses grids on which inputs cannot be rounded.

    Args:
      form: of the network.
      arrays: path → array; those of `grids` are among them and have the shapes given there.

    Raises:
      UserError: a scale is not a normal float32 above 0, or a zero point lies outside the integers.
    """
    for path, bits in form.activations.items():
        scale, zero_point = (
            arrays[f"{form_lib.ACTIVATIONS}/{name}"] for name in form_lib.grid_paths(path)
        )
        if scale.dtype != np.float32 or not np.finfo(np.float32).tiny <= scale < np.inf:
            raise UserError(f"layer {shown(path)}: the scale of its inputs is {scale}")
        if zero_point.dtype != np.int32 or not 0 <= zero_point < 2**bits:
            raise UserError(
                f"layer {shown(path)}: the zero point of its inputs, {zero_point.dtype} "
                f"{zero_point}, is not an int32 in 0…{2**bits - 1}"
            )


def described(leaf: Leaf | None) -> str:
    """Returns the text that errors use for a leaf."""
    if leaf is None:
        return "none"
    return f"{'floats' if leaf.is_float else 'integers'} {leaf.shape}"


def _tied(params: Params, groups: share.Groups) -> Params:
    known = _with_parents(trees.flatten(params))
    for path in (path for group in groups for path in group):
        if path not in known:
            raise unknown("layer or leaf", path[:80], known)
    try:
        return share.tie(params, groups)
    except ValueError as error:
        raise UserError(str(error)) from error


def _with_parents(paths: Iterable[str]) -> set[str]:
    """Returns the paths of leaves and of all that they lie within."""
    return {path for leaf in paths for path in (*above(leaf), leaf)}


def _no_examples(model: nn.Module, shape: Any, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{type(model).__name__} takes no examples of {shape}: {reason}")
