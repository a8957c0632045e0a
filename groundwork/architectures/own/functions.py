"""A user's pair of functions, such as Haiku's, as `init` and `apply`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from groundwork import named, trees
from groundwork.architectures.own import calls

KEYS = ("rng", "key")  # the names of a parameter that takes a random key


def functions(
    init: Callable[..., Any], apply: Callable[..., Any], call: Mapping[str, Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns both functions as `train.step.Model` describes them.

    Args:
      init: (key, inputs) → parameters. If the first parameter of `apply` is called `variables`, it
        gives variables, which have `params` and may have other collections.
      apply: (parameters, inputs) → outputs; if its second parameter is called `rng` or `key`, it is
        (parameters, key, inputs) → outputs. A keyword `rng`, `key` or `rngs` is given in training.
        With a keyword `mutable` it also returns the changed collections, as Linen's does.
      call: see `calls.found`.
    """
    how, names = calls.found(apply, call), list(named.parameters(apply))
    keyed = len(names) > 1 and names[1] in KEYS
    whole = names[:1] == ["variables"]

    def made(key: jax.Array, inputs: Any) -> dict[str, Any]:
        args, kwargs = how.arguments(inputs, train=False)
        kwargs = {name: value for name, value in kwargs.items() if _takes(init, name)}
        variables = init(key, *args, **kwargs)
        return dict(variables) if whole else {"params": variables}

    def applied(
        variables: trees.Variables,
        inputs: Any,
        train: bool = False,
        mutable: Any = False,
        rngs: Mapping[str, jax.Array] | None = None,
    ) -> Any:
        args, kwargs = how.arguments(inputs, train)
        key = rngs["dropout"] if rngs and "dropout" in rngs else None
        if keyed:
            args = (jax.random.key(0) if key is None else key, *args)
        elif key is not None:
            kwargs |= {name: key for name in KEYS if name in names}
            kwargs |= {"rngs": {"dropout": key}} if "rngs" in names else {}
        first = variables if whole else variables["params"]
        if mutable is not False and "mutable" in names:
            return apply(first, *args, **kwargs, mutable=[n for n in variables if n != "params"])
        outputs = apply(first, *args, **kwargs)
        return outputs if mutable is False else (outputs, {})

    return made, applied


def _takes(function: Callable[..., Any], name: str) -> bool:
    found = named.parameters(function)
    return name in found or any(p.kind == inspect.Parameter.VAR_KEYWORD for p in found.values())
