"""The primitive `convolution`: its meaning, its derivatives, its batching.

Its `role` says which of the three arrays of `geometry` it computes; the other two are its operands,
in the order of `ROLES`. Every derivative, of any order, is this primitive again in another role.
`lowering.py` decides what computes it.
"""

# R replicates

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, xla

from groundwork.architectures.cpu.geometry import Geometry, Role, others

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
    """Returns the array in `role`, given the arrays in the two other roles.

    Args:
      first: the array of the first other role in `ROLES`; if it is mapped, R such arrays, stacked
        along the first axis.
      second: the array of the second other role, likewise.
      role: which array is computed.
      geometry: of one convolution.
      replicates: R, the number of separate convolutions; unless it is 1, the result is stacked too.
      mapped: whether first and second are stacked.
    """
    varying = [jax.typeof(x).manual_axis_type.varying for x in (first, second)]
    both = varying[0] | varying[1]
    first, second = (
        lax.pcast(x, tuple(both - axes), to="varying") if axes != both else x
        for x, axes in zip((first, second), varying, strict=True)
    )
    return convolution_p.bind(
        first, second, role=role, geometry=geometry, replicates=replicates, mapped=mapped
    )


@convolution_p.def_abstract_eval
def _abstract(
    first: ShapedArray,
    second: ShapedArray,
    *,
    role: Role,
    geometry: Geometry,
    replicates: int,
    mapped: tuple[bool, bool],
) -> ShapedArray:
    del mapped
    varying = [x.manual_axis_type.varying for x in (first, second)]
    if varying[0] != varying[1]:
        raise ValueError(f"convolution of arrays that vary along different axes: {varying}")
    leading, *rest = geometry.shape(role)
    weak = first.weak_type and second.weak_type
    return first.update(shape=(replicates * leading, *rest), weak_type=weak)


# derivatives


def _transpose(
    which: int,
    cotangent: jax.Array,
    first: Any,
    second: Any,
    *,
    role: Role,
    geometry: Geometry,
    replicates: int,
    mapped: tuple[bool, bool],
) -> jax.Array:
    """Returns the gradient of operand `which`: this primitive in that operand's role.

    Of first and second, the other one is an array.
    """
    target = others(role)[which]
    other = others(role)[1 - which]
    given = {
        role: (cotangent, replicates != 1),
        other: ((first, second)[1 - which], mapped[1 - which]),
    }
    operands, flags = zip(*(given[r] for r in others(target)), strict=True)
    gradient = bind(*operands, role=target, geometry=geometry, replicates=replicates, mapped=flags)
    if replicates != 1 and not mapped[which]:
        gradient = gradient.reshape(replicates, *geometry.shape(target)).sum(0)
    return gradient


ad.defbilinear(convolution_p, functools.partial(_transpose, 0), functools.partial(_transpose, 1))


# batching


def _batch(
    operands: Sequence[jax.Array],
    axes: Sequence[int | None],
    *,
    role: Role,
    geometry: Geometry,
    replicates: int,
    mapped: tuple[bool, bool],
) -> tuple[jax.Array, int]:
    """Returns the result of the mapped primitive, and the new axis in it, 0.

    Where all calls share one kernel, the new axis is folded into N; otherwise it is folded into
    the replicates.
    """
    size = next(x.shape[a] for x, a in zip(operands, axes, strict=True) if a is not None)
    fronted = [
        x if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    is_new = [axis is not None for axis in axes]
    if role != "kernel" and not is_new[others(role).index("kernel")]:
        result = _fold_into_batch(size, fronted, role, geometry, replicates, mapped)
    else:
        result = _fold_into_replicates(size, fronted, is_new, role, geometry, replicates, mapped)
    leading, *rest = geometry.shape(role)
    return result.reshape(size, replicates * leading, *rest), 0


def _fold_into_batch(
    size: int,
    fronted: Sequence[jax.Array],
    role: Role,
    geometry: Geometry,
    replicates: int,
    mapped: tuple[bool, bool],
) -> jax.Array:
    """Returns [size, R, …]; the operand that is not the kernel has the new axis in front."""
    operands, data = list(fronted), 1 - others(role).index("kernel")
    shape = geometry.shape(others(role)[data])
    stacks = replicates if mapped[data] else 1
    folded = jnp.moveaxis(operands[data].reshape(size, stacks, *shape), 0, 1)
    operands[data] = folded.reshape(stacks * size * shape[0], *shape[1:])
    larger = geometry.of_batch(size * shape[0])
    result = bind(*operands, role=role, geometry=larger, replicates=replicates, mapped=mapped)
    return jnp.moveaxis(result.reshape(replicates, size, *geometry.shape(role)), 1, 0)


def _fold_into_replicates(
    size: int,
    fronted: Sequence[jax.Array],
    is_new: Sequence[bool],
    role: Role,
    geometry: Geometry,
    replicates: int,
    mapped: tuple[bool, bool],
) -> jax.Array:
    """Returns size · R results, stacked; operands with `is_new` have the new axis in front."""
    stacked = []
    for x, new, old, of in zip(fronted, is_new, mapped, others(role), strict=True):
        leading, *rest = geometry.shape(of)
        if old and not new:  # repeat it along the new axis
            x = jnp.broadcast_to(x, (size, *x.shape))
        elif new and not old and replicates != 1:  # repeat it along the old one
            x = jnp.broadcast_to(x[:, None], (size, replicates, leading, *rest))
        copies = size * replicates if old or new else 1
        stacked.append(x.reshape(copies * leading, *rest))
    return bind(
        *stacked,
        role=role,
        geometry=geometry,
        replicates=size * replicates,
        mapped=(mapped[0] or is_new[0], mapped[1] or is_new[1]),
    )


batching.primitive_batchers[convolution_p] = _batch
