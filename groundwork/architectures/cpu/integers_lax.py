"""Networks of integers by `jax.lax`: the portable form of `integers.h`, bit for bit."""

# N batch, H W image, C O channels in and out

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork.architectures.cpu.integers_nodes import (
    BITS,
    Factor,
    Join,
    Network,
    Pick,
    Pool,
    Product,
    Range,
    Round,
    Scale,
    Shuffle,
    Sizes,
    Sum,
    Table,
    Total,
    View,
    Work,
)

Arrays = Mapping[str, jax.Array]
LARGEST = 2**31 - 1


def run(network: Network, weights: Sequence[Arrays], given: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns the results of a network; see `integers.run`."""
    values = dict(enumerate(given))
    for node, own in zip(network.nodes, weights, strict=True):
        sizes = network.values[node.result]
        made = _made(node.work, [values[value] for value in node.inputs], own, sizes)
        values[node.result] = made.astype(BITS[sizes[3]])
    return [values[value] for value in network.results]


def scaled(value: jax.Array, mantissa: jax.Array, shift: jax.Array) -> jax.Array:
    """Returns integers times a fixed-point factor, rounded once, halves up.

    Args:
      value: int32, any shape.
      mantissa: int32 from 0, of the same shape.
      shift: int32 −31 … 31, of the same shape.
    """
    left, right = jnp.maximum(shift, 0), jnp.maximum(-shift, 0)
    most = jnp.right_shift(jnp.int32(LARGEST), left)
    raised = jnp.where(value > most, LARGEST, jnp.left_shift(value, left))
    raised = jnp.where(value < -most - 1, -LARGEST - 1, raised)
    high, low = _product(raised, mantissa)
    # plus 2^(30 + right), then all of it 31 + right bits to the right
    small = jnp.where(right == 0, jnp.uint32(1 << 30), jnp.uint32(1 << 31))
    added = jnp.where(right < 2, low + small, low)
    high = high + (added < low).astype(jnp.int32)
    high = high + jnp.where(right < 2, 0, jnp.left_shift(1, jnp.maximum(right - 2, 0)))
    whole = jnp.left_shift(high, 1) | jnp.right_shift(added, jnp.uint32(31)).astype(jnp.int32)
    return jnp.where(right == 0, whole, jnp.right_shift(high, jnp.maximum(right - 1, 0)))


def _product(value: jax.Array, factor: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the upper (int32) and lower (uint32) half of an integer times one from 0."""
    a, b = (lax.bitcast_convert_type(x, jnp.uint32) for x in (value, factor))
    half, mask = jnp.uint32(16), jnp.uint32(0xFFFF)
    a0, a1, b0, b1 = a & mask, a >> half, b & mask, b >> half
    middle = (a0 * b0 >> half) + (a0 * b1 & mask) + (a1 * b0 & mask)
    high = a1 * b1 + (a0 * b1 >> half) + (a1 * b0 >> half) + (middle >> half)
    high = jnp.where(value < 0, high - b, high)
    return lax.bitcast_convert_type(high, jnp.int32), a * b


def _by(value: jax.Array, factor: Factor) -> jax.Array:
    mantissa, shift = (jnp.full(value.shape, number, jnp.int32) for number in factor)
    return scaled(value, mantissa, shift)


def _within(value: jax.Array, limits: Range) -> jax.Array:
    return jnp.clip(value, limits.low - limits.zero, limits.high - limits.zero) + limits.zero


def _sum(own: jax.Array, other: jax.Array, work: Sum) -> jax.Array:
    one = _by((own.astype(jnp.int32) - work.own_zero) << work.own_shift, work.own)
    two = _by((other.astype(jnp.int32) - work.other_zero) << work.other_shift, work.other)
    return _within(_by(one + work.sign * two, work.whole), work.range)


def _made(work: Work, inputs: list[jax.Array], own: Arrays, sizes: Sizes) -> jax.Array:
    """Returns what a node makes."""
    x, shape = inputs[0], (inputs[0].shape[0], *sizes[:3])
    match work:
        case Round(_, limits):
            # by a number alone XLA divides as it multiplies, with what 1 / scale rounds to
            scale = lax.optimization_barrier(jnp.broadcast_to(own["scale"], x.shape))
            steps = jnp.round(x / scale) + limits.zero
            steps = jnp.where(jnp.isnan(steps), limits.low, steps)
            return jnp.clip(steps, limits.low, limits.high)
        case Product():
            made = _convolved(x, own, work)
            return _sum(made, inputs[1].reshape(shape), work.sum) if work.sum else made
        case Sum():
            return _sum(x.reshape(shape), inputs[1].reshape(shape), work)
        case Scale(zero, factor, limits):
            return _within(_by(x.astype(jnp.int32) - zero, factor), limits).reshape(shape)
        case Total(zero, factor, limits):
            total = (x.astype(jnp.int32) - zero).sum((1, 2), keepdims=True)
            return _within(_by(total, factor), limits).reshape(shape)
        case Table():
            return own["table"][x.astype(jnp.int32)].reshape(shape)
        case View():
            return x.reshape(shape)
        case Join():
            return jnp.concatenate(inputs, 3)
        case Pool():
            return _pooled(x, work, shape)
        case Pick():
            return _picked(x, work, shape)
        case Shuffle(groups):
            grouped = x.reshape(*shape[:3], groups, shape[3] // groups)
            return grouped.swapaxes(-1, -2).reshape(shape)
    raise AssertionError(work)


def _convolved(x: jax.Array, own: Arrays, work: Product) -> jax.Array:
    total = lax.conv_general_dilated(
        x.astype(jnp.int32) - work.zero,
        own["kernel"].astype(jnp.int32),
        work.strides,
        work.padding,
        rhs_dilation=work.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=work.groups,
        preferred_element_type=jnp.int32,
    )
    bias, mantissa, shift = (
        jnp.broadcast_to(own[name], total.shape) for name in ("bias", "mantissa", "shift")
    )
    return _within(scaled(total + bias, mantissa, shift), work.range)


def _pooled(x: jax.Array, work: Pool, shape: tuple[int, ...]) -> jax.Array:
    ends = [
        max((count - 1) * stride + window - before - size, 0)
        for count, stride, window, before, size in zip(
            shape[1:3], work.strides, work.window, work.before, x.shape[1:3], strict=True
        )
    ]
    pads = [(0, 0), *((b, e) for b, e in zip(work.before, ends, strict=True)), (0, 0)]
    window, strides = (1, *work.window, 1), (1, *work.strides, 1)
    padded = jnp.pad(x.astype(jnp.int32), pads, constant_values=work.fill)
    if not work.average:
        return lax.reduce_window(padded, jnp.int32(-LARGEST - 1), lax.max, window, strides, "VALID")
    signed = 128 if x.dtype == jnp.uint8 else 0
    total = lax.reduce_window(padded - signed, jnp.int32(0), lax.add, window, strides, "VALID")
    area = int(np.prod(work.window))
    mean = jnp.sign(total) * ((jnp.abs(total) + area // 2) // area)
    return jnp.clip(mean + signed, work.range.low, work.range.high)


def _picked(x: jax.Array, work: Pick, shape: tuple[int, ...]) -> jax.Array:
    axes = (work.rows, work.columns, work.channels)
    taken = x[(slice(None), *(slice(a, a + (n - 1) * s + 1, s) for a, s, _, n in axes))]
    pads = [(b, size - b - n) for (_, _, b, n), size in zip(axes, shape[1:], strict=True)]
    fill = jnp.asarray(work.fill, x.dtype)
    return jnp.pad(taken, [(0, 0), *pads], constant_values=fill)
