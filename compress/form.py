"""How a compressed network computes. Read `Form` and `apply_of` first.

Low-rank layers, tied layers and inputs of few bits: the module itself knows of none of them.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from compress import quantize, share
from compress.share import Groups
from groundwork import architectures, keys, trees
from groundwork.errors import UserError, unknown
from groundwork.traced import override
from groundwork.trees import Params, Variables
from lowrank import factorization
from lowrank.factorization import Plan

ACTIVATIONS = "activations"  # the collection with scale and zero point of each layer's inputs
NONE: Mapping[str, Any] = MappingProxyType({})


class Form(NamedTuple):
    """A network whose parameters are not those of its module.

    Attributes:
      model: the module.
      plan: path of a layer → method and rank, see `lowrank.factorization`; for tied layers, the
        path of the first one.
      groups: paths of layers that are tied, see `compress.share`.
      activations: path of a layer → bits of its inputs, on the grid that `variables["activations"]`
        has at the path.
      gradients: path of a layer → bits of the gradient of its outputs, in training.
    """

    model: nn.Module
    plan: Plan = NONE
    groups: Groups = ()
    activations: Mapping[str, int] = NONE
    gradients: Mapping[str, int] = NONE


def network(form: Form) -> override.Network:
    """Returns the network of a form, for the training loop; its `init` is the module's."""
    return override.Network(form.model.init, apply_of(form))


def apply_of(form: Form) -> Callable[..., Any]:
    """Returns a function like `form.model.apply` that takes variables in that form.

    Gradients are rounded by the key of `rngs["dropout"]`; without it they are not. For a form that
    changes nothing, the result is `form.model.apply` itself.

    The function raises a UserError if a path of `activations` or `gradients` is not that of a layer
    that can be reached, or a layer has no grid; and a ValueError, see `share.materialize`.
    """
    if not (form.plan or form.groups or form.activations or form.gradients):
        return form.model.apply
    factors = factorization.overrides(spread(form.plan, form.groups))

    def apply(variables: Variables, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        grids = trees.flatten(variables.get(ACTIVATIONS, {}))
        untied = {name: tree for name, tree in variables.items() if name != ACTIVATIONS}
        if form.groups:
            untied["params"] = share.materialize(untied["params"], form.groups)
        _check_layers(untied, factors, [*form.activations, *form.gradients])
        chosen = dict(factors)
        for path, bits in form.activations.items():
            grid = _grid(grids, path, bits)
            chosen[path] = _rounded(chosen.get(path, override.compute), grid)
        key = kwargs.get("rngs", {}).get("dropout")
        if key is not None:
            for path, bits in form.gradients.items():
                inner = chosen.get(path, override.compute)
                chosen[path] = _noisy(inner, keys.stream(key, path), bits)
        return override.override(form.model, chosen)(untied, inputs, *args, **kwargs)

    return apply


def reached(form: Form, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Returns the paths of layers whose inputs and gradients can lose bits, as they are called."""
    full = architectures.shapes(form.model, shape)
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return tuple(override.layers(form.model, full, example)[0])


def spread(plan: Plan, groups: Groups) -> dict[str, Mapping[str, Any]]:
    """Returns a plan that also names the layers that are tied to those of `plan`."""
    whole = dict(plan)
    for first, *tied in groups:
        for path, entry in plan.items():
            if path == first or path.startswith(f"{first}/"):
                whole |= {layer + path[len(first) :]: entry for layer in tied}
    return whole


def grid_paths(path: str) -> tuple[str, str]:
    """Returns the paths of scale and zero point of a layer's inputs in `activations`."""
    return f"{path}/scale".lstrip("/"), f"{path}/zero_point".lstrip("/")


def calibrated(
    form: Form, variables: Variables, inputs: jax.Array, bits: Mapping[str, int], **kwargs: Any
) -> dict[str, Any]:
    """Returns the collection `activations` for layers of a network, calibrated on their inputs.

    Args:
      form: a form without `activations`.
      variables: of one network.
      inputs: [B, …], examples like those that the network will see.
      bits: path of a layer → 2 … 16.
      **kwargs: of `quantize.calibrate`; the grids are affine.

    Raises:
      UserError: a path is not that of a layer that can be reached.
      ValueError: a layer is not called, or `quantize.calibrate` raises it.
    """
    seen: dict[str, list[jax.Array]] = {path: [] for path in bits}
    factors = factorization.overrides(spread(form.plan, form.groups))

    def noting(path: str) -> override.Override:
        inner = factors.get(path, override.compute)

        def compute(layer: override.Layer, params: Params, inputs: jax.Array) -> jax.Array:
            seen[path].append(inputs)
            return inner(layer, params, inputs)

        return compute

    untied = dict(variables)
    if form.groups:
        untied["params"] = share.materialize(untied["params"], form.groups)
    _check_layers(untied, factors, bits)
    chosen = factors | {path: noting(path) for path in bits}
    override.override(form.model, chosen)(untied, inputs, train=False)
    grids: dict[str, jax.Array] = {}
    for path, batches in seen.items():
        if not batches:
            raise ValueError(f"layer {path!r} is not called: it has no inputs")
        grid = quantize.calibrate([b.ravel() for b in batches], bits[path], **kwargs)
        grids |= zip(grid_paths(path), (grid.scale, grid.zero_point), strict=True)
    return unflatten_dict(grids, sep="/")


def _check_layers(variables: Variables, factors: Iterable[str], paths: Iterable[str]) -> None:
    """Refuses paths at which no layer has parameters."""
    params = flatten_dict(variables.get("params", {}), sep="/")
    known = {path.rpartition("/")[0] for path in params}.union(factors)
    for path in paths:
        if path not in known:
            raise unknown("layer", path, known)


def _grid(grids: Mapping[str, jax.Array], path: str, bits: int) -> quantize.Grid:
    """Returns the affine grid of a layer's inputs, by the numbers in `grids`."""
    if missing := [name for name in grid_paths(path) if name not in grids]:
        raise UserError(
            f"layer {path!r} has no grid for its inputs: variables[{ACTIVATIONS!r}] lacks "
            f"{' and '.join(missing)} (see `form.calibrated`)"
        )
    scale, zero_point = (grids[name] for name in grid_paths(path))
    return quantize.Grid(scale, zero_point, jnp.int32(0), jnp.int32(2**bits - 1))


def _rounded(inner: override.Override, grid: quantize.Grid) -> override.Override:
    """Returns an override that rounds its inputs to a grid."""

    def compute(layer: override.Layer, params: Params, inputs: jax.Array) -> jax.Array:
        return inner(layer, params, quantize.fake_quantize(inputs, grid))

    return compute


def _noisy(inner: override.Override, key: jax.Array, bits: int) -> override.Override:
    """Returns an override that rounds the gradient of its outputs to few bits."""

    def compute(layer: override.Layer, params: Params, inputs: jax.Array) -> jax.Array:
        return quantize.quantized_backward(key, inner(layer, params, inputs), bits)

    return compute
