"""A network as a function of its variables, whose jaxpr is walked through. Read `evaluate` first.

Whoever wrote it, in Linen, NNX, Equinox, Haiku or plain functions: a network is a function
(variables, …) → outputs, and its parameters are leaves that have paths.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from groundwork import trees
from groundwork.traced import walk
from groundwork.traced.walk import Mark, Visitor
from groundwork.trees import Variables

KERNELS = ("kernel", "weight", "w")  # what the path of a layer leaves out at its end


class Network(NamedTuple):
    """What stands for a module where only these two of its methods are called."""

    init: Callable[..., Any]
    apply: Callable[..., Any]


def apply_of(model: Any) -> Callable[..., Any]:
    """Returns `model.apply` if there is one, and otherwise the model itself, a function."""
    return getattr(model, "apply", model)


def params_of(variables: Variables) -> Any:
    """Returns the parameters among variables: those at `params`, or the whole tree."""
    return variables["params"] if has_collections(variables) else variables


def with_params(variables: Variables, params: Any) -> Any:
    """Returns the variables with other parameters."""
    return {**variables, "params": params} if has_collections(variables) else params


def layer_path(path: str) -> str:
    """Returns the path of the layer that has a kernel: `fc1` for `fc1/kernel`.

    A parameter of any other name than a kernel's usual ones is a layer of its own.
    """
    above, _, last = path.rpartition("/")
    return above if last in KERNELS else path


def evaluate(
    visitor: Visitor,
    model: Any,
    variables: Variables,
    stored: Mapping[str, Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Returns the outputs of a network, computed with whatever the visitor puts into it.

    Args:
      visitor: its marks have the paths of parameters in `params_of(variables)`.
      model: see `apply_of`.
      variables: any pytree. Leaves that are no arrays, such as functions, are left as they are.
      stored: path of a parameter → what the visitor is given in its place; the variables then have
        the parameter's shape there.
      args: what else the network is called with.
      kwargs: likewise.

    Raises:
      ValueError: something that is stored in another form is used otherwise than in a product.
    """
    leaves, structure = jax.tree.flatten(variables)
    places = [
        i for i, leaf in enumerate(leaves) if hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    ]
    marks = dict(zip(_indices(variables), trees.flatten(params_of(variables)), strict=True))

    def apply(arrays: list[Any]) -> Any:
        whole = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            whole[place] = array
        return apply_of(model)(jax.tree.unflatten(structure, whole), *args, **kwargs)

    closed, outputs = jax.make_jaxpr(apply, return_shape=True)([shape(leaves[i]) for i in places])
    paths = [marks.get(place) for place in places]
    values = [
        leaves[i] if path is None else stored.get(path, leaves[i])
        for i, path in zip(places, paths, strict=True)
    ]
    marked = [None if path is None else Mark(path) for path in paths]
    flat = walk.evaluate(visitor, closed, values, marked)
    return jax.tree.unflatten(jax.tree.structure(outputs), flat)


def abstractly(function: Callable[..., Any], *trees: Any) -> Any:
    """Returns `jax.eval_shape(function, *trees)`; not all leaves need be arrays or shapes."""
    return jax.eval_shape(*of_arrays(function, *trees))


def of_arrays(
    function: Callable[..., Any], *trees: Any
) -> tuple[Callable[..., Any], dict[int, Any]]:
    """Returns a function of arrays alone, and these arrays: `call(arrays)` = `function(*trees)`.

    All that is no array or shape among the leaves of the trees stays as it is.
    """
    leaves, structure = jax.tree.flatten(trees)
    arrays = {i: leaf for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype")}

    def call(arrays: dict[int, Any]) -> Any:
        return function(
            *jax.tree.unflatten(structure, [arrays.get(i, x) for i, x in enumerate(leaves)])
        )

    return call, arrays


def has_collections(variables: Any) -> bool:
    """Returns whether variables are Linen's: `params`, and whatever else stands beside it."""
    return isinstance(variables, Mapping) and "params" in variables


def _indices(variables: Variables) -> list[int]:
    """Returns the places of the parameters among the leaves of the variables."""
    numbers = iter(range(len(jax.tree.leaves(variables))))
    return jax.tree.leaves(params_of(jax.tree.map(lambda _: next(numbers), variables)))


def shape_like(leaf: Any, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """Returns a shape that has an array's dtype, and varies over devices as the array does."""
    return shape_of(jax.typeof(leaf), shape)


def shape_of(kind: Any, shape: tuple[int, ...] | None = None) -> jax.ShapeDtypeStruct:
    """Returns an abstract value as a shape, or another shape that is like it otherwise."""
    shape = kind.shape if shape is None else shape
    mesh = kind.sharding.mesh
    spec = kind.sharding.spec if shape == kind.shape else jax.P(*(None,) * len(shape))
    sharding = None if mesh.empty else jax.NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(
        shape,
        kind.dtype,
        sharding=sharding,
        weak_type=kind.weak_type,
        manual_axis_type=kind.manual_axis_type,
    )


def shape(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape of an array, or a shape as it is."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return shape_like(leaf, jnp.shape(leaf))
