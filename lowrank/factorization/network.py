"""A network with some of its layers factorised. Read `factorize` first."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from groundwork import keys
from groundwork.traced import override as traced
from groundwork.traced.override import Layer, LayerError
from groundwork.trees import Params, Variables
from lowrank.factorization import layers
from lowrank.factorization.methods import METHODS, STALLED, Decomposed
from lowrank.factorization.plan import Plan, at, checked, parameters, replaced
from lowrank.factorization.reach import collect


def factorize(
    model: nn.Module,
    variables: Variables,
    plan: Plan,
    inputs: jax.Array | None = None,
    key: jax.Array | None = None,
    **kwargs: Any,
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Puts low-rank layers in place of a network's own, without rewriting the module.

    Args:
      model: any Linen module; its `Dense` and two-dimensional `Conv` layers can be reached.
      variables: `params` and other collections, which stay, of one network (no replicate axis).
      plan: path of a layer → a method of `methods.METHODS` and a rank: an integer, or for `tucker`
        two ([inputs, outputs]). Layers that it does not name stay as they are.
      inputs: [B, …] examples; for `svd_outputs`, which looks at what its layer is given.
      key: for `cp`, which starts at random; a fixed one by default.
      **kwargs: are passed on to `model.apply` together with `inputs`.

    Returns:
      `(apply, variables)`: `apply(variables, inputs, **kwargs)` works as `model.apply` does, and in
      the variables each layer of the plan has `{"STAGE": {"kernel": …}, …}` in place of its kernel.
      Use both together. As for any network, jit, vmap, sharding, training, saving and pruning work.
      Outside jit it warns of iterations that stopped early; `decompose` returns that, with errors.

    Raises:
      ValueError: a path, method or rank does not exist, a kernel is not finite, inputs are needed
        and missing, or `svd_outputs` is asked of a layer that is called more than once. `apply`
        raises it for a layer that is not a `Dense` or two-dimensional `Conv`, or that has groups.
    """
    seen = collect(model, variables, plan, inputs, **kwargs)
    changed, results = decompose(variables, plan, seen, key)
    for path, result in results.items():
        if not isinstance(result.converged, jax.core.Tracer) and not result.converged:
            warnings.warn(f"layer {path!r}: {STALLED}", stacklevel=2)
    return override(model, plan), changed


def override(model: Any, plan: Plan) -> Callable[..., Any]:
    """Returns `model.apply` for variables that `decompose` has changed by this plan."""
    return traced.override(model, overrides(plan))


def overrides(plan: Plan) -> dict[str, traced.Override]:
    """Returns what computes each layer of a plan, for `groundwork.traced.override`."""
    return {path: _computed_by(entry) for path, entry in plan.items()}


def decompose(
    variables: Variables,
    plan: Plan,
    inputs: Mapping[str, jax.Array] | None = None,
    key: jax.Array | None = None,
) -> tuple[dict[str, Any], dict[str, Decomposed]]:
    """Returns the variables of `factorize`, and what the factors of each layer are worth.

    Args:
      variables: of one network.
      plan: see `factorize`.
      inputs: path → [rows, N], of the layers that `svd_outputs` decomposes; see `collect`.
      key: see `factorize`.

    Raises:
      ValueError: as `factorize`.
    """
    key = jax.random.key(0) if key is None else key
    changed, results = {**variables}, {}
    for path, entry in plan.items():
        params = parameters(variables, path)
        method, rank = checked(path, entry, params["kernel"])
        given = (inputs or {}).get(path)
        if method.needs_inputs and given is None:
            raise LayerError(f"layer {path!r}: {entry['method']} needs inputs to look at")
        try:
            factors, results[path] = layers.factors(
                method, params, rank, keys.stream(key, path), given
            )
        except ValueError as error:
            raise LayerError(f"layer {path!r}: {error}") from error
        changed = replaced(changed, path, factors)
    return changed, results


def reconstruct(variables: Variables, path: str, entry: Mapping[str, Any]) -> jax.Array:
    """Returns the kernel that a layer's factors make up.

    Args:
      variables: that `decompose` has changed.
      path: of the layer.
      entry: of the plan.
    """
    params = at(variables, path)
    kind = "Dense" if "left" in params else "Conv"
    return layers.reconstruct(METHODS[kind][entry["method"]], params)


def with_kernel(variables: Variables, path: str, kernel: Any) -> dict[str, Any]:
    """Returns the variables with another kernel in the layer at `path`."""
    return replaced(variables, path, {**at(variables, path), "kernel": kernel})


def _computed_by(entry: Mapping[str, Any]) -> traced.Override:
    """Returns what computes a layer that was factorised by this entry."""

    def compute(layer: Layer, params: Params, inputs: jax.Array) -> jax.Array:
        if layer.groups != 1:
            raise LayerError(f"layer {layer.path!r} has {layer.groups} groups: it is left alone")
        return layers.compute(METHODS[layer.kind][entry["method"]], layer, params, inputs)

    return compute
