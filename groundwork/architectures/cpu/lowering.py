"""What the primitive `convolution` becomes: a call of oneDNN on the CPU, or `jax.lax`'s own."""

# R replicates

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import mlir

from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.geometry import ROLES, Geometry, others
from groundwork.architectures.cpu.primitive import convolution_p


def by_lax(first, second, *, role, geometry, replicates=1, mapped=(False, False), unrolled=False):
    """The same by `jax.lax`'s convolution and its gradients; arguments as `bind`'s.

    Under `unrolled`, one convolution a replicate instead of `jax.vmap`'s grouped one.
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
    found = jax.vmap(one, in_axes=tuple(0 if m else None for m in mapped))(*rows)
    return found.reshape(replicates * found.shape[1], *found.shape[2:])


def _one_by_lax(role, geometry, first, second):
    def forward(images, kernel):
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
    given = forward if role == "input" else lambda kernel, images: forward(images, kernel)
    other = first  # kernel for the input's gradient, images for the kernel's
    unknown = jax.typeof(second).update(shape=geometry.shape(role))
    return jax.linear_transpose(lambda x: given(x, other), unknown)(second)[0]


def _is_onednns(geometry: Geometry, bits: int) -> bool:
    """All roles or none, so that where a model's forward pass is oneDNN's, its gradients are."""
    return all(geometry.sizes) and library.computes(
        [geometry.descriptor(role, bits) for role in ROLES]
    )


def _lower_on_cpu(context, first, second, *, role, geometry, replicates, mapped):
    (aval,) = context.avals_out
    bits = aval.dtype.itemsize * 8
    known = all(isinstance(size, int) for size in (replicates, *geometry.sizes))
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
    params = dict(role=role, geometry=geometry, replicates=replicates, mapped=mapped)
    return rule(context, first, second, **params)


def register() -> None:
    """Tell JAX."""
    mlir.register_lowering(convolution_p, mlir.lower_fun(by_lax, multiple_results=False))
    mlir.register_lowering(convolution_p, _lower_on_cpu, platform="cpu")
