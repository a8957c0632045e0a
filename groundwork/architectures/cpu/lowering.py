"""What the primitive `convolution` becomes: a call of oneDNN, or `jax.lax`'s convolution.

On a CPU without instructions that multiply bfloat16, oneDNN computes a convolution of bfloat16 in
float32, between conversions: its own code for bfloat16 takes about three times as long there in
most sizes (`python -m benchmarks.bfloat16`). Where there are such instructions, so are those of few
channels: version 3.2 takes 2.6 times as long as in float32 for 16, and 1.9 times for 32.
"""

# R replicates

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import mlir

from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.geometry import ROLES, Geometry, Role, others
from groundwork.architectures.cpu.primitive import convolution_p

NARROW = 32  # channels of images up to which float32 is faster


def by_lax(
    first: jax.Array,
    second: jax.Array,
    *,
    role: Role,
    geometry: Geometry,
    replicates: int = 1,
    mapped: tuple[bool, bool] = (False, False),
    unrolled: bool = False,
) -> jax.Array:
    """Returns what `bind` returns, by `jax.lax`'s convolution and its gradients.

    The arguments are `bind`'s; if `unrolled`, each replicate has a convolution of its own, where
    `jax.vmap` would make one grouped convolution for all.
    """
    one = functools.partial(_one_by_lax, role, geometry)
    if replicates == 1:
        return one(first, second)
    rows = [
        x.reshape(replicates, *geometry.shape(of)) if is_mapped else x
        for x, of, is_mapped in zip((first, second), others(role), mapped, strict=True)
    ]
    if unrolled and replicates:
        picked = [
            [x[r] if is_mapped else x for x, is_mapped in zip(rows, mapped, strict=True)]
            for r in range(replicates)
        ]
        return jnp.concatenate([one(*pair) for pair in picked])
    results = jax.vmap(one, in_axes=tuple(0 if m else None for m in mapped))(*rows)
    return results.reshape(replicates * results.shape[1], *results.shape[2:])


def _one_by_lax(role: Role, geometry: Geometry, first: jax.Array, second: jax.Array) -> jax.Array:
    def forward(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            images,
            kernel,
            geometry.strides,
            geometry.padding,
            rhs_dilation=geometry.dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=geometry.groups,
            precision=geometry.precision,
        )

    if role == "output":
        return forward(first, second)

    def linear(unknown: jax.Array) -> jax.Array:  # first is the kernel, or else the images
        return forward(unknown, first) if role == "input" else forward(first, unknown)

    unknown = jax.typeof(second).update(shape=geometry.shape(role))
    return jax.linear_transpose(linear, unknown)(second)[0]


def _is_onednns(geometry: Geometry, bits: int) -> bool:
    """Does oneDNN compute this convolution?

    It computes all roles or none: so where it computes a model's forward pass, it computes the
    gradients too.
    """
    return all(geometry.sizes) and library.computes(
        [geometry.descriptor(role, bits) for role in ROLES]
    )


def _is_widened(geometry: Geometry, bits: int) -> bool:
    """Does oneDNN compute this convolution of bfloat16 in float32?"""
    if bits != 16 or not _is_onednns(geometry, 32):
        return False
    is_narrow = geometry.groups == 1 and geometry.input[-1] <= NARROW
    return is_narrow or not library.multiplies_bfloat16()


def in_float32(first: jax.Array, second: jax.Array, **params: Any) -> jax.Array:
    """Returns what the primitive does, computed in float32 and rounded once to bfloat16."""
    wide = [x.astype(jnp.float32) for x in (first, second)]
    return convolution_p.bind(*wide, **params).astype(jnp.bfloat16)


def _lower_on_cpu(
    context: mlir.LoweringRuleContext,
    first: Any,
    second: Any,
    *,
    role: Role,
    geometry: Geometry,
    replicates: int,
    mapped: tuple[bool, bool],
) -> Any:
    (aval,) = context.avals_out
    bits = aval.dtype.itemsize * 8
    known = all(isinstance(size, int) for size in (replicates, *geometry.sizes))
    params: dict[str, Any] = dict(
        role=role, geometry=geometry, replicates=replicates, mapped=mapped
    )
    if known and replicates and _is_widened(geometry, bits):
        wide = mlir.lower_fun(functools.partial(in_float32, **params), multiple_results=False)
        return wide(context, first, second)
    if known and replicates and _is_onednns(geometry, bits):
        return jax.ffi.ffi_lowering(library.TARGET)(
            context,
            first,
            second,
            descriptor=geometry.descriptor(role, bits),
            replicates=np.int64(replicates),
            mapped=np.array(mapped, np.int64),
        )
    rule = mlir.lower_fun(functools.partial(by_lax, unrolled=known), multiple_results=False)
    return rule(context, first, second, **params)


def register() -> None:
    """Tell JAX how to lower the primitive."""
    mlir.register_lowering(convolution_p, mlir.lower_fun(by_lax, multiple_results=False))
    mlir.register_lowering(convolution_p, _lower_on_cpu, platform="cpu")
