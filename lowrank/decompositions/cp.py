"""Canonical polyadic: a tensor as a sum of K outer products. Read `decompose` first."""

# n_i size of mode i, K rank, R starts, KH KW window

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from groundwork.numerics import arrays
from lowrank.decompositions import als

Factors = als.Factors  # [n_i, K] each


class CP(NamedTuple):
    """Component k is the outer product of the k-th columns, which share its norm evenly."""

    factors: Factors  # [n_i, K] each
    converged: jax.Array  # [] bool: the error had stopped falling
    sweeps: jax.Array  # [] int32: the number done from the start that was best
    error: jax.Array  # [], relative


class Kernels(NamedTuple):
    """Four convolutions in turn, HWIO: 1×1, KH×1 and 1×KW depthwise (K groups), 1×1."""

    first: jax.Array  # [1, 1, in, K]
    vertical: jax.Array  # [KH, 1, 1, K]
    horizontal: jax.Array  # [1, KW, 1, K]
    last: jax.Array  # [1, 1, K, out]


def decompose(
    key: jax.Array | None,
    tensor: jax.Array,
    rank: int,
    restarts: int = 4,
    sweeps: int = 100,
    init: Sequence[jax.Array] | None = None,
    tolerance: float = 1e-6,
    ridge: float = 1e-6,
) -> CP:
    """Decomposes a tensor by alternating least squares from several starts at once.

    A sweep renews the factors in turn, the first mode first. Each start returns the best factors
    that it had at a check (every 10 sweeps), so that a late divergence costs nothing, and it stops
    when 10 sweeps bring less than `tolerance`; the best start is returned. A ridge keeps components
    from growing against each other without bound where the tensor has no best approximation of that
    rank (de Silva & Lim 2008): with unit columns in the other factors, `ridge` times the squared
    norm of the components is added to the squared relative error. A tensor of exactly that rank is
    still met to about 1e-5. `stabilize` lowers their norm further. It works under vmap, but is not
    reverse-differentiable (a loop of unknown length); `reconstruct` is.

    Args:
      key: draws the starts, whose entries are normal; not needed with `init`.
      tensor: of order 2 or more; computed in float32 unless it is float64.
      rank: K, 1 … product of all sizes but the largest. At that rank, without `init`, the factors
        are exact: each component is a fibre along the largest mode.
      restarts: R starts, which are mapped: one compilation, and about R times the work.
      sweeps: the most for each start; another number compiles nothing.
      init: factors [n_i, K] to start from; this is the only start then.
      tolerance: on the fall of the relative error in 10 sweeps; 0 to do all sweeps.
      ridge: relative to the mean diagonal entry of the normal equations' matrix; 0 for none.

    Raises:
      ValueError: the order is below 2, entries are not finite, the rank is outside its range,
        starting factors have other shapes, there is neither key nor `init`, or restarts or sweeps
        are below 1.

    Source: Kolda & Bader 2009, Figure 3.3; the grouping of modes is that of Phan et al. 2013
    ("Fast alternating LS algorithms for high order CANDECOMP/PARAFAC tensor factorizations").

    Example:
        >>> from lowrank import cp
        >>> tensor = jnp.ones((2, 3, 4))  # one outer product of ones
        >>> found = cp.decompose(jax.random.key(0), tensor, rank=1)
        >>> [factor.shape for factor in found.factors], bool(found.error < 1e-3)
        ([(2, 1), (3, 1), (4, 1)], True)
    """
    tensor, rank = _checked(tensor, rank)
    if min(restarts, sweeps) < 1:
        raise ValueError(f"restarts={restarts}, sweeps={sweeps}: 1 at least")
    if init is not None:
        starts = tuple(factor[None] for factor in checked_factors(init, tensor, rank))
    elif rank == math.prod(tensor.shape) // max(tensor.shape):
        return _exact(tensor)
    elif key is None:
        raise ValueError("a key is needed to draw the starts, or init to start from")
    else:
        keys = jax.random.split(key, tensor.ndim)
        starts = tuple(
            jax.random.normal(k, (restarts, size, rank), tensor.dtype)
            for k, size in zip(keys, tensor.shape, strict=True)
        )
    return _best(tensor, starts, sweeps, float(tolerance), float(ridge))


def reconstruct(factors: Sequence[jax.Array]) -> jax.Array:
    """Returns the tensor [n_0, n_1, …] that the factors [n_i, K] make up.

    Example:
        >>> from lowrank import cp
        >>> rows, columns = jnp.array([[1.0], [2.0]]), jnp.array([[3.0], [4.0]])  # [2, 1] each
        >>> cp.reconstruct((rows, columns)).tolist()
        [[3.0, 4.0], [6.0, 8.0]]
    """
    shape = tuple(factor.shape[0] for factor in factors)
    return als.product(tuple(factors), als.cut_at(shape)).reshape(shape)


def norms(factors: Sequence[jax.Array]) -> jax.Array:
    """Returns the norms [K] of the components, which cancel if far above the tensor's norm.

    Example:
        >>> from lowrank import cp
        >>> rows, columns = jnp.array([[3.0, 1.0], [4.0, 0.0]]), jnp.array([[2.0, 1.0]])
        >>> cp.norms((rows, columns)).tolist()  # 5 × 2 and 1 × 1
        [10.0, 1.0]
    """
    product = arrays.norm(factors[0], 0)
    for factor in factors[1:]:
        product = product * arrays.norm(factor, 0)
    return product


