"""Convolutions that oneDNN computes on the CPU where it is built (`make cpu`), and XLA elsewhere.

`conv_general_dilated` takes the place of `jax.lax.conv_general_dilated`, above all in
`flax.linen.Conv(conv_general_dilated=...)`. Its trace is the same with and without oneDNN. On the
CPU it is lowered to a call of oneDNN; on GPU and TPU, to exactly `jax.lax`'s convolution and
gradients. `cpu/library.py` says when oneDNN is used and how it is switched off.
"""

# N batch, H W image, C channels, KH KW window, O channels out, R replicates

from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax import lax

from groundwork import trees
from groundwork.architectures.cpu import library, lowering, products
from groundwork.architectures.cpu.geometry import Geometry
from groundwork.architectures.cpu.primitive import bind, convolution_p

lowering.register()
products.register()

LAYOUT = ("NHWC", "HWIO", "NHWC")
DTYPES = ("float32", "bfloat16")


def available() -> bool:
    """Does oneDNN compute convolutions on this machine's CPU, in this process?"""
    return library.load() is not None


def computed_by(module: Any, example: Any) -> str | None:
    """Returns what computes a network's convolutions in this process, None if it has none.

    Args:
      module: a network.
      example: the shape of one example of floats, or a tree of the inputs' shapes [1, …].

    Returns:
      `XLA`, or for example `oneDNN 3.2.0 (avx512_core_amx) on 2 threads`: where two runs were
      computed by different ones, their last bits differ. Only convolutions that
      `conv_general_dilated` has made here count, and products of bfloat16 where oneDNN computes
      them; a network that has only others has None.
    """
    trace = str(jax.make_jaxpr(module.init)(jax.random.key(0), trees.example(example)))
    is_half = products.has_bfloat16() and " dot_general[" in trace and ":bf16[" in trace
    if f" {convolution_p.name}[" not in trace and not is_half:
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
    """Returns what `jax.lax.conv_general_dilated` does: same arguments, shapes and errors.

    Two-dimensional NHWC/HWIO/NHWC convolutions of float32 or bfloat16 become the primitive
    `convolution`; all others are left to `jax.lax`.

    Args:
      lhs: images [N, H, W, C].
      rhs: kernel [KH, KW, C / feature_group_count, O].
      window_strides: two integers.
      padding: "SAME", "SAME_LOWER", "VALID", or ((top, bottom), (left, right)).
      lhs_dilation: spreads the images; anything but 1 is left to `jax.lax`.
      rhs_dilation: spreads the kernel; two integers.
      dimension_numbers: as for `jax.lax`, to which all but NHWC/HWIO/NHWC are left.
      feature_group_count: groups of channels; C for depthwise convolutions.
      batch_group_count: anything but 1 is left to `jax.lax`.
      precision: as for `jax.lax` on GPU and TPU; on the CPU everything has full precision.
      preferred_element_type: anything but the images' type is left to `jax.lax`.
      **options: further arguments of `jax.lax`, to which the call is left if one of them is set.

    Returns:
      [N, OH, OW, O], of the images' type.
    """
    if isinstance(padding, Iterator):
        padding = tuple(padding)  # type: ignore[arg-type]
    rest = {
        "lhs_dilation": lhs_dilation,
        "batch_group_count": batch_group_count,
        "preferred_element_type": preferred_element_type,
        "dimension_numbers": dimension_numbers,
        **options,
    }

    def plain(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            rhs_dilation=rhs_dilation,
            feature_group_count=feature_group_count,
            precision=precision,
            **rest,
        )

    if not _is_ours(lhs, rhs, rhs_dilation, **rest):
        return plain(lhs, rhs)
    bare = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (lhs, rhs)]
    output = jax.eval_shape(plain, *bare)  # raises what jax.lax would raise
    sizes = (lhs.shape, rhs.shape, output.shape)
    windows = (window_strides, padding, rhs_dilation)
    described = _geometry(sizes, *windows, feature_group_count, precision)
    return bind(lhs, rhs, role="output", geometry=described)


def geometry(
    images: Any,
    kernel: Any,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Geometry:
    """Returns the geometry of a convolution [N, H, W, C] × [KH, KW, C / groups, O].

    Raises:
      ValueError or TypeError: as `jax.lax.conv_general_dilated`.
    """
    output = jax.eval_shape(
        lambda images, kernel: lax.conv_general_dilated(
            images,
            kernel,
            strides,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=LAYOUT,
            feature_group_count=groups,
        ),
        *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (images, kernel)),
    )
    return _geometry((images.shape, kernel.shape, output.shape), strides, padding, dilation, groups)


def _geometry(
    sizes: tuple[tuple[int, ...], ...],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int] | None,
    groups: int,
    precision: Any = None,
) -> Geometry:
    """Returns the geometry of input, kernel and output of these sizes.

    The other arguments are `conv_general_dilated`'s.
    """
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


def _is_ours(
    lhs: jax.Array,
    rhs: jax.Array,
    rhs_dilation: Sequence[int] | None,
    *,
    lhs_dilation: Sequence[int] | None,
    batch_group_count: int,
    preferred_element_type: Any,
    dimension_numbers: Any,
    **options: Any,
) -> bool:
    """Does the call become the primitive `convolution`?

    Rank, types and dimension numbers decide, and the arguments that the primitive lacks; all sizes
    must be known, and no dimension may be sharded explicitly.
    """
    if lhs.ndim != 4 or rhs.ndim != 4 or lhs.dtype != rhs.dtype or lhs.dtype not in DTYPES:
        return False
    if not all(isinstance(size, int) for size in (*lhs.shape, *rhs.shape)):
        return False
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if numbers != lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUT):
        return False
    if any(set(jax.typeof(x).sharding.spec) - {None} for x in (lhs, rhs)):
        return False
    return (
        batch_group_count == 1
        and (lhs_dilation is None or tuple(lhs_dilation) == (1, 1))
        and (rhs_dilation is None or len(rhs_dilation) == 2)
        and preferred_element_type in (None, lhs.dtype)
        and all(option is None for option in options.values())
    )
