"""The primitive `convolution`: what it means, its derivatives, its batching, what it lowers to.

A convolution relates three arrays: input, kernel and output. It is linear in input and kernel, so
with any two given the third slot has one array: the output itself, or the gradient with respect to
the input or the kernel. The primitive's `role` says which; the other two are its operands, in the
order above. Every derivative, of any order, is again this primitive in another role.
"""

# N batch, H W image, C channels, KH KW window, O channels out, R replicates

import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

from architectures.cpu import library

Role = Literal["input", "kernel", "output"]
ROLES: tuple[Role, ...] = ("input", "kernel", "output")
Shape = tuple[int, ...]


class Geometry(NamedTuple):
    """One convolution, without dtype.

    Attributes:
      input: N, H, W, C.
      kernel: KH, KW, C / groups, O.
      output: N, OH, OW, O.
      strides: of the window, in rows and columns.
      padding: (top, bottom), (left, right); negative ones crop.
      dilation: of the kernel, in rows and columns; 1 is none.
      groups: of channels.
      precision: `jax.lax`'s, for GPU and TPU.
    """

    input: Shape
    kernel: Shape
    output: Shape
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    precision: Any

    @property
    def multiply_adds(self) -> int:
        """MACs in any role; those with padding count."""
        return math.prod(self.output) * math.prod(self.kernel[:3])

    def shape(self, role: Role) -> Shape:
        """Of the array in this role."""
        return {"input": self.input, "kernel": self.kernel, "output": self.output}[role]

    def of_batch(self, batch: int) -> "Geometry":
        """The same with another N."""
        return self._replace(input=(batch, *self.input[1:]), output=(batch, *self.output[1:]))

    def descriptor(self, role: Role, bits: int) -> np.ndarray:
        """As `convolution.cc` reads it, [20] int64."""
        (n, h, w, c), (kh, kw, _, o), (_, oh, ow, _) = self.input, self.kernel, self.output
        (top, bottom), (left, right) = self.padding
        fields = [ROLES.index(role), bits, n, h, w, c, kh, kw, o, oh, ow, *self.strides]
        return np.array([*fields, top, bottom, left, right, *self.dilation, self.groups], np.int64)


convolution_p = Primitive("convolution")
convolution_p.def_impl(functools.partial(xla.apply_primitive, convolution_p))


def bind(
    first: jax.Array,
    second: jax.Array,
    *,
    role: Role,
    geometry: Geometry,
    replicates: int = 1,
    mapped: tuple[bool, bool] = (False, False),
) -> jax.Array:
    """The array in `role`, given those in the two other roles.

    Args:
      first: the array of the first other role in `ROLES`; where mapped, R of them stacked along
        the first axis.
      second: that of the second, likewise.
      role: what is computed.
      geometry: of one convolution.
      replicates: R, separate convolutions; unless 1, the result is stacked too.
      mapped: whether first and second are stacked; not where R is 1.
    """
    axes = [jax.typeof(x).manual_axis_type.varying for x in (first, second)]
    both = axes[0] | axes[1]
    first, second = (
        lax.pcast(x, tuple(both - own), to="varying") if own != both else x
        for x, own in zip((first, second), axes, strict=True)
    )
    return convolution_p.bind(
        first, second, role=role, geometry=geometry, replicates=replicates, mapped=mapped
    )


def others(role: Role) -> list[Role]:
    """The roles of the operands."""
    return [other for other in ROLES if other != role]


@convolution_p.def_abstract_eval
def _abstract(first, second, *, role, geometry, replicates, mapped):
    del mapped
    varying = [x.manual_axis_type.varying for x in (first, second)]
    if varying[0] != varying[1]:
        raise ValueError(f"convolution of arrays that vary along different axes: {varying}")
    leading, *rest = geometry.shape(role)
    return first.update(shape=(replicates * leading, *rest), weak_type=False)


# derivatives