def balance(factors: Sequence[jax.Array]) -> Factors:
    """Returns factors of the same tensor, each component's norm spread evenly over its columns.

    Example:
        >>> from lowrank import cp
        >>> rows, columns = cp.balance((jnp.array([[8.0]]), jnp.array([[2.0]])))
        >>> rows.round().tolist(), columns.round().tolist()  # 16 = 4 × 4
        ([[4.0]], [[4.0]])
    """
    root = norms(factors) ** (1 / len(factors))
    return tuple(als.unit(factor) * root[None, :] for factor in factors)


def kernels(factors: Sequence[jax.Array]) -> Kernels:
    """Returns four convolutions from the factors of a kernel (height, width, inputs, outputs).

    The vertical one takes the strides and paddings of the height, the horizontal one those of
    the width; both have `feature_group_count=K`.

    Raises:
      ValueError: there are not four factors.

    Source: Lebedev et al., arXiv:1412.6553, Section 3.2.

    Example:
        >>> from lowrank import cp
        >>> height, width, inputs, outputs = (jnp.ones((size, 2)) for size in (3, 3, 8, 16))
        >>> [kernel.shape for kernel in cp.kernels((height, width, inputs, outputs))]
        [(1, 1, 8, 2), (3, 1, 1, 2), (1, 3, 1, 2), (1, 1, 2, 16)]
    """
    if len(factors) != 4:
        raise ValueError(f"a kernel has four factors (height, width, in, out), not {len(factors)}")
    height, width, inputs, outputs = factors
    return Kernels(
        inputs[None, None],
        height[:, None, None],
        width[None, :, None],
        outputs.T[None, None],
    )


def _checked(tensor: jax.Array, rank: int) -> tuple[jax.Array, int]:
    tensor = arrays.floats(tensor, "tensor")
    if tensor.ndim < 2:
        raise ValueError(f"a tensor of order 2 or more is needed, not shape {tensor.shape}")
    full = math.prod(tensor.shape) // max(tensor.shape)
    return tensor, arrays.checked_rank(rank, full, f"a tensor {tensor.shape}")


def checked_factors(factors: Sequence[jax.Array], tensor: jax.Array, rank: int) -> Factors:
    """Returns the factors in the tensor's dtype.

    Raises:
      ValueError: their shapes are not [n_i, rank], or entries are not finite.

    Example:
        >>> from lowrank import cp
        >>> factors = [jnp.ones((2, 1)), jnp.ones((3, 1))]
        >>> [factor.shape for factor in cp.checked_factors(factors, jnp.ones((2, 3)), rank=1)]
        [(2, 1), (3, 1)]
        >>> cp.checked_factors(factors, jnp.ones((2, 3)), rank=2)
        Traceback (most recent call last):
            ...
        ValueError: factors have the shapes [(2, 1), (3, 1)], but [(2, 2), (3, 2)] are needed
    """
    want = [(size, rank) for size in tensor.shape]
    got = [tuple(jnp.shape(factor)) for factor in factors]
    if got != want:
        raise ValueError(f"factors have the shapes {got}, but {want} are needed")
    return tuple(
        arrays.floats(factor, f"factor {mode}").astype(tensor.dtype)
        for mode, factor in enumerate(factors)
    )


@arrays.jit
def _exact(tensor: jax.Array) -> CP:
    """Returns one component for each fibre of the largest mode; the other factors are one-hot."""
    largest = max(range(tensor.ndim), key=lambda mode: tensor.shape[mode])
    others = tensor.shape[:largest] + tensor.shape[largest + 1 :]
    places = jnp.unravel_index(jnp.arange(math.prod(others)), others)
    columns = [jax.nn.one_hot(at, size).T for at, size in zip(places, others, strict=True)]
    columns.insert(largest, jnp.moveaxis(tensor, largest, 0).reshape(tensor.shape[largest], -1))
    factors = balance([factor.astype(tensor.dtype) for factor in columns])
    error = arrays.relative_error(tensor, reconstruct(factors))
    return CP(factors, jnp.array(True), jnp.zeros((), jnp.int32), error)


@arrays.jit
def _best(
    tensor: jax.Array, starts: Factors, sweeps: jax.Array, tolerance: jax.Array, ridge: jax.Array
) -> CP:
    """Returns the result of the best of the starts [R, n_i, K]."""
    scale = arrays.norm(tensor)
    unit = jnp.where(scale > 0, scale, 1)
    tensor, starts = tensor / unit, (starts[0] / unit, *starts[1:])
    ridge = jnp.asarray(ridge, tensor.dtype)
    ends = jax.vmap(lambda start: als.run(tensor, start, sweeps, tolerance, ridge))(starts)
    end = jax.tree.map(lambda leaf: leaf[jnp.argmin(ends.error)], ends)
    factors = (end.best[0] * scale, *end.best[1:])
    return CP(balance(factors), end.converged, end.sweeps, end.error)
