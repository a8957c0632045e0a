"""A user's NNX module as `init` and `apply`: pure functions of its variables."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from groundwork import trees
from groundwork.architectures.own import calls

COLLECTIONS: dict[str, Any] = {"params": nnx.Param, "batch_stats": nnx.BatchStat, "state": ...}
NOISE = "noise"  # random keys and their counters, which are no variables here


def functions(
    make: Callable[[nnx.Rngs], nnx.Module], call: Mapping[str, Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns `init` and `apply` of a module, as `train.step.Model` describes them.

    `apply` calls the module's `train()` or `eval()` first. The variables are nested dictionaries:
    `params`, `batch_stats` and, for variables of all other kinds, `state`. Random numbers are drawn
    anew in each step of training.

    Args:
      make: random keys → the module.
      call: see `calls.found`.
    """
    graph, shapes = _split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    structures = {name: jax.tree.structure(state) for name, state in shapes.items()}
    paths = {name: list(trees.flatten(state)) for name, state in shapes.items()}
    merged = nnx.merge(graph, *shapes.values())
    how = calls.found(type(merged).__call__, call)

    def init(key: jax.Array, inputs: Any) -> dict[str, Any]:
        del inputs  # the constructor is told all sizes
        return _variables(_split(make(nnx.Rngs(key)))[1])

    def apply(
        variables: trees.Variables,
        inputs: Any,
        train: bool = False,
        mutable: Any = False,
        rngs: Mapping[str, jax.Array] | None = None,
    ) -> Any:
        key = rngs["dropout"] if rngs and "dropout" in rngs else jax.random.key(0)
        flat = {name: flatten_dict(variables.get(name, {}), sep="/") for name in COLLECTIONS}
        flat[NOISE] = _noise(shapes[NOISE], key)
        states = [
            jax.tree.unflatten(structures[name], [flat[name][path] for path in paths[name]])
            for name in shapes
        ]
        module = nnx.merge(graph, *states)
        if train:
            module.train()
        else:
            module.eval()
        args, kwargs = how.arguments(inputs, train)
        if "rngs" in how.names:
            kwargs["rngs"] = nnx.Rngs(jax.random.fold_in(key, len(flat[NOISE])))
        outputs = module(*args, **kwargs)
        if mutable is False:
            return outputs
        after = {name: trees.flatten(state) for name, state in _split(module)[1].items()}
        changed = {
            name: unflatten_dict({path: after[name][path] for path in paths[name]}, sep="/")
            for name in ("batch_stats", "state")
            if paths[name]
        }
        return outputs, changed

    return init, apply


def _split(module: nnx.Module) -> tuple[Any, dict[str, Any]]:
    """Returns the graph of a module, and its states by collection."""
    kinds = {NOISE: nnx.RngState, **COLLECTIONS}
    graph, *states = nnx.split(module, *kinds.values())
    return graph, dict(zip(kinds, states, strict=True))


def _variables(states: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: trees.flatten(states[name]) for name in COLLECTIONS}
    return {name: unflatten_dict(leaves, sep="/") for name, leaves in flat.items() if leaves}


def _noise(shapes: Any, key: jax.Array) -> dict[str, jax.Array]:
    """Returns path → keys that are drawn from one, and counters of 0."""
    noise = {}
    for number, (path, leaf) in enumerate(trees.flatten(shapes).items()):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            drawn = jax.random.fold_in(key, number)
            noise[path] = jax.random.split(drawn, leaf.shape) if leaf.shape else drawn
        else:
            noise[path] = jnp.zeros(leaf.shape, leaf.dtype)
    return noise
