"""The layers of a Linen network: how each one computes, and what it is given. Read `layers`.

Flax calls an interceptor at every method of every module, and the interceptors here look at the
calls of `Dense` and `Conv`.
"""

# B batch, N M inputs and outputs of a matrix, KH KW window

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.core.scope import union_filters
from flax.linen.dtypes import promote_dtype
from flax.linen.linear import canonicalize_padding
from flax.traverse_util import flatten_dict
from jax import lax

from groundwork import trees
from groundwork.errors import UserError
from groundwork.trees import Variables

Pair = tuple[int, int]
Pads = str | tuple[Pair, Pair]  # SAME, SAME_LOWER, VALID, or of height and width
SEEN = "seen_by_override"  # the collection that holds inputs while `inputs_of` runs
UNCALLED = "it belongs to no Dense or Conv that is called"


class LayerError(ValueError, UserError):
    """An argument that names a layer and does not fit the network, such as an unknown path.

    It is a `UserError` too for as long as commands rely on that; a library raises `ValueError`.
    """


class Layer(NamedTuple):
    """How a `Dense` or a two-dimensional `Conv` computes: everything but its parameters."""

    path: str  # "block1/conv2"
    kind: str  # "Dense" or "Conv"
    strides: Pair
    padding: Pads
    dilation: Pair
    groups: int
    dtype: Any  # in which it computes; None: the one that its inputs promote to
    precision: Any
    convolve: Callable[..., jax.Array]  # called as `jax.lax.conv_general_dilated`


class Reached(NamedTuple):
    """A layer that was called on the way through a network."""

    layer: Layer
    kernel: tuple[int, ...]  # shape: [N, M] or [KH, KW, in, out]
    inputs: tuple[tuple[int, ...], ...]  # the shape at each call; two where weights are shared


def layers(
    model: nn.Module, variables: Variables, inputs: Any, **kwargs: Any
) -> tuple[dict[str, Reached], dict[str, str]]:
    """Returns the layers that can be reached, in the order of their calls, and the others.

    Nothing is computed.

    Args:
      model: any Linen module.
      variables: arrays or shapes.
      inputs: [B, …], array or shape.
      **kwargs: are passed on to `model.apply`.

    Returns:
      `(reached, refused)`: layers by path; and path → the reason, of every other parameter that
      has two or more axes.
    """
    reached: dict[str, Reached] = {}
    reasons: dict[str, str] = {}

    def record(
        next_function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        if context.method_name == "__call__":
            _note(context.module, args, kwargs, reached, reasons)
        return next_function(*args, **kwargs)

    def apply(variables: Variables, inputs: Any) -> Any:
        with nn.intercept_methods(record):
            return model.apply(variables, inputs, **kwargs)

    jax.eval_shape(apply, variables, inputs)
    refused = {}
    for name, leaf in trees.flatten(variables["params"]).items():
        path, _, last = name.rpartition("/")
        if path in reached and last == "kernel" and leaf.shape != reached[path].kernel:
            reached.pop(path)
            reasons[path] = f"its kernels are stacked: {leaf.shape}"
        if path not in reached and len(leaf.shape) >= 2:
            refused[name] = reasons.get(path, UNCALLED)
    return reached, refused


def described(module: nn.Module) -> Layer | str:
    """Returns how a module computes, or the reason why nothing can take its place."""
    if getattr(module, "promote_dtype", promote_dtype) is not promote_dtype:
        return "it has a promote_dtype of its own"
    kind: Any = type(module)
    if kind.__call__ is nn.Dense.__call__:
        return _dense(module)
    if kind.__call__ is nn.Conv.__call__ and getattr(module, "shared_weights", False):
        return _conv(module)
    return f"{kind.__name__} is neither Dense nor Conv"


def inputs_of(
    model: nn.Module, variables: Variables, inputs: jax.Array, paths: tuple[str, ...], **kwargs: Any
) -> dict[str, list[jax.Array]]:
    """Returns what the layers at `paths` are given when the network sees `inputs`.

    Returns:
      Path → one array for each call; none for a layer that is not called, or that stands within a
      scan or vmap of Flax's.
    """

    def record(
        next_function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        if "/".join(context.module.path) in paths and context.method_name == "__call__":
            context.module.sow(SEEN, "inputs", given(args, kwargs))
        return next_function(*args, **kwargs)

    mutable = union_filters(kwargs.pop("mutable", False), [SEEN])
    with nn.intercept_methods(record):
        _, state = model.apply(variables, inputs, mutable=mutable, **kwargs)
    seen = flatten_dict(state.get(SEEN, {}), sep="/")
    return {path: list(seen.get(f"{path}/inputs".lstrip("/"), ())) for path in paths}


def given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> jax.Array:
    """Returns the inputs of a call of a `Dense` or `Conv`, passed by place or by name."""
    return args[0] if args else kwargs["inputs"]


def _dense(module: Any) -> Layer | str:
    if module.dot_general is not None or module.dot_general_cls is not None:
        return "it has a dot_general of its own"
    return Layer(
        path="/".join(module.path),
        kind="Dense",
        strides=(1, 1),
        padding="VALID",
        dilation=(1, 1),
        groups=1,
        dtype=module.dtype,
        precision=module.precision,
        convolve=lax.conv_general_dilated,
    )


def _conv(module: Any) -> Layer | str:
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
        path="/".join(module.path),
        kind="Conv",
        strides=_pair(module.strides),
        padding=padding if isinstance(padding, str) else tuple(map(tuple, padding)),  # type: ignore[arg-type]
        dilation=_pair(module.kernel_dilation),
        groups=module.feature_group_count,
        dtype=module.dtype,
        precision=module.precision,
        convolve=convolve,
    )


def _note(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    reached: dict[str, Reached],
    reasons: dict[str, str],
) -> None:
    """Adds a module that is called to one of the dicts, if it has parameters itself."""
    params = module.variables.get("params", {})
    path = "/".join(module.path)
    if any(isinstance(leaf, nn.meta.AxisMetadata) for leaf in params.values()):
        reasons[path] = "it is boxed: see flax.linen.meta.unbox"
        return
    if not any(hasattr(leaf, "shape") for leaf in params.values()):
        return
    layer = described(module)
    if isinstance(layer, str):
        reasons[path] = layer
        return
    before = reached[path].inputs if path in reached else ()
    shapes = (*before, given(args, kwargs).shape)
    reached[path] = Reached(layer, tuple(params["kernel"].shape), shapes)


def _pair(value: Any) -> Pair:
    """Returns a number, sequence or None of Flax's as two integers."""
    if value is None or isinstance(value, int):
        return (value or 1,) * 2
    return tuple(value)