def _transpose(which, cotangent, first, second, *, role, geometry, replicates, mapped):
    """The gradient with respect to operand `which`: this primitive in that operand's role."""
    target = others(role)[which]
    kept = others(role)[1 - which]
    given = {
        role: (cotangent, replicates != 1),
        kept: ((first, second)[1 - which], mapped[1 - which]),
    }
    operands, flags = zip(*(given[r] for r in others(target)), strict=True)
    found = bind(*operands, role=target, geometry=geometry, replicates=replicates, mapped=flags)
    if replicates != 1 and not mapped[which]:
        found = found.reshape(replicates, *geometry.shape(target)).sum(0)
    return found


ad.defbilinear(convolution_p, functools.partial(_transpose, 0), functools.partial(_transpose, 1))


# batching


def _batch(operands, axes, *, role, geometry, replicates, mapped):
    """Folds the new axis into N where all share one kernel; else the axis becomes replicates."""
    size = next(x.shape[a] for x, a in zip(operands, axes, strict=True) if a is not None)
    fronted = [
        x if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    kernel = others(role).index("kernel") if role != "kernel" else None
    if kernel is not None and axes[kernel] is None:
        data = 1 - kernel
        shape = geometry.shape(others(role)[data])
        stacks = replicates if mapped[data] else 1
        folded = jnp.moveaxis(fronted[data].reshape(size, stacks, *shape), 0, 1)
        fronted[data] = folded.reshape(stacks * size * shape[0], *shape[1:])
        found = bind(
            *fronted,
            role=role,
            geometry=geometry.of_batch(size * shape[0]),
            replicates=replicates,
            mapped=mapped,
        )
        leading, *rest = geometry.shape(role)
        found = jnp.moveaxis(found.reshape(replicates, size, leading, *rest), 1, 0)
        return found.reshape(size, replicates * leading, *rest), 0
    stacked = []
    for x, axis, was, of in zip(fronted, axes, mapped, others(role), strict=True):
        leading, *rest = geometry.shape(of)
        if axis is None and was:  # repeated along the new axis
            x = jnp.broadcast_to(x, (size, *x.shape))
        elif axis is not None and not was and replicates != 1:  # along the old one
            x = jnp.broadcast_to(x[:, None], (size, replicates, leading, *rest))
        copies = size * replicates if was or axis is not None else 1
        stacked.append(x.reshape(copies * leading, *rest))
    several = size * replicates != 1
    found = bind(
        *stacked,
        role=role,
        geometry=geometry,
        replicates=size * replicates,
        mapped=(
            several and (mapped[0] or axes[0] is not None),
            several and (mapped[1] or axes[1] is not None),
        ),
    )
    leading, *rest = geometry.shape(role)
    return found.reshape(size, replicates * leading, *rest), 0


batching.primitive_batchers[convolution_p] = _batch


# lowering


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
    sizes = (*geometry.input, *geometry.kernel, *geometry.output)
    if not all(sizes) or min(map(min, geometry.padding)) < 0:  # nothing to compute, or cropping
        return False
    return library.computes([geometry.descriptor(role, bits) for role in ROLES])


def _lower_on_cpu(context, first, second, *, role, geometry, replicates, mapped):
    (aval,) = context.avals_out
    bits = aval.dtype.itemsize * 8
    if replicates and _is_onednns(geometry, bits):
        return jax.ffi.ffi_lowering(library.TARGET)(
            context,
            first,
            second,
            descriptor=geometry.descriptor(role, bits),
            replicates=np.int64(replicates),
            mapped=np.array(mapped, np.int64),
        )
    rule = mlir.lower_fun(functools.partial(by_lax, unrolled=True), multiple_results=False)
    params = dict(role=role, geometry=geometry, replicates=replicates, mapped=mapped)
    return rule(context, first, second, **params)


mlir.register_lowering(convolution_p, mlir.lower_fun(by_lax, multiple_results=False))
mlir.register_lowering(convolution_p, _lower_on_cpu, platform="cpu")
