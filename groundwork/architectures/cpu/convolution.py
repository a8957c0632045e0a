"""Convolutions that oneDNN computes on the CPU, where it is built (`make cpu`); XLA elsewhere.

`conv_general_dilated` stands for `jax.lax.conv_general_dilated`, above all in
`flax.linen.Conv(conv_general_dilated=...)`. What it traces to is the same with and without
oneDNN; what it lowers to is a call of oneDNN on the CPU, and exactly `jax.lax`'s convolution
and gradients on GPU and TPU. `cpu/library.py` says when oneDNN is used and how it is switched off.
"""

# N batch, H W image, C channels, KH KW window, O channels out, R replicates

from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from groundwork.architectures.cpu import library, lowering
from groundwork.architectures.cpu.geometry import Geometry
from groundwork.architectures.cpu.primitive import bind, convolution_p

lowering.register()

LAYOUT = ("NHWC", "HWIO", "NHWC")
DTYPES = ("float32", "bfloat16")


def available() -> bool:
    """Whether oneDNN computes convolutions on this machine's CPU, in this process."""
    return library.load() is not None


def computed_by(module: nn.Module, shape: tuple[int, ...]) -> str | None:
    """What computes a network's convolutions in this process, None if it has none.

    Args:
      module: it takes examples [1, *shape].
      shape: of an example.

    Returns:
      `XLA`, or such as `oneDNN 3.2.0 (avx512_core_amx) on 2 threads`: two runs whose answers differ
      differ in last bits. It speaks of the convolutions that `conv_general_dilated` here makes; a
      network that has others alone has None.
    """
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    trace = jax.make_jaxpr(module.init)(jax.random.key(0), example)
    if f" {convolution_p.name}[" not in str(trace):
        return None
    return library.about() if jax.default_backend() == "cpu" else "XLA"


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: Any = None,
    **options: Any,
) -> jax.Array:
    """As `jax.lax.conv_general_dilated`: same arguments, meaning, shapes and errors.

    Two-dimensional NHWC/HWIO/NHWC convolutions of float32 or bfloat16 become the primitive
    `convolution`; all others, as before, `jax.lax`'s own.

    Args:
      lhs: images [N, H, W, C].
      rhs: kernel [KH, KW, C / feature_group_count, O].
      window_strides: two integers.
      padding: "SAME", "SAME_LOWER", "VALID", or ((top, bottom), (left, right)).
      lhs_dilation: spreads the images; anything but 1 is `jax.lax`'s.
      rhs_dilation: spreads the kernel; two integers.
      dimension_numbers: as `jax.lax`'s; others than NHWC/HWIO/NHWC are `jax.lax`'s.
      feature_group_count: groups of channels; C for depthwise convolutions.
      batch_group_count: anything but 1 is `jax.lax`'s.
      precision: on GPU and TPU as `jax.lax`'s; on the CPU everything is full precision.
      preferred_element_type: anything but the images' own type is `jax.lax`'s.
      **options: what `jax.lax` takes besides; any that is set leaves it to `jax.lax`.

    Returns:
      [N, OH, OW, O], of the images' type.
    """
    if isinstance(padding, Iterator):
        padding = tuple(padding)  # type: ignore[arg-type]

    def plain(lhs, rhs):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
            **options,
        )

    ours = (
        _is_ours(lhs, rhs, dimension_numbers)
        and batch_group_count == 1
        and (lhs_dilation is None or tuple(lhs_dilation) == (1, 1))
        and (rhs_dilation is None or len(rhs_dilation) == 2)
        and preferred_element_type in (None, lhs.dtype)
        and not any(option is not None for option in options.values())
    )
    if not ours:
        return plain(lhs, rhs)
    bare = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (lhs, rhs)]
    output = jax.eval_shape(plain, *bare)  # raises what jax.lax would
    sizes = (lhs.shape, rhs.shape, output.shape)
    windows = (window_strides, padding, rhs_dilation)
    geometry = _geometry(sizes, *windows, feature_group_count, precision)
    return bind(lhs, rhs, role="output", geometry=geometry)


def _geometry(
    sizes: tuple[tuple[int, ...], ...],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int] | None,
    groups: int,
    precision: Any,
) -> Geometry:
    """Of input, kernel and output of these sizes; the rest as `conv_general_dilated` takes it."""
    images, kernel, output = sizes
    strides = tuple(map(int, window_strides))
    dilation = (1, 1) if rhs_dilation is None else tuple(map(int, rhs_dilation))
    if isinstance(padding, str):
        window = [(k - 1) * d + 1 if k else 0 for k, d in zip(kernel, dilation, strict=False)]
        padding = lax.padtype_to_pads(images[1:3], window, strides, padding)
    if isinstance(precision, list):
        precision = tuple(precision)
    return Geometry(
        input=images,
        kernel=kernel,
        output=output,
        strides=strides,
        padding=tuple((int(low), int(high)) for low, high in padding),
        dilation=dilation,
        groups=int(groups),
        precision=precision or jax.config.jax_default_matmul_precision,  # type: ignore[attr-defined]
    )


def _is_ours(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any) -> bool:
    """Rank, dimension numbers, types; sizes that are known; no explicitly sharded dimension."""
    if lhs.ndim != 4 or rhs.ndim != 4 or lhs.dtype != rhs.dtype or lhs.dtype not in DTYPES:
        return False
    if not all(isinstance(size, int) for size in (*lhs.shape, *rhs.shape)):
        return False
    found = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if found != lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUT):
        return False
    return all(set(jax.typeof(x).sharding.spec) <= {None} for x in (lhs, rhs))
