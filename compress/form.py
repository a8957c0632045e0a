"""How a compressed network computes. Read `Form` and `apply_of` first.

Low-rank layers, tied layers, inputs of few bits: all of them around a module that knows of none.
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
from groundwork import architectures, keys
from groundwork.errors import UserError, unknown
from groundwork.traced import override
from lowrank import factorization
from lowrank.factorization import Plan

ACTIVATIONS = "activations"  # collection: layer → the scale and zero point of its inputs
NONE: Mapping[str, Any] = MappingProxyType({})


class Form(NamedTuple):
    """A network of other parameters than its module's own.

    Attributes:
      model: the module.
      plan: path of a layer → method and rank, as `lowrank.factorization` has it; of tied layers,
        the first one's path.
      groups: paths that are one, as `compress.share` has them.
      activations: path of a layer → bits of what it is given, on the grid that
        `variables["activations"]` has at the path.
      gradients: path of a layer → bits of the gradient that comes back to it, in training.
    """

    model: nn.Module
    plan: Plan = NONE
    groups: Groups = ()
    activations: Mapping[str, int] = NONE
    gradients: Mapping[str, int] = NONE


def network(form: Form) -> override.Network:
    """Of a form: for the ordinary training loop; its `init` is the module's."""
    return override.Network(form.model.init, apply_of(form))


def apply_of(form: Form) -> Callable[..., Any]:
    """(variables, inputs, …) → outputs, as `form.model.apply`, of variables in that form.

    Gradients are rounded by the key of `rngs["dropout"]`, and not without one. Of a form that
    changes nothing it is `form.model.apply` itself. It raises:
      UserError: a path of `activations` or `gradients` where no layer can be reached, or has no
        grid.
      ValueError: as `share.materialize`.
    """
    if not (form.plan or form.groups or form.activations or form.gradients):
        return form.model.apply
    factors = factorization.overrides(spread(form.plan, form.groups))

    def apply(variables, inputs, *args, **kwargs):
        grids = flatten_dict(variables.get(ACTIVATIONS, {}), sep="/")
        own = {name: tree for name, tree in variables.items() if name != ACTIVATIONS}
        if form.groups:
            own["params"] = share.materialize(own["params"], form.groups)
        _check_layers(own, factors, [*form.activations, *form.gradients])
        chosen = dict(factors)
        for path, bits in form.activations.items():
            grid = _grid(grids, path, bits)
            chosen[path] = _rounded(chosen.get(path, override.compute), grid)
        key = kwargs.get("rngs", {}).get("dropout")
        if key is not None:
            for path, bits in form.gradients.items():
                inner = chosen.get(path, override.compute)
                chosen[path] = _noisy(inner, keys.stream(key, path), bits)
        return override.override(form.model, chosen)(own, inputs, *args, **kwargs)

    return apply


def reached(form: Form, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Paths of the layers whose inputs and gradients can lose bits, in the order of their calls."""
    full = architectures.shapes(form.model, shape)
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return tuple(override.layers(form.model, full, example)[0])


def spread(plan: Plan, groups: Groups) -> dict[str, Mapping[str, Any]]:
    """A plan with the tied layers of those that it names, which compute alike."""
    found = dict(plan)
    for first, *others in groups:
        for path, entry in plan.items():
            if path == first or path.startswith(f"{first}/"):
                found |= {other + path[len(first) :]: entry for other in others}
    return found


def grid_paths(path: str) -> tuple[str, str]:
    """Where the collection `activations` has the scale and the zero point of a layer's inputs."""
    return f"{path}/scale".lstrip("/"), f"{path}/zero_point".lstrip("/")


def calibrated(
    form: Form, variables: Any, inputs: jax.Array, bits: Mapping[str, int], **kwargs: Any
) -> dict[str, Any]:
    """The collection `activations` for layers of a network: from what they are given.

    Args:
      form: without `activations` of its own.
      variables: of one network.
      inputs: [B, …], examples such as the network will see.
      bits: path of a layer → 2 … 16.
      **kwargs: as `quantize.calibrate` has them; the grids are affine.

    Raises:
      UserError: a path where no layer can be reached.
      ValueError: as `quantize.calibrate`, and a layer that is not called.
    """
    seen: dict[str, list[jax.Array]] = {path: [] for path in bits}
    factors = factorization.overrides(spread(form.plan, form.groups))

    def noting(path: str) -> override.Override:
        inner = factors.get(path, override.compute)

        def compute(layer, params, inputs):
            seen[path].append(inputs)
            return inner(layer, params, inputs)

        return compute

    own = dict(variables)
    if form.groups:
        own["params"] = share.materialize(own["params"], form.groups)
    _check_layers(own, factors, bits)
    chosen = factors | {path: noting(path) for path in bits}
    override.override(form.model, chosen)(own, inputs, train=False)
    found: dict[str, jax.Array] = {}
    for path, batches in seen.items():
        if not batches:
            raise ValueError(f"layer {path!r} is not called: it has no inputs")
        grid = quantize.calibrate([b.ravel() for b in batches], bits[path], **kwargs)
        found |= zip(grid_paths(path), (grid.scale, grid.zero_point), strict=True)
    return unflatten_dict(found, sep="/")


def _check_layers(variables: Any, factors: Iterable[str], paths: Iterable[str]) -> None:
    """Refuse paths at which no layer has parameters; what has them may still not be reached."""
    flat = flatten_dict(variables.get("params", {}), sep="/")
    known = {path.rpartition("/")[0] for path in flat}.union(factors)
    for path in paths:
        if path not in known:
            raise unknown("layer", path, known)


def _grid(grids: Mapping[str, jax.Array], path: str, bits: int) -> quantize.Grid:
    """An affine grid, of the numbers that the collection has."""
    if missing := [name for name in grid_paths(path) if name not in grids]:
        raise UserError(
            f"layer {path!r} has no grid for its inputs: variables[{ACTIVATIONS!r}] lacks "
            f"{' and '.join(missing)} (see `networks.calibrated`)"
        )
    scale, zero_point = (grids[name] for name in grid_paths(path))
    return quantize.Grid(scale, zero_point, jnp.int32(0), jnp.int32(2**bits - 1))


def _rounded(inner: override.Override, grid: quantize.Grid) -> override.Override:
    """A layer that is given its inputs on a grid."""

    def compute(layer, params, inputs):
        return inner(layer, params, quantize.fake_quantize(inputs, grid))

    return compute


def _noisy(inner: override.Override, key: jax.Array, bits: int) -> override.Override:
    """A layer whose outputs get their gradient in few bits."""

    def compute(layer, params, inputs):
        return quantize.quantized_backward(key, inner(layer, params, inputs), bits)

    return compute
