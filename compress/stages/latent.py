"""Training in few bits: latent weights or codebooks, and the stored forms at the end.

All functions take the trees of one replicate.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
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
    stacks: Mapping[str, int] = MappingProxyType({})  # path → leading axes, of layers of a scan

    def each(self, path: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function of a kernel as one of all kernels of a stack, each by itself."""
        for _ in range(self.stacks.get(path, 0)):
            function = jax.vmap(function)
        return function

    def keys(self, key: jax.Array | None, path: str, kernel: jax.Array) -> jax.Array | None:
        """Returns a key for each kernel of a stack."""
        if key is None:
            return None
        drawn = keys.stream(key, path)
        stack = kernel.shape[: self.stacks.get(path, 0)]
        return jax.random.split(drawn, stack) if stack else drawn


def kernels(params: Shapes) -> dict[str, Any]:
    """Returns path → leaf of all that is quantised: the kernels that have two axes or more."""
    leaves = masks.flatten(params)
    return {path: leaf for path, leaf in leaves.items() if len(leaf.shape) >= 2}


def begin(quantizer: Quantizer, key: jax.Array, variables: Variables, mask: Mask) -> dict[str, Any]:
    """Returns the variables to train: codebooks beside stored forms, or latent weights."""
    spec, flat = quantizer.spec, flatten_dict(variables["params"], sep="/")
    if spec.method == "kmeans":
        root = keys.stream(key, "kmeans") if spec.init == "random" else None
        for path, bits in quantizer.bits.items():

            def cluster(kernel: Any, kept: Any, key: Any, bits: int = bits) -> Any:
                return quantize.kmeans(kernel, bits, kept, spec.init, key=key)

            drawn = quantizer.keys(root, path, flat[path])
            flat[path] = quantizer.each(path, cluster)(flat[path], mask.get(path), drawn)
        stored = unflatten_dict(flat, sep="/")
        return {**variables, "params": quantize.learnable(stored), STORED: stored}
    if _has_scales(spec):
        for path in quantizer.bits:
            start = quantizer.each(path, quantize.ternary)(flat[path])
            layer = path.rpartition("/")[0]
            flat |= {f"{layer}/{POSITIVE}": start.positive, f"{layer}/{NEGATIVE}": start.negative}
    return {**variables, "params": unflatten_dict(flat, sep="/")}


def network(quantizer: Quantizer, inner: Model) -> Network:
    """Returns the network of the variables that `begin` returns, quantised in the forward pass."""

    def apply(variables: Variables, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        key = kwargs.get("rngs", {}).get("dropout")
        return inner.apply(rounded(quantizer, variables, key), inputs, *args, **kwargs)

    return Network(inner.init, apply)


def rounded(
    quantizer: Quantizer, variables: Variables, key: jax.Array | None = None
) -> dict[str, Any]:
    """Returns variables with weights in few bits, of those that `begin` returns.

    Args:
      quantizer: the method.
      variables: of one replicate.
      key: from which a stochastic method draws; without it, signs are those of the weights.
    """
    collections = {name: tree for name, tree in variables.items() if name != STORED}
    if STORED in variables:
        params = quantize.materialize(variables[STORED], variables["params"])
    else:
        params = _faked(quantizer, variables["params"], key)
    return {**collections, "params": params}


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
            flat[path] = _stored(quantizer, flat, path, bits)
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
        flat[path] = _fake(quantizer, flat, path, bits, key)
    return unflatten_dict(flat, sep="/")


def _fake(
    quantizer: Quantizer, flat: Mapping[str, Any], path: str, bits: int, key: jax.Array | None
) -> jax.Array:
    spec, kernel = quantizer.spec, flat[path]
    axis = OUTPUTS if spec.per_channel else None
    if spec.method == "uniform":

        def rounded(kernel: jax.Array) -> jax.Array:
            grid = _grid(spec, jax.lax.stop_gradient(kernel), bits)
            return quantize.fake_quantize(kernel, grid)

        return quantizer.each(path, rounded)(kernel)
    if spec.method == "ternary":
        scales = _scales(flat, path) if _has_scales(spec) else ()
        return quantizer.each(path, quantize.fake_ternary)(kernel, *scales)

    def signs(kernel: jax.Array, drawn: jax.Array | None) -> jax.Array:
        return quantize.fake_binary(kernel, drawn, spec.scaled, axis)

    drawn = quantizer.keys(key if spec.stochastic else None, path, kernel)
    return quantizer.each(path, signs)(kernel, drawn)


def _stored(quantizer: Quantizer, flat: Mapping[str, Any], path: str, bits: int) -> quantize.Stored:
    spec, axis = quantizer.spec, OUTPUTS if quantizer.spec.per_channel else None

    def stored(kernel: jax.Array) -> quantize.Stored:
        if spec.method == "uniform":
            return quantize.uniform(kernel, bits, spec.symmetric, axis, spec.range)
        if spec.method == "ternary":
            return quantize.ternary(kernel, spec.scales)
        return quantize.binary(kernel, None, spec.scaled, axis)

    form = quantizer.each(path, stored)(flat[path])
    if _has_scales(spec):
        positive, negative = _scales(flat, path)
        return form._replace(positive=positive, negative=negative)
    return form


def _grid(spec: Settings, kernel: jax.Array, bits: int) -> quantize.Grid:
    axis = OUTPUTS if spec.per_channel else None
    return quantize.grid(kernel, bits, spec.symmetric, axis, spec.range)


def _has_scales(spec: Settings) -> bool:
    return spec.method == "ternary" and spec.scales == "trained"


def _scales(flat: Mapping[str, Any], path: str) -> tuple[jax.Array, jax.Array]:
    layer = path.rpartition("/")[0]
    return flat[f"{layer}/{POSITIVE}"], flat[f"{layer}/{NEGATIVE}"]
