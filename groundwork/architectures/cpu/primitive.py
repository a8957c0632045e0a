"""The primitive `convolution`: what it means, its derivatives, its batching.

Its `role` says which of the three arrays of `geometry` it computes; the other two are its operands,
in the order of `ROLES`. Every derivative, of any order, is again this primitive in another role.
`lowering.py` says what computes it.
"""

# R replicates

import functools

import jax
import jax.numpy as jnp
from jax import lax
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
    """The array in `role`, given those in the two other roles.

    Args:
      first: the array of the first other role in `ROLES`; where mapped, R of them stacked along
        the first axis.
      second: that of the second, likewise.
      role: what is computed.
      geometry: of one convolution.
      replicates: R, separate convolutions; unless 1, the result is stacked too.
      mapped: whether first and second are stacked.
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


@convolution_p.def_abstract_eval
def _abstract(first, second, *, role, geometry, replicates, mapped):
    del mapped
    varying = [x.manual_axis_type.varying for x in (first, second)]
    if varying[0] != varying[1]:
        raise ValueError(f"convolution of arrays that vary along different axes: {varying}")
    leading, *rest = geometry.shape(role)
    weak = first.weak_type and second.weak_type
    return first.update(shape=(replicates * leading, *rest), weak_type=weak)


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
    found = bind(
        *stacked,
        role=role,
        geometry=geometry,
        replicates=size * replicates,
        mapped=(mapped[0] or axes[0] is not None, mapped[1] or axes[1] is not None),
    )
    leading, *rest = geometry.shape(role)
    return found.reshape(size, replicates * leading, *rest), 0


batching.primitive_batchers[convolution_p] = _batch
