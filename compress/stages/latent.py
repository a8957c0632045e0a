"""Training in few bits: latent weights or codebooks, and the stored forms at the end.

All functions take the trees of one replicate.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from compress import quantize
from groundwork import keys, trees
from groundwork.traced.network import Network
from groundwork.train.step import Model
from groundwork.trees import Params, Shapes, Variables
from pruning import masks
from pruning.masks import Mask

STORED = "stored"  # the collection with forms of `kmeans`, whose codebooks are the params
POSITIVE, NEGATIVE = "kernel_positive", "kernel_negative"  # scales of `ternary`
OUTPUTS = -1  # an axis of kernels
METHODS = ("kmeans", "uniform", "ternary", "binary")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How weights lose bits.

    Attributes:
      method: one of `METHODS`.
      init: for `kmeans`: `linear`, `density` or `random`.
      symmetric: for `uniform`.
      per_channel: for `uniform` and `binary`, whether each output has a scale.
      range: for `uniform`.
      scales: for `ternary`.
      stochastic: for `binary`; see `compress.quantize.binary`.
      scaled: likewise.
      other_bits: of biases and the scales of BatchNorm, after training; 0 = float32.
    """

    method: str
    init: str
    symmetric: bool
    per_channel: bool
    range: str
    scales: str
    stochastic: bool
    scaled: bool
    other_bits: int


class Quantizer(NamedTuple):
    """A method, with the bits of each kernel."""

    spec: Settings
    bits: Mapping[str, int]  # path of a kernel → bits; 2 for ternary, 1 for binary


def kernels(params: Shapes) -> dict[str, Any]:
    """Returns path → leaf of all that is quantised: the kernels that have two axes or more."""
    leaves = masks.flatten(params)
    return {path: leaf for path, leaf in leaves.items() if len(leaf.shape) >= 2}


def begin(quantizer: Quantizer, key: jax.Array, variables: Variables, mask: Mask) -> dict[str, Any]:
    """Returns the variables to train: codebooks beside stored forms, or latent weights."""
    spec, flat = quantizer.spec, flatten_dict(variables["params"], sep="/")
    if spec.method == "kmeans":
        for path, bits in quantizer.bits.items():
            drawn = keys.stream(keys.stream(key, "kmeans"), path) if spec.init == "random" else None
            flat[path] = quantize.kmeans(flat[path], bits, mask.get(path), spec.init, key=drawn)
        stored = unflatten_dict(flat, sep="/")
        return {**variables, "params": quantize.learnable(stored), STORED: stored}
    if _has_scales(spec):
        for path in quantizer.bits:
            start = quantize.ternary(flat[path])
            layer = path.rpartition("/")[0]
            flat |= {f"{layer}/{POSITIVE}": start.positive, f"{layer}/{NEGATIVE}": start.negative}
    return {**variables, "params": unflatten_dict(flat, sep="/")}


def network(quantizer: Quantizer, inner: Model) -> Network:
    """Returns the network of the variables that `begin` returns, quantised in the forward pass."""

    def apply(variables: Variables, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        collections = {name: tree for name, tree in variables.items() if name != STORED}
        if STORED in variables:
            params = quantize.materialize(variables[STORED], variables["params"])
        else:
            key = kwargs.get("rngs", {}).get("dropout")
            params = _faked(quantizer, variables["params"], key)
        return inner.apply({**collections, "params": params}, inputs, *args, **kwargs)

    return Network(inner.init, apply)


def finish(quantizer: Quantizer, variables: Variables) -> dict[str, Any]:
    """Returns the variables with stored forms in place of all that was quantised.

    Biases and all other leaves get `other_bits`.
    """
    spec = quantizer.spec
    collections = {name: tree for name, tree in variables.items() if name != STORED}
    if STORED in variables:
        stored = quantize.learn(variables[STORED], variables["params"])
        flat = flatten_dict(stored, sep="/")
    else:
        flat = flatten_dict(variables["params"], sep="/")
        for path, bits in quantizer.bits.items():
            flat[path] = _stored(spec, flat, path, bits)
        flat = {
            path: leaf for path, leaf in flat.items() if not path.endswith((POSITIVE, NEGATIVE))
        }
    if spec.other_bits:
        for path, leaf in flat.items():
            if path not in quantizer.bits:
                flat[path] = quantize.uniform(leaf, spec.other_bits)
    return {**collections, "params": unflatten_dict(flat, sep="/")}


def clipped(
    quantizer: Quantizer, optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Returns the optimiser, which keeps latent weights of `binary` in [−1, 1]."""
    if quantizer.spec.method != "binary":
        return optimizer
    inner = optax.with_extra_args_support(optimizer)

    def update(
        updates: Params, state: Any, params: Params = None, **extra_args: Any
    ) -> tuple[Params, Any]:
        updates, state = inner.update(updates, state, params, **extra_args)

        def clip(path: str, change: jax.Array, leaf: jax.Array) -> jax.Array:
            return quantize.clip(leaf + change) - leaf if path in quantizer.bits else change

        return trees.map_with_path(clip, updates, params), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _faked(quantizer: Quantizer, params: Params, key: jax.Array | None) -> Params:
    flat = flatten_dict(params, sep="/")
    for path, bits in quantizer.bits.items():
        flat[path] = _fake(quantizer.spec, flat, path, bits, key)
    return unflatten_dict(flat, sep="/")


def _fake(
    spec: Settings, flat: Mapping[str, Any], path: str, bits: int, key: jax.Array | None
) -> jax.Array:
    kernel, axis = flat[path], OUTPUTS if spec.per_channel else None
    if spec.method == "uniform":
        frozen = jax.lax.stop_gradient(kernel)
        return quantize.fake_quantize(kernel, _grid(spec, frozen, bits))
    if spec.method == "ternary":
        return quantize.fake_ternary(kernel, *(_scales(flat, path) if _has_scales(spec) else ()))
    drawn = keys.stream(key, path) if spec.stochastic and key is not None else None
    return quantize.fake_binary(kernel, drawn, spec.scaled, axis)


def _stored(spec: Settings, flat: Mapping[str, Any], path: str, bits: int) -> quantize.Stored:
    kernel, axis = flat[path], OUTPUTS if spec.per_channel else None
    if spec.method == "uniform":
        return quantize.uniform(kernel, bits, spec.symmetric, axis, spec.range)
    if spec.method == "ternary":
        stored = quantize.ternary(kernel, spec.scales)
        if not _has_scales(spec):
            return stored
        positive, negative = _scales(flat, path)
        return stored._replace(positive=positive, negative=negative)
    return quantize.binary(kernel, None, spec.scaled, axis)


def _grid(spec: Settings, kernel: jax.Array, bits: int) -> quantize.Grid:
    axis = OUTPUTS if spec.per_channel else None
    return quantize.grid(kernel, bits, spec.symmetric, axis, spec.range)


def _has_scales(spec: Settings) -> bool:
    return spec.method == "ternary" and spec.scales == "trained"


def _scales(flat: Mapping[str, Any], path: str) -> tuple[jax.Array, jax.Array]:
    layer = path.rpartition("/")[0]
    return flat[f"{layer}/{POSITIVE}"], flat[f"{layer}/{NEGATIVE}"]
