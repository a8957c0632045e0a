"""The stage that quantises: bits for each kernel, training in few bits, stored forms."""

# R replicates, [R] leading axes unless it says "of one replicate"

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from compress import quantize
from groundwork import keys
from groundwork.traced import override
from groundwork.train.step import Model
from pruning import masks

STORED = "stored"  # collection: forms of `kmeans`, whose codebooks are the params
POSITIVE, NEGATIVE = "kernel_positive", "kernel_negative"  # scales of `ternary` beside a kernel
OUTPUTS = -1  # axis of kernels
METHODS = ("kmeans", "uniform", "ternary", "binary")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How weights lose bits.

    Attributes:
      method: one of `METHODS`.
      init: of `kmeans`: `linear`, `density`, `random`.
      symmetric, range: of `uniform`.
      per_channel: of `uniform` and `binary`: a scale for each output.
      scales: of `ternary`.
      stochastic, scaled: of `binary`, see `compress.quantize.binary`.
      other_bits: of biases and BatchNorm's scales, after training; 0 = float32.
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
    bits: Mapping[str, int]  # path of a kernel → bits; of ternary 2, of binary 1


def kernels(params: Any) -> dict[str, Any]:
    """Path → kernel, of all that is quantised: leaves of that name with two axes or more.

    Args:
      params: of one replicate, arrays or shapes.
    """
    found = masks.flatten(params)
    return {path: leaf for path, leaf in found.items() if len(leaf.shape) >= 2}


def begin(
    quantizer: Quantizer, key: jax.Array, variables: Any, mask: Mapping[str, jax.Array]
) -> Any:
    """What is trained, of one replicate: codebooks beside stored forms, or latent weights."""
    spec, flat = quantizer.spec, flatten_dict(variables["params"], sep="/")
    if spec.method == "kmeans":
        for path, bits in quantizer.bits.items():
            own = keys.stream(keys.stream(key, "kmeans"), path) if spec.init == "random" else None
            flat[path] = quantize.kmeans(flat[path], bits, mask.get(path), spec.init, key=own)
        stored = unflatten_dict(flat, sep="/")
        return {**variables, "params": quantize.learnable(stored), STORED: stored}
    if _has_scales(spec):
        for path in quantizer.bits:
            start = quantize.ternary(flat[path])
            layer = path.rpartition("/")[0]
            flat |= {f"{layer}/{POSITIVE}": start.positive, f"{layer}/{NEGATIVE}": start.negative}
    return {**variables, "params": unflatten_dict(flat, sep="/")}


def network(quantizer: Quantizer, inner: Model) -> override.Network:
    """The network of what `begin` gives: quantised in the forward pass."""

    def apply(variables, inputs, *args, **kwargs):
        others = {name: tree for name, tree in variables.items() if name != STORED}
        if STORED in variables:
            params = quantize.materialize(variables[STORED], variables["params"])
        else:
            key = kwargs.get("rngs", {}).get("dropout")
            params = _faked(quantizer, variables["params"], key)
        return inner.apply({**others, "params": params}, inputs, *args, **kwargs)

    return override.Network(inner.init, apply)


def finish(quantizer: Quantizer, variables: Any) -> Any:
    """The variables with stored forms in place of what was quantised, of one replicate.

    Biases and all else that is no kernel get `other_bits`.
    """
    spec = quantizer.spec
    others = {name: tree for name, tree in variables.items() if name != STORED}
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
    return {**others, "params": unflatten_dict(flat, sep="/")}


def clipped(
    quantizer: Quantizer, optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
    """The optimiser, after whose updates latent weights of `binary` lie in [−1, 1]."""
    if quantizer.spec.method != "binary":
        return optimizer
    inner = optax.with_extra_args_support(optimizer)

    def update(updates, state, params=None, **extra_args):
        updates, state = inner.update(updates, state, params, **extra_args)

        def one(path, change, leaf):
            if jax.tree_util.keystr(path, simple=True, separator="/") not in quantizer.bits:
                return change
            return quantize.clip(leaf + change) - leaf

        return jax.tree_util.tree_map_with_path(one, updates, params), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _faked(quantizer: Quantizer, params: Any, key: jax.Array | None) -> Any:
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
        found = quantize.ternary(kernel, spec.scales)
        if not _has_scales(spec):
            return found
        positive, negative = _scales(flat, path)
        return found._replace(positive=positive, negative=negative)
    return quantize.binary(kernel, None, spec.scaled, axis)


def _grid(spec: Settings, kernel: jax.Array, bits: int) -> quantize.Grid:
    axis = OUTPUTS if spec.per_channel else None
    return quantize.grid(kernel, bits, spec.symmetric, axis, spec.range)


def _has_scales(spec: Settings) -> bool:
    return spec.method == "ternary" and spec.scales == "trained"


def _scales(flat: Mapping[str, Any], path: str) -> tuple[jax.Array, jax.Array]:
    layer = path.rpartition("/")[0]
    return flat[f"{layer}/{POSITIVE}"], flat[f"{layer}/{NEGATIVE}"]
