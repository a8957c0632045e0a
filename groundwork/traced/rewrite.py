"""Other computations in place of a network's layers, without rewriting it. Read `override` first.

The network's jaxpr is evaluated with a function in place of the products that are named, so its
parameters there may be anything. Methods compose: wrap one `override` in another.
"""

# M outputs

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from groundwork import trees
from groundwork.errors import unknown
from groundwork.traced import network
from groundwork.traced.products import Layer, as_inputs, as_kernel, as_outputs, described
from groundwork.traced.walk import Mark, Product, Visitor
from groundwork.trees import Params, Variables


class Override(NamedTuple):
    """Another computation of a layer.

    Attributes:
      compute: (layer, kernel, inputs) → outputs [..., M], without a bias, which the network adds
        itself. The kernel is the layer's own, or whatever is stored in its place.
      stages: names of what is stored in the place of the kernel; () where the kernel itself is.
      shape: what is stored → shape and dtype of the kernel for which it stands.
    """

    compute: Callable[[Layer, Any, jax.Array], jax.Array]
    stages: tuple[str, ...] = ()
    shape: Callable[[Any], jax.ShapeDtypeStruct] | None = None


def override(model: Any, overrides: Mapping[str, Override]) -> Callable[..., Any]:
    """Returns a network's function with other computations in place of some layers.

    Args:
      model: a Linen module, anything with `apply`, or a function (variables, …) → outputs.
      overrides: path of a layer → what computes it. Layers that are not called are passed over.

    Returns:
      (variables, …) → outputs, as the network's own function. Where an override has stages, the
      variables have `{"STAGE": …}` in the place of the layer's kernel: beside its bias where the
      layer is a mapping, and otherwise as `Stored` in the kernel's own place. It works under jit,
      vmap, grad and shard_map, and raises a ValueError for a path that is not that of a layer, and
      for a layer that cannot be computed in another way.
    """

    def apply(variables: Variables, *args: Any, **kwargs: Any) -> Any:
        full, stored = _whole(network.params_of(variables), overrides)
        known = {network.layer_path(path) for path in trees.flatten(full)}
        for path in overrides:
            if path not in known:
                raise ValueError(str(unknown("layer", path, known)))

        def product(met: Product, kernel: Any, inputs: jax.Array) -> jax.Array | None:
            path = network.layer_path(met.mark.path)
            if path not in overrides:
                return None
            layer = described(met, path)
            if isinstance(layer, str):
                raise ValueError(_refusal(path, layer))
            own = kernel if met.mark.path in stored else as_kernel(layer, kernel)
            outputs = overrides[path].compute(layer, own, as_inputs(layer, inputs))
            return as_outputs(layer, outputs).astype(met.equation.outvars[0].aval.dtype)

        def other(mark: Mark, reason: str) -> None:
            path = network.layer_path(mark.path)
            if path in overrides and (mark.path in stored or mark.path != path):
                raise ValueError(_refusal(path, reason))

        visitor = Visitor(product=product, other=other)
        whole = network.with_params(variables, full)
        return network.evaluate(visitor, model, whole, stored, args, kwargs)

    return apply


class Stored(dict[str, Any]):
    """What is stored in the place of a kernel: name of a stage → its parameters."""


jax.tree_util.register_pytree_with_keys(
    Stored,
    lambda stored: (
        [(jax.tree_util.DictKey(k), stored[k]) for k in sorted(stored)],
        tuple(sorted(stored)),
    ),
    lambda names, parts: Stored(zip(names, parts, strict=True)),
)


def _whole(params: Params, overrides: Mapping[str, Override]) -> tuple[Params, dict[str, Any]]:
    """Returns the parameters with shapes of kernels where something else is stored; and the latter.

    Returns:
      `(full, stored)`: the parameters as the network has them; path of a kernel → what is stored.
    """
    stored: dict[str, Any] = {}
    for path, one in overrides.items():
        if one.stages and (parent := _mapping(params, path)) is not None:
            name = f"{path}/kernel".lstrip("/")
            stored[name] = {stage: parent[stage] for stage in one.stages}
            rest = {key: leaf for key, leaf in parent.items() if key not in one.stages}
            params = _replaced(params, path, {**rest, "kernel": _shape_of(one, stored[name])})

    def restored(keys: tuple[Any, ...], leaf: Any) -> Any:
        if not isinstance(leaf, Stored):
            return leaf
        name = trees.path(keys)
        stored[name] = leaf
        return _shape_of(overrides[network.layer_path(name)], leaf)

    full = jax.tree_util.tree_map_with_path(
        restored, params, is_leaf=lambda leaf: isinstance(leaf, Stored)
    )
    return full, stored


def _shape_of(one: Override, stored: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape of a kernel, as varying over devices as what is stored for it."""
    assert one.shape is not None
    varying = jax.typeof(jax.tree.leaves(stored)[0]).manual_axis_type
    shape = one.shape(stored)
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, manual_axis_type=varying)


def _mapping(params: Params, path: str) -> Mapping[str, Any] | None:
    """Returns the layer at a path if it is a mapping without a kernel of its own."""
    for key in path.split("/") if path else ():
        if not isinstance(params, Mapping) or key not in params:
            return None
        params = params[key]
    is_layer = isinstance(params, Mapping) and not isinstance(params, Stored)
    return params if is_layer and "kernel" not in params else None


def _replaced(tree: Mapping[str, Any], path: str, leaf: Any) -> Any:
    if not path:
        return leaf
    head, _, rest = path.partition("/")
    return {**tree, head: _replaced(tree[head], rest, leaf)}


def _refusal(path: str, reason: str) -> str:
    return f"layer {path!r} cannot be computed in another way: {reason}"


def compute(layer: Layer, kernel: jax.Array, inputs: jax.Array) -> jax.Array:
    """Returns what the layer itself computes: an override that changes nothing."""
    if layer.kind == "Dense":
        return jnp.matmul(inputs, kernel, precision=layer.precision)
    return layer.convolve(
        inputs,
        kernel,
        layer.strides,
        layer.padding,
        rhs_dilation=layer.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=layer.groups,
        precision=layer.precision,
    )
