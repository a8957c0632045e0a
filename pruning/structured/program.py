"""A network's calls, and a call as a jaxpr of all arrays in its variables and arguments."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax import nnx

from groundwork import trees
from groundwork.architectures.own import Own, of
from groundwork.traced import network
from groundwork.trees import Variables


def has_modes(model: Any) -> bool:
    """Returns whether it is known how a network is called in training and in evaluation."""
    return isinstance(whole(model), nn.Module | Own)


def whole(model: Any) -> Any:
    """Returns the network that one without some units was made of, or the network itself."""
    while (graph := getattr(model, "graph", None)) is not None:
        model = graph.model
    return model


def own(model: Any) -> Own:
    """Returns a network that `has_modes` as the training loop calls it."""
    if isinstance(model, Own) or whole(model) is model:
        return model if isinstance(model, Own) else of(model)
    called = own(model.graph.model)  # the flags are those of the whole network
    graph = dataclasses.replace(model.graph, model=called)
    narrow = dataclasses.replace(model, graph=graph)
    return dataclasses.replace(called, init=narrow.init, apply=narrow.apply)


def of_nnx(module: nnx.Module) -> Callable[..., Any]:
    """Returns (state, …) → outputs in evaluation; what a state lacks is the module's own."""
    definition, whole = nnx.split(module)

    def apply(state: Any, *args: Any, **kwargs: Any) -> Any:
        fresh = nnx.merge(definition, jax.tree.map(lambda leaf: leaf, whole))  # shares no variable
        nnx.update(fresh, state)
        fresh.eval()
        return fresh(*args, **kwargs)

    return apply


def evaluation(model: Any) -> Callable[..., Any]:
    """Returns (variables, inputs) → outputs in evaluation."""
    if has_modes(model):
        return functools.partial(own(model).apply, train=False)
    return network.apply_of(model)


class Program(NamedTuple):
    """A call that was traced.

    Attributes:
      closed: its jaxpr.
      outputs: a tree of the shapes of what it returns.
      paths: of each argument, the path of the variable that it is, or None.
    """

    closed: Any
    outputs: Any
    paths: tuple[str | None, ...]


def trace(function: Callable[..., Any], variables: Variables, args: Any) -> Program:
    """Returns a call `function(variables, args)` as a jaxpr; nothing is computed.

    Args:
      function: of a network.
      variables: arrays or shapes; other leaves are left as they are.
      args: likewise.
    """
    leaves, structure = jax.tree.flatten((variables, args))
    places = [n for n, leaf in enumerate(leaves) if is_array(leaf)]
    names = list(trees.flatten(variables))

    def call(arrays: Sequence[Any]) -> Any:
        whole = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            whole[place] = array
        return function(*jax.tree.unflatten(structure, whole))

    given = [network.shape(leaves[n]) for n in places]
    closed, outputs = jax.make_jaxpr(call, return_shape=True)(given)
    paths = tuple(names[n] if n < len(names) else None for n in places)
    return Program(closed, outputs, paths)


def arrays(tree: Any) -> list[Any]:
    """Returns the leaves of a tree that are arrays or shapes."""
    return [leaf for leaf in jax.tree.leaves(tree) if is_array(leaf)]


def is_array(leaf: Any) -> bool:
    """Returns whether a leaf is an array or a shape."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")
