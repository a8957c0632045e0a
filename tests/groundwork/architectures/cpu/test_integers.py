"""Networks of integers beside integer arithmetic in numpy: every form of them, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jax
import jax.numpy as jnp

from groundwork.architectures.cpu import integers, integers_lax
from groundwork.architectures.cpu.integers_nodes import (
    Factor,
    Join,
    Network,
    Node,
    Pick,
    Pool,
    Product,
    Range,
    Round,
    Scale,
    Shuffle,
    Sum,
    Table,
    Total,
    View,
)

FORMS = [0, 1, 3]  # by jax.lax, by words, by bytes without VNNI


def forms():
    """The forms that run here; VNNI's where the CPU has it."""
    fastest = integers.fastest()
    return [form for form in [*FORMS, 2] if not form or form in (fastest, 1, 3) and fastest]


def scaled(value, mantissa, shift):
    """An integer times a factor, by Python's integers."""
    raised = min(max(int(value) << max(int(shift), 0), -(2**31)), 2**31 - 1)
    right = 31 + max(-int(shift), 0)
    return (raised * int(mantissa) + (1 << (right - 1))) >> right


SCALED = np.vectorize(scaled, otypes=[np.int64])


def within(value, limits):
    return np.clip(value + limits.zero, limits.low, limits.high)


def summed(own, other, work):
    one = SCALED((own - work.own_zero) << work.own_shift, *work.own)
    two = SCALED((other - work.other_zero) << work.other_shift, *work.other)
    return within(SCALED(one + work.sign * two, *work.whole), work.range)


def convolved(x, weights, work, shape):
    """A convolution of integers, place by place."""
    pads = ((0, 0), *work.padding, (0, 0))
    padded = np.pad(x.astype(np.int64) - work.zero, pads)
    kernel = weights["kernel"].astype(np.int64)
    (down, across), (over, along) = work.strides, work.dilation
    inputs, outputs = work.kernel[2], work.kernel[3] // work.groups
    total = np.zeros(shape, np.int64)
    for y, z in np.ndindex(*shape[1:3]):
        for i, j in np.ndindex(*work.kernel[:2]):
            pixel = padded[:, y * down + i * over, z * across + j * along]
            for g in range(work.groups):
                part = slice(g * outputs, (g + 1) * outputs)
                seen = pixel[:, g * inputs : (g + 1) * inputs]
                total[:, y, z, part] += seen @ kernel[i, j, :, part]
    return within(SCALED(total + weights["bias"], weights["mantissa"], weights["shift"]), work.range)


def ran(network, weights, form, *given):
    prepared, arrays = integers.prepared(network, weights, form)
    found = jax.jit(lambda arrays, *given: integers.run(prepared, arrays, given))(arrays, *given)
    return [np.asarray(one) for one in found]


def factors(rng, count=()):
    mantissa = rng.integers(2**30, 2**31, count)
    return mantissa, rng.integers(-14, -6, count)


def factor(rng, least=-14, most=-6):
    return Factor(int(rng.integers(2**30, 2**31)), int(rng.integers(least, most)))


@st.composite
def products(draw):
    """A convolution, and what is added to it."""
    groups, each = draw(st.sampled_from([(1, 3), (1, 16), (1, 20), (2, 3), (5, 1), (37, 1), (3, 4)]))
    outputs = draw(st.sampled_from([1, 2, 17, 40])) if groups < 30 else 1
    deep = groups > 3 and draw(st.booleans())
    outputs = 1 if deep else outputs
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 3), (1, 5)]))
    strides = draw(st.sampled_from([(1, 1), (2, 1), (2, 2)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 2), (2, 1)]))
    padding = draw(st.sampled_from([((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 2), (1, 0))]))
    height, width = draw(st.integers(5, 9)), draw(st.integers(9, 21))
    zero = draw(st.sampled_from([0, 128, 255, 3]))
    wide = draw(st.booleans())
    limits = Range(0, -(2**23), 2**23 - 1) if wide else Range(draw(st.integers(0, 255)), 0, 255)
    adds = draw(st.sampled_from([0, 8, 32]))
    return groups, each, outputs, kernel, strides, dilation, padding, height, width, zero, limits, adds


def sum_of(rng, own, other_bits, result):
    """Adds a second value: of 8 bits, or of 24."""
    return Sum(
        own_zero=own.zero,
        own_shift=20 if own.low == 0 else 4,
        other_zero=int(rng.integers(256)) if other_bits == 8 else 0,
        other_shift=20 if other_bits == 8 else 4,
        sign=int(rng.choice([1, -1])),
        own=factor(rng, -3, 0),
        other=factor(rng, -3, 0),
        whole=factor(rng, -22, -18),
        range=result,
    )


@settings(max_examples=25)
@given(products(), st.sampled_from([0, 1, 2, 5]), st.integers(0, 2**32 - 1))
def test_a_convolution_is_that_of_integers(case, batch, seed):
    groups, each, outputs, (h, w), strides, dilation, padding, height, width, zero, limits, adds = case
    rng = np.random.default_rng(seed)
    count = groups * outputs
    (top, bottom), (left, right) = padding
    shape = (
        (height + top + bottom - (h - 1) * dilation[0] - 1) // strides[0] + 1,
        (width + left + right - (w - 1) * dilation[1] - 1) // strides[1] + 1,
        count,
    )
    mantissa, shift = factors(rng, count)
    weights = {
        "kernel": rng.integers(-127, 128, (h, w, each, count)).astype(np.int8),
        "bias": rng.integers(-9999, 9999, count).astype(np.int32),
        "mantissa": mantissa.astype(np.int32),
        "shift": shift.astype(np.int32),
    }
    weights["kernel"][..., ::3] = 0
    result = Range(7, 0, 255)
    added = sum_of(rng, limits, adds, result) if adds else None
    work = Product(
        (h, w, each, count), groups, strides, padding, dilation, zero, False, limits, added
    )
    bits = 32 if limits.low and not adds else 8
    sizes = [(height, width, groups * each, 8)] + ([(*shape, adds)] if adds else [])
    network = Network((*sizes, (*shape, bits)), len(sizes), (len(sizes),),
                      (Node(work, tuple(range(len(sizes))), len(sizes)),))
    x = rng.integers(0, 256, (batch, height, width, groups * each)).astype(np.uint8)
    other = rng.integers(0, 256, (batch, *shape)).astype(np.uint8)
    if adds == 32:
        other = rng.integers(-(2**23), 2**23, (batch, *shape)).astype(np.int32)
    expected = convolved(x, weights, work, (batch, *shape))
    if added:
        expected = summed(expected, other.astype(np.int64), added)
    for form in forms():
        found = ran(network, [weights], form, x, *([other] if adds else []))[0]
        np.testing.assert_array_equal(found, expected, err_msg=f"form {form}")
