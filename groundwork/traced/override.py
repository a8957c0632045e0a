"""Other computations in place of a network's layers, without rewriting it. Read `override`.

Flax calls an interceptor at every method of every module; here it puts a function in place of the
`Dense` and `Conv` calls that are named. The network's parameters at these paths may then be
anything. Methods compose: `override` one apply within another's; where both name a layer, the
outer one computes it.
"""

# B batch, H W image, KH KW window

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core.scope import union_filters
from flax.linen.dtypes import promote_dtype
from flax.linen.linear import canonicalize_padding
from flax.traverse_util import flatten_dict
from jax import lax

from groundwork.errors import UserError

Pair = tuple[int, int]
SEEN = "seen_by_surgery"  # collection, for as long as `inputs_of` runs
UNCALLED = "no Dense or Conv that is called has it"
Pads = str | tuple[Pair, Pair]  # SAME, SAME_LOWER, VALID, or of height and width


class Layer(NamedTuple):
    """How a `Dense` or a two-dimensional `Conv` computes; everything but its parameters."""

    path: str  # "block1/conv2"
    kind: str  # "Dense" or "Conv"
    strides: Pair
    padding: Pads
    dilation: Pair
    groups: int
    dtype: Any  # what it computes in; None: what its inputs promote to
    precision: Any
    convolve: Callable[..., jax.Array]  # as `jax.lax.conv_general_dilated`


class Reached(NamedTuple):
    """A layer as it was met on the way through a network."""

    layer: Layer
    kernel: tuple[int, ...]  # shape: [N, M] or [KH, KW, in, out]
    inputs: tuple[tuple[int, ...], ...]  # shape at each call; two where weights are shared


class Network(NamedTuple):
    """What stands for a module where its methods alone are called."""

    init: Callable[..., Any]
    apply: Callable[..., Any]


Override = Callable[[Layer, Any, jax.Array], jax.Array]  # layer, its parameters, inputs → outputs


def override(model: Any, overrides: Mapping[str, Override]) -> Callable[..., Any]:
    """`model.apply` with other computations in place of some layers.

    Args:
      model: a Linen module, or anything with `apply`.
      overrides: path of a layer → what computes it: (layer, parameters, inputs [B, …]) →
        outputs, the bias included. The parameters are those that `variables["params"]` has at
        the path.

    Returns:
      As `model.apply`: variables, inputs, … → outputs; works under jit, vmap, grad, shard_map.
      It raises a UserError where a layer of that path is not a `Dense` or two-dimensional `Conv`.
    """
    wanted = dict(overrides)

    def interceptor(next_fun, args, kwargs, context):
        path = "/".join(context.module.path)
        if path not in wanted or context.method_name != "__call__":
            return next_fun(*args, **kwargs)
        layer = described(context.module)
        if isinstance(layer, str):
            raise UserError(f"layer {path!r} cannot be computed in another way: {layer}")
        return wanted[path](layer, context.module.variables["params"], _given(args, kwargs))

    @functools.wraps(model.apply)
    def apply(*args, **kwargs):
        with nn.intercept_methods(interceptor):
            return model.apply(*args, **kwargs)

    return apply


def layers(
    model: nn.Module, variables: Any, inputs: Any, **kwargs: Any
) -> tuple[dict[str, Reached], dict[str, str]]:
    """The layers that `override` reaches, in the order of their calls, and those that it does not.

    Nothing is computed.

    Args:
      model: any Linen module.
      variables: arrays or shapes.
      inputs: [B, …], array or shape.
      **kwargs: passed on to `model.apply`.

    Returns:
      Layers by path; and path → why not, of every other parameter of two or more axes.
    """
    met: dict[str, Reached] = {}
    refused: dict[str, str] = {}

    def record(next_fun, args, kwargs, context):
        if context.method_name == "__call__":
            _meet(context.module, args, kwargs, met, refused)
        return next_fun(*args, **kwargs)

    def apply(variables, inputs):
        with nn.intercept_methods(record):
            return model.apply(variables, inputs, **kwargs)

    jax.eval_shape(apply, variables, inputs)
    not_reached = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        name = jax.tree_util.keystr(keys, simple=True, separator="/")
        path, _, last = name.rpartition("/")
        if path in met and last == "kernel" and leaf.shape != met[path].kernel:
            met.pop(path)
            refused[path] = f"its kernels are stacked: {leaf.shape}"
        if path not in met and len(leaf.shape) >= 2:
            not_reached[name] = refused.get(path, UNCALLED)
    return met, not_reached


