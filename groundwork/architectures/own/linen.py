"""A user's Linen module as `init` and `apply`."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.core.scope import union_filters

from groundwork import keys, trees
from groundwork.architectures.own import calls


def functions(
    module: nn.Module, call: Mapping[str, Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns `init` and `apply` of a module, as `train.step.Model` describes them.

    All collections but `params` may change in training. Random numbers of every name are drawn.

    Args:
      module: of the user.
      call: see `calls.found`.
    """
    how = calls.found(type(module).__call__, call)

    def init(key: jax.Array, inputs: Any) -> dict[str, Any]:
        args, kwargs = how.arguments(inputs, train=False)
        streams = {"params": key, "dropout": keys.stream(key, "dropout")}
        variables = nn.meta.unbox(module.init(streams, *args, **kwargs))
        return {name: tree for name, tree in variables.items() if trees.count(tree)}

    def apply(
        variables: trees.Variables,
        inputs: Any,
        train: bool = False,
        mutable: Any = False,
        rngs: Mapping[str, jax.Array] | None = None,
    ) -> Any:
        args, kwargs = how.arguments(inputs, train)
        if mutable is not False:
            mutable = union_filters(mutable, [name for name in variables if name != "params"])
        streams = dict(rngs or {})
        # Linen draws from `params` whatever has no key of its own; in evaluation always the same.
        others = streams.get("dropout", jax.random.key(0))
        streams["params"] = keys.stream(others, "others")
        return module.apply(variables, *args, **kwargs, mutable=mutable, rngs=streams)

    return init, apply
