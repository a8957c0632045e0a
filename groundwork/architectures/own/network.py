"""The network that a config names by `package.module:name`. Read `build` first."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from groundwork import named, trees
from groundwork.architectures.own import functions, linen
from groundwork.errors import UserError, reason
from groundwork.trees import Shapes

CLASSES = ("classes", "num_classes")  # parameters of a constructor that are filled in


@dataclasses.dataclass(frozen=True)
class Own:
    """A user's own network. Two of the same name and arguments are equal.

    Attributes:
      name: `package.module:name`.
      arguments: what it was built with, as nested tuples.
      section: the config's `model`.
      init: key, example inputs → variables.
      apply: variables, inputs, train=False, mutable=False, rngs=None → outputs; with `mutable`,
        also the collections that have changed.
    """

    name: str
    arguments: Any
    section: Mapping[str, Any] = dataclasses.field(compare=False)
    init: Callable[..., Any] = dataclasses.field(compare=False, repr=False)
    apply: Callable[..., Any] = dataclasses.field(compare=False, repr=False)


def build(name: str, kwargs: Mapping[str, Any], call: Mapping[str, Any], classes: int) -> Own:
    """Returns the network that a config names.

    The name is that of a Linen or NNX module class, of a function that returns a module, of a
    Linen module, or of a pair `(init, apply)`: a tuple, an object with these two attributes, or a
    function that returns either. A class or function is called with `kwargs`; with the number of
    classes if it has a parameter `classes` or `num_classes` that they do not give; and, if it has a
    parameter `rngs`, with NNX's random keys, which makes it an NNX module.

    Args:
      name: `package.module:name`.
      kwargs: the config's `model.kwargs`; lists are given as tuples.
      call: the config's `model.call`; see `calls.found`.
      classes: of the data; 0 if the targets are none.

    Raises:
      UserError: there is no such network, or its constructor refuses the arguments.
    """
    found = named.load("model.name", name)
    given = {**kwargs, **_classes(found, kwargs, classes)}
    arguments = trees.hashable((named.as_tuples(given), named.as_tuples(call)))
    section = {"name": name, "width": 1.0, "dtype": "float32", "kwargs": kwargs, "call": call}
    return _built(_Found(name, found, given, call, section), (name, id(found), arguments))


def of(model: Any, call: Mapping[str, Any] | None = None) -> Own:
    """Returns any network as the training loop and distillation call it, with `init` and `apply`.

    Args:
      model: a Linen module; an object with `init` and `apply`; or a function (parameters, inputs) →
        outputs, such as one of an NNX state or of an Equinox module, whose variables are then
        `{"params": parameters}`.
      call: keywords of the network's call, `{"train": {…}, "eval": {…}}`, where its signature does
        not tell them; see `calls.found`.

    Raises:
      ValueError: it is none of these; and, from `init`, that a function cannot make parameters.
    """
    how = dict(call or {})
    if isinstance(model, nn.Module):
        pair = linen.functions(model, how)
    elif callable(getattr(model, "init", None)) and callable(getattr(model, "apply", None)):
        pair = functions.functions(model.init, model.apply, how)
    elif callable(model) and not inspect.isclass(model):
        pair = functions.functions(_no_init, model, how)
    else:
        raise ValueError(f"a network is a Linen module, a function or a pair, not {model!r}")
    return Own(type(model).__name__, id(model), {"call": how}, *pair)


def _no_init(key: jax.Array, *args: Any, **kwargs: Any) -> Any:
    raise ValueError(
        "this network is a function of its parameters, and makes none: give a pair (init, apply), "
        "where init(key, inputs) returns them"
    )


@dataclasses.dataclass(frozen=True)
class _Found:
    """What the config names, and its arguments; never compared, since `key` stands for it."""

    name: str
    value: Any
    kwargs: Mapping[str, Any]
    call: Mapping[str, Any]
    section: Mapping[str, Any]

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Found) and self.value is other.value


@functools.lru_cache(maxsize=64)
def _built(found: _Found, key: Any) -> Own:
    """Returns the network; the same one for the same key, so that it is compiled once."""
    init, apply = _functions(found)
    return Own(found.name, key[2], found.section, init, apply)


def shapes(network: Own, example: Any) -> Shapes:
    """Returns shapes and dtypes of the variables; the network is also traced in both its modes.

    Args:
      network: of the user.
      example: inputs of one example, as shapes.

    Raises:
      UserError: the network refuses the example, or has no parameters.
    """
    shown = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", example)
    refusal = f"model.name={network.name} cannot take inputs of {shown}".replace("'", "")
    key = jax.random.key(0)
    try:
        variables = jax.eval_shape(network.init, key, example)
        jax.eval_shape(network.apply, variables, example)
        jax.eval_shape(in_training(network), variables, example, key)
    except (Exception, SystemExit) as error:  # a user's network may raise anything
        raise UserError(
            f"{refusal}: {reason(error)}{named.place(error)}{_hint(network, error)}"
        ) from error
    if not trees.count(variables.get("params", {})):
        raise UserError(f"model.name={network.name} has no parameters")
    return variables


def _hint(network: Own, error: BaseException) -> str:
    """Returns what may help against an error of a user's network."""
    if "unbound axis name" in str(error):
        return " (the axis_name of its BatchNorm must be 'data' or None)"
    if isinstance(error, TypeError) and not network.section["call"]:
        return " (model.call says how it is called)"
    return ""


def in_training(network: Own) -> Callable[..., Any]:
    """Returns (variables, inputs, key) → outputs and changed collections, each with an axis of one.

    That axis is called `data`, as the mesh's is, over which BatchNorm may average.
    """

    def apply(variables: trees.Variables, inputs: Any, key: jax.Array) -> Any:
        learning: Any = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
        once = jax.vmap(lambda _: network.apply(variables, inputs, **learning), axis_name="data")
        return once(jnp.zeros(1))

    return apply


def _classes(found: Any, kwargs: Mapping[str, Any], classes: int) -> dict[str, int]:
    """Returns the argument for the number of classes, if the constructor has one to fill in."""
    names = [name for name in CLASSES if name in named.parameters(found)]
    return {names[0]: classes} if classes and names and not set(CLASSES) & set(kwargs) else {}


def _functions(found: _Found) -> tuple[Callable[..., Any], Callable[..., Any]]:
    value, name = found.value, found.name
    if inspect.isclass(value) or (callable(value) and not hasattr(value, "apply")):
        if "rngs" in named.parameters(value):
            return _nnx(found)
        value = named.call("model.kwargs", value, found.kwargs)
    elif found.kwargs:
        raise UserError(f"model.kwargs: {name} is made already, and takes no arguments")
    if isinstance(value, nn.Module):
        return linen.functions(value, found.call)
    if isinstance(value, tuple) and len(value) == 2 and all(map(callable, value)):
        return functions.functions(*value, found.call)
    if callable(getattr(value, "init", None)) and callable(getattr(value, "apply", None)):
        return functions.functions(value.init, value.apply, found.call)
    raise UserError(
        f"model.name={name} is no Linen or NNX module, nor a pair (init, apply): {type(value)}"
    )


def _nnx(found: _Found) -> tuple[Callable[..., Any], Callable[..., Any]]:
    from flax import nnx as flax_nnx

    from groundwork.architectures.own import nnx

    def make(rngs: Any) -> flax_nnx.Module:
        module = named.call("model.kwargs", found.value, found.kwargs, rngs=rngs)
        if not isinstance(module, flax_nnx.Module):
            raise UserError(f"model.name={found.name} has rngs, but makes a {type(module)}")
        return module

    return nnx.functions(make, found.call)
