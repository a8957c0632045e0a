"""How a compressed network computes. Read `Form` and `apply_of` first.

Low-rank layers, tied layers and inputs of few bits: the module itself knows of none of them.
"""

import functools
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
from groundwork.traced import network as traced
from groundwork.traced import override, reach
from groundwork.traced.override import Override
from groundwork.traced.products import Layer
from groundwork.trees import Variables
from lowrank import factorization
from lowrank.factorization import Plan

ACTIVATIONS = "activations"  # the collection with scale and zero point of each layer's inputs
NONE: Mapping[str, Any] = MappingProxyType({})
SAME = Override(override.compute)


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


def network(form: Form) -> traced.Network:
    """Returns the network of a form, for the training loop; its `init` is the module's."""
    return traced.Network(form.model.init, apply_of(form))


def apply_of(form: Form) -> Callable[..., Any]:
    """Returns a function like `form.model.apply` that takes variables in that form.

    Gradients are rounded by the key of `rngs["dropout"]`; without it they are not. For a form that
    changes nothing, the result is `form.model.apply` itself.

    The function raises a UserError if a path of `activations` or `gradients` is not that of a layer
    that can be reached, or a layer has no grid; and a ValueError, see `share.materialize`.
    """
    if not (form.plan or form.groups or form.activations or form.gradients):
        return form.model.apply
    plan = spread(form.plan, form.groups)

    def apply(variables: Variables, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        grids = trees.flatten(variables.get(ACTIVATIONS, {}))
        untied = {name: tree for name, tree in variables.items() if name != ACTIVATIONS}
        if form.groups:
            untied["params"] = share.materialize(untied["params"], form.groups)
        _check_layers(untied, plan, [*form.activations, *form.gradients])
        chosen = factorization.overrides(plan, untied)
        for path, bits in form.activations.items():
            chosen[path] = _rounded(chosen.get(path, SAME), grid(grids, path, bits))
        key = kwargs.get("rngs", {}).get("dropout")
        if key is not None:
            for path, bits in form.gradients.items():
                chosen[path] = _noisy(chosen.get(path, SAME), keys.stream(key, path), bits)
        return override.override(form.model, chosen)(untied, inputs, *args, **kwargs)

    return apply


def evaluation(form: Form) -> Callable[..., Any]:
    """Returns (variables, inputs) → outputs of a form in evaluation."""
    return functools.partial(apply_of(form), train=False)


def reached(form: Form, example: Any) -> dict[str, reach.Reached]:
    """Returns the layers whose inputs and gradients can lose bits, by path, as they are called."""
    full = architectures.shapes(form.model, example)
    return reach.layers(form.model, full, trees.example(example))[0]


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
    untied, plan = dict(variables), spread(form.plan, form.groups)
    if form.groups:
        untied["params"] = share.materialize(untied["params"], form.groups)
    _check_layers(untied, plan, bits)
    factors = factorization.overrides(plan, untied)
    chosen = factors | {p: _noting(factors.get(p, SAME), p, seen[p]) for p in bits}
    override.override(form.model, chosen)(untied, inputs, train=False)
    grids: dict[str, jax.Array] = {}
    for path, batches in seen.items():
        if not batches:
            raise ValueError(f"layer {path!r} is not called: it has no inputs")
        grid = quantize.calibrate([b.ravel() for b in batches], bits[path], **kwargs)
        grids |= zip(grid_paths(path), (grid.scale, grid.zero_point), strict=True)
    return unflatten_dict(grids, sep="/")


def _noting(inner: Override, path: str, seen: list[jax.Array]) -> Override:
    """Returns an override that adds its inputs to a list."""

    def compute(layer: Layer, kernel: Any, inputs: jax.Array) -> jax.Array:
        if isinstance(inputs, jax.core.Tracer):
            raise ValueError(
                f"layer {path!r}: what it is given stays within a scan or a rematerialised part"
            )
        seen.append(inputs)
        return inner.compute(layer, kernel, inputs)

    return inner._replace(compute=compute)


def _check_layers(variables: Variables, factors: Iterable[str], paths: Iterable[str]) -> None:
    """Refuses paths at which no layer has parameters."""
    params = flatten_dict(variables.get("params", {}), sep="/")
    known = {path.rpartition("/")[0] for path in params}.union(factors)
    for path in paths:
        if path not in known:
            raise unknown("layer", path, known)


def grid(grids: Mapping[str, jax.Array], path: str, bits: int) -> quantize.Grid:
    """Returns the affine grid of a layer's inputs, by the numbers in `grids`: path → array."""
    if missing := [name for name in grid_paths(path) if name not in grids]:
        raise UserError(
            f"layer {path!r} has no grid for its inputs: variables[{ACTIVATIONS!r}] lacks "
            f"{' and '.join(missing)} (see `form.calibrated`)"
        )
    scale, zero_point = (grids[name] for name in grid_paths(path))
    return quantize.Grid(scale, zero_point, jnp.int32(0), jnp.int32(2**bits - 1))


def _rounded(inner: Override, grid: quantize.Grid) -> Override:
    """Returns an override that rounds its inputs to a grid."""

    def compute(layer: Layer, kernel: Any, inputs: jax.Array) -> jax.Array:
        return inner.compute(layer, kernel, quantize.fake_quantize(inputs, grid))

    return inner._replace(compute=compute)


def _noisy(inner: Override, key: jax.Array, bits: int) -> Override:
    """Returns an override that rounds the gradient of its outputs, before the bias, to few bits."""

    def compute(layer: Layer, kernel: Any, inputs: jax.Array) -> jax.Array:
        return quantize.quantized_backward(key, inner.compute(layer, kernel, inputs), bits)

    return inner._replace(compute=compute)
