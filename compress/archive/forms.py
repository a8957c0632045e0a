"""What a form asks of a network and its arrays, from shapes alone. Read `arrays` first."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from compress import form as form_lib
from compress import share
from compress.archive.headers import shown
from compress.form import Form
from groundwork import architectures
from groundwork.errors import UserError, unknown
from groundwork.traced import override
from lowrank import factorization


class Leaf(NamedTuple):
    """What is compared of an array."""

    shape: tuple[int, ...]
    is_float: bool


Leaves = dict[str, Leaf]  # by path, "params/fc1/kernel"


def arrays(shapes: Any, form: Form) -> Leaves:
    """The arrays of a network, some layers tied, then some factorised; without `grids`.

    Args:
      shapes: of all variables of the form's module.
      form: of the network; `headers` has checked its groups.

    Raises:
      UserError: the form does not fit the network.
    """
    if form.groups:
        shapes = {**shapes, "params": _tied(shapes["params"], form.groups)}
    for path, entry in form.plan.items():
        shapes = factorization.planned(shapes, path, entry)
    return {
        jax.tree_util.keystr(keys, simple=True, separator="/"): Leaf(
            tuple(leaf.shape), jnp.issubdtype(leaf.dtype, jnp.floating)
        )
        for keys, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }


def shapes(model: nn.Module, shape: tuple[int, ...]) -> Any:
    """As `architectures.shapes`, of any module.

    Raises:
      UserError: it takes no examples of this shape.
    """
    try:
        return architectures.shapes(model, shape)
    except UserError:
        raise
    except Exception as error:  # whatever a module raises that does not take them
        raise _no_examples(model, shape, error) from error


def check_ties(form: Form, leaves: Leaves) -> None:
    """Refuse groups that the arrays alone contradict.

    Raises:
      UserError: the first of a group is not stored, another one is, or a single leaf of a
        factorised layer is tied.
    """
    stored: set[str] = set()
    for name in leaves:
        collection, *parts = name.split("/")
        if collection == "params":
            stored |= {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}
    for first, *others in form.groups:
        if first not in stored:
            raise UserError(f"nothing is stored at {shown(first)}, to which others are tied")
        for path in others:
            if path in stored:
                raise UserError(
                    f"{shown(path)} is stored, and tied to {shown(first)}: tie the tree first"
                )
        for path in (first, *others):
            above, _, leaf = path.rpartition("/")
            if above in form.plan:
                raise UserError(
                    f"layer {shown(above)} is factorised: its {shown(leaf)} cannot be tied alone"
                )


def without_grids(form: Form, leaves: Leaves) -> Leaves:
    """The other arrays.

    Raises:
      UserError: one of `grids` is lacking, or of another shape.
    """
    own = dict(leaves)
    for name, leaf in grids(form).items():
        if (found := own.pop(name, None)) != leaf:
            raise UserError(f"grid of inputs {shown(name)}: {said(found)}, not {said(leaf)}")
    return own


def check_reached(form: Form, shape: tuple[int, ...]) -> None:
    """Refuse layers whose inputs cannot be rounded.

    Args:
      form: of the network.
      shape: of one example.

    Raises:
      UserError: there is no such layer, or `surgery` cannot reach it.
    """
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        met, missed = override.layers(form.model, shapes(form.model, shape), inputs)
    except Exception as error:  # whatever a module raises
        raise _no_examples(form.model, shape, error) from error
    for path in form.activations:
        for name, reason in missed.items():
            if name.rpartition("/")[0] == path:
                raise UserError(f"the inputs of layer {shown(path)} cannot be rounded: {reason}")
        if path not in met:
            raise unknown("layer", path[:80], met)


def grids(form: Form) -> Leaves:
    """The arrays that say the grids of inputs."""
    kinds = (Leaf((), True), Leaf((), False))
    return {
        f"{form_lib.ACTIVATIONS}/{name}": leaf
        for path in form.activations
        for name, leaf in zip(form_lib.grid_paths(path), kinds, strict=True)
    }


def check_grids(form: Form, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse grids that round nothing as they should.

    Args:
      form: of the network.
      arrays: `grids` among them, of the shapes that are said there.

    Raises:
      UserError: a scale that is no normal float32 above 0, or a zero point outside the integers.
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
                f"{zero_point}, is no int32 of 0…{2**bits - 1}"
            )


def said(leaf: Leaf | None) -> str:
    """A leaf as errors say it."""
    if leaf is None:
        return "none"
    return f"{'floats' if leaf.is_float else 'integers'} {leaf.shape}"


def _tied(params: Any, groups: share.Groups) -> Any:
    known: set[str] = set()
    for name in flatten_dict(params):
        known |= {"/".join(name[:length]) for length in range(1, len(name) + 1)}
    for path in (path for group in groups for path in group):
        if path not in known:
            raise unknown("layer or leaf", path[:80], known)
    try:
        return share.tie(params, groups)
    except ValueError as error:
        raise UserError(str(error)) from error


def _no_examples(model: nn.Module, shape: tuple[int, ...], error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{type(model).__name__} takes no examples of {shape}: {reason}")