def described(module: nn.Module) -> Layer | str:
    """How a module computes, or why nothing can take its place."""
    path = "/".join(module.path)
    kind = type(module)
    if getattr(module, "promote_dtype", promote_dtype) is not promote_dtype:
        return "it has a promote_dtype of its own"
    if kind.__call__ is nn.Dense.__call__:
        if module.dot_general is not None or module.dot_general_cls is not None:
            return "it has a dot_general of its own"
        dense = ((1, 1), "VALID", (1, 1), 1)
        return Layer(
            path, "Dense", *dense, module.dtype, module.precision, lax.conv_general_dilated
        )
    if kind.__call__ is not nn.Conv.__call__ or not module.shared_weights:
        return f"{kind.__name__} is neither Dense nor Conv"
    size = module.kernel_size
    if isinstance(size, int) or len(size) != 2:
        return "its convolution is not two-dimensional"
    if module.mask is not None or _pair(module.input_dilation) != (1, 1):
        return "it has a mask or an input dilation"
    padding = canonicalize_padding(module.padding, 2)
    if isinstance(padding, str) and padding not in ("SAME", "SAME_LOWER", "VALID"):
        return f"its padding is {padding}"
    convolve = module.conv_general_dilated or lax.conv_general_dilated
    if module.conv_general_dilated_cls is not None:
        convolve = module.conv_general_dilated_cls()
    return Layer(
        path=path,
        kind="Conv",
        strides=_pair(module.strides),
        padding=padding if isinstance(padding, str) else tuple(map(tuple, padding)),  # type: ignore[arg-type]
        dilation=_pair(module.kernel_dilation),
        groups=module.feature_group_count,
        dtype=module.dtype,
        precision=module.precision,
        convolve=convolve,
    )


def compute(layer: Layer, params: Mapping[str, jax.Array], inputs: jax.Array) -> jax.Array:
    """What the layer itself computes: an override that changes nothing."""
    inputs, kernel, bias = promote_dtype(
        inputs, params["kernel"], params.get("bias"), dtype=layer.dtype
    )
    if layer.kind == "Dense":
        outputs = jnp.matmul(inputs, kernel, precision=layer.precision)
    else:
        outputs = convolve(layer, inputs, kernel)
    return biased(outputs, bias)


def biased(outputs: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Outputs [..., M] with the bias [M], if there is one."""
    return outputs if bias is None else outputs + bias.reshape((1,) * (outputs.ndim - 1) + (-1,))


def convolve(
    layer: Layer, inputs: jax.Array, kernel: jax.Array, axes: str = "hw", groups: int | None = None
) -> jax.Array:
    """A convolution with the layer's strides, padding and dilation along some axes alone.

    Args:
      layer: a `Conv`.
      inputs: [B, H, W, C]; other numbers of leading axes as Flax takes them.
      kernel: [KH, KW, C / groups, O].
      axes: "hw", "h", "w" or "": along the others, stride 1 and no padding, for windows of 1.
      groups: of channels; the layer's by default.
    """
    lead = inputs.shape[:-3]
    images = inputs.reshape((math.prod(lead), *inputs.shape[-3:]))
    along = [axis in axes for axis in "hw"]
    strides, dilation = (
        tuple(own if use else 1 for own, use in zip(pair, along, strict=True))
        for pair in (layer.strides, layer.dilation)
    )
    padding: Any = layer.padding
    if not isinstance(padding, str):
        padding = tuple(own if use else (0, 0) for own, use in zip(padding, along, strict=True))
    found = layer.convolve(
        images,
        kernel,
        strides,
        padding,
        lhs_dilation=(1, 1),
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=layer.groups if groups is None else groups,
        precision=layer.precision,
    )
    return found.reshape((*lead, *found.shape[1:]))


def inputs_of(
    model: nn.Module, variables: Any, inputs: jax.Array, paths: tuple[str, ...], **kwargs: Any
) -> dict[str, list[jax.Array]]:
    """What the layers at `paths` are given, one array a call, when the network sees `inputs`.

    Of layers that are not called, or within a scan or vmap of Flax's, nothing.
    """

    def record(next_fun, args, kwargs, context):
        if "/".join(context.module.path) in paths and context.method_name == "__call__":
            context.module.sow(SEEN, "inputs", _given(args, kwargs))
        return next_fun(*args, **kwargs)

    mutable = union_filters(kwargs.pop("mutable", False), [SEEN])
    with nn.intercept_methods(record):
        _, state = model.apply(variables, inputs, mutable=mutable, **kwargs)
    seen = flatten_dict(state.get(SEEN, {}), sep="/")
    return {path: list(seen.get(f"{path}/inputs".lstrip("/"), ())) for path in paths}


def _meet(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    met: dict[str, Reached],
    refused: dict[str, str],
) -> None:
    """Note a module that is called, if it has parameters of its own."""
    own = module.variables.get("params", {})
    path = "/".join(module.path)
    if any(isinstance(leaf, nn.meta.AxisMetadata) for leaf in own.values()):
        for name in own:
            refused["/".join((*module.path, name))] = "it is boxed: see flax.linen.meta.unbox"
        return
    if not any(hasattr(leaf, "shape") for leaf in own.values()):
        return
    layer = described(module)
    if isinstance(layer, str):
        refused[path] = layer
        return
    before = met[path].inputs if path in met else ()
    met[path] = Reached(layer, tuple(own["kernel"].shape), (*before, _given(args, kwargs).shape))


def _given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> jax.Array:
    """The inputs of a `Dense` or `Conv`, by place or by name."""
    return args[0] if args else kwargs["inputs"]


def _pair(value: Any) -> Pair:
    """Flax's number, sequence or None as two integers."""
    if value is None or isinstance(value, int):
        return (value or 1,) * 2
    return tuple(value)
