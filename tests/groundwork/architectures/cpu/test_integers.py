"""Networks of integers beside integer arithmetic in numpy: every form of them, bit for bit."""

import ctypes
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundwork.architectures.cpu import integers, integers_lax, integers_packed, library
from groundwork.architectures.cpu.integers_nodes import (
    FLOAT,
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

WIDE = Range(0, -(2**23), 2**23 - 1)
needs_compiled = pytest.mark.skipif(
    not integers.fastest(), reason="integers are not compiled (make cpu), or there is no AVX-512"
)


def forms():
    """The forms that run here: jax.lax, words, bytes without VNNI, and with it where it is."""
    fastest = integers.fastest()
    return [0, *({1, 3, fastest} if fastest else ())]


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
    return within(
        SCALED(total + weights["bias"], weights["mantissa"], weights["shift"]), work.range
    )


def ran(network, weights, form, *given):
    prepared, arrays = integers.prepared(network, weights, form)
    found = jax.jit(lambda arrays, *given: integers.run(prepared, arrays, given))(arrays, *given)
    return [np.asarray(one) for one in found]


def factor(rng, least=-14, most=-6):
    return Factor(int(rng.integers(2**30, 2**31)), int(rng.integers(least, most)))


class Case(NamedTuple):
    """A convolution, and the bits of what is added to it."""

    work: Product
    image: tuple[int, int]
    added: int

    @property
    def shape(self):
        """Height, width and channels of the result."""
        h, w, _, outputs = self.work.kernel
        sides = zip(
            self.image,
            self.work.padding,
            (h, w),
            self.work.dilation,
            self.work.strides,
            strict=True,
        )
        return (*((i + sum(p) - (k - 1) * d - 1) // s + 1 for i, p, k, d, s in sides), outputs)


@st.composite
def cases(draw):
    inputs = [(1, 3), (1, 20), (1, 34), (2, 3), (3, 4), (5, 1), (37, 1)]
    groups, each = draw(st.sampled_from(inputs))
    outputs = 1 if each == 1 and draw(st.booleans()) else draw(st.sampled_from([2, 17, 70]))
    limits = WIDE if draw(st.booleans()) else Range(draw(st.integers(0, 255)), 0, 255)
    work = Product(
        kernel=(*draw(st.sampled_from([(1, 1), (3, 3), (2, 3), (1, 5)])), each, groups * outputs),
        groups=groups,
        strides=draw(st.sampled_from([(1, 1), (2, 1), (2, 2)])),
        padding=draw(st.sampled_from([((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 2), (1, 0))])),
        dilation=draw(st.sampled_from([(1, 1), (1, 2), (2, 1)])),
        zero=draw(st.sampled_from([0, 128, 255, 3])),
        left=draw(st.booleans()),
        range=limits,
    )
    image = draw(st.integers(5, 9)), draw(st.integers(9, 21))
    return Case(work, image, draw(st.sampled_from([0, 8, 32])))


def sum_of(rng, own, other_bits):
    """What adds a second value: of 8 bits, or of 24."""
    return Sum(
        own_zero=own.zero,
        own_shift=20 if own.low == 0 else 4,
        other_zero=int(rng.integers(256)) if other_bits == 8 else 0,
        other_shift=20 if other_bits == 8 else 4,
        sign=int(rng.choice([1, -1])),
        own=factor(rng, -3, 0),
        other=factor(rng, -3, 0),
        whole=factor(rng, -22, -18),
        range=Range(7, 0, 255),
    )


def numbers(rng, bits, *shape):
    if bits == 8:
        return rng.integers(0, 256, shape).astype(np.uint8)
    return rng.integers(-(2**23), 2**23, shape).astype(np.int32)


def assert_same(network, weights, expected, *given):
    for form in forms():
        for found, one in zip(ran(network, weights, form, *given), expected, strict=True):
            np.testing.assert_array_equal(found, one, err_msg=f"form {form}")


@settings(max_examples=20, deadline=None)
@given(cases(), st.sampled_from([0, 1, 2, 5]), st.integers(0, 2**32 - 1))
def test_a_convolution_is_that_of_integers(case, batch, seed):
    rng, work, outputs = np.random.default_rng(seed), case.work, case.work.kernel[3]
    mantissa = rng.integers(2**30, 2**31, outputs)
    shift = rng.integers(-14, 9 if work.left else -6, outputs)
    weights = {
        "kernel": rng.integers(-127, 128, work.kernel).astype(np.int8),
        "bias": rng.integers(-9999, 9999, outputs).astype(np.int32),
        "mantissa": mantissa.astype(np.int32),
        "shift": shift.astype(np.int32),
    }
    weights["kernel"][..., ::3] = 0
    weights["mantissa"][::5] = 0
    work = work._replace(sum=sum_of(rng, work.range, case.added) if case.added else None)
    channels = work.kernel[2] * work.groups
    sizes = [(*case.image, channels, 8)] + ([(*case.shape, case.added)] if work.sum else [])
    bits = 32 if work.range == WIDE and not work.sum else 8
    node = Node(work, tuple(range(len(sizes))), len(sizes))
    network = Network((*sizes, (*case.shape, bits)), len(sizes), (len(sizes),), (node,))
    given = [numbers(rng, size[3], batch, *size[:3]) for size in sizes]
    expected = convolved(given[0], weights, work, (batch, *case.shape))
    if work.sum:
        expected = summed(expected, given[1].astype(np.int64), work.sum)
    assert_same(network, [weights], [expected], *given)


def pooled(x, work, shape):
    """Windows of codes, place by place."""
    signed = 128 if x.dtype == np.uint8 else 0
    pads = ((0, 0), (work.before[0], 9), (work.before[1], 9), (0, 0))
    padded = np.pad(x.astype(np.int64), pads, constant_values=work.fill)
    made = np.zeros(shape, np.int64)
    for y, z in np.ndindex(*shape[1:3]):
        top, left = y * work.strides[0], z * work.strides[1]
        seen = padded[:, top : top + work.window[0], left : left + work.window[1]]
        if not work.average:
            made[:, y, z] = seen.max((1, 2))
            continue
        for index in np.ndindex(shape[0], shape[3]):
            mean = Fraction(
                int((seen[index[0], ..., index[1]] - signed).sum()), seen[0, ..., 0].size
            )
            size = math.floor(abs(mean) + Fraction(1, 2))
            made[index[0], y, z, index[1]] = (size if mean > 0 else -size) + signed
    return np.clip(made, work.range.low, work.range.high) if work.average else made


def small_nodes(rng, bits):
    """Everything but convolutions, of one value [7, 6, 21] and another: (node, expected)."""
    limits = Range(11, 0, 255)
    own = WIDE if bits == 32 else Range(9, 0, 255)
    low = own.low if bits == 32 else 0
    zero = own.zero
    return [
        (sum_of(rng, own, bits), (7, 6, 21, 8), lambda w, x, y: summed(x, y, w)),
        (
            Scale(zero, factor(rng, -18, -15) if bits == 32 else factor(rng, -2, 2), limits),
            (7, 6, 21, 8),
            lambda w, x, y: within(SCALED(x - w.zero, *w.factor), w.range),
        ),
        (
            Total(zero, factor(rng, -18, -15) if bits == 32 else factor(rng, -7, -5), limits),
            (1, 1, 21, 8),
            lambda w, x, y: within(
                SCALED((x - w.zero).sum((1, 2), keepdims=True), *w.factor), w.range
            ),
        ),
        (View(), (1, 42, 21, bits), lambda w, x, y: x.reshape(-1, 1, 42, 21)),
        (Join(), (7, 6, 42, bits), lambda w, x, y: np.concatenate([x, y], 3)),
        (Pool(False, (3, 2), (2, 2), (1, 0), low, own), (4, 3, 21, bits), None),
        (Pool(True, (3, 3), (2, 1), (1, 1), zero, own), (4, 6, 21, bits), None),
        (
            Pick((1, 2, 1, 3), (0, 1, 0, 6), (2, 3, 4, 5), 9),
            (5, 7, 11, bits),
            lambda w, x, y: np.pad(
                x[:, 1:6:2, :, 2:15:3], ((0, 0), (1, 1), (0, 1), (4, 2)), constant_values=9
            ),
        ),
        (
            Shuffle(3),
            (7, 6, 21, bits),
            lambda w, x, y: x.reshape(-1, 7, 6, 3, 7).swapaxes(3, 4).reshape(x.shape),
        ),
    ]


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("batch", [1, 3])
def test_all_else_is_that_of_integers(bits, batch):
    rng = np.random.default_rng(batch)
    works = small_nodes(rng, bits)
    sizes, nodes, weights, expected, results = [(7, 6, 21, bits)] * 2, [], [], [], []
    given = [numbers(rng, bits, batch, 7, 6, 21) for _ in range(2)]
    x, y = (one.astype(np.int64) for one in given)
    for work, size, formula in works:
        inputs = (0, 1) if isinstance(work, Sum | Join) else (0,)
        nodes.append(Node(work, inputs, len(sizes)))
        weights.append({})
        found = (
            pooled(given[0], work, (batch, *size[:3])) if formula is None else formula(work, x, y)
        )
        sizes.append(size)
        if isinstance(work, View):  # no result: something reads it
            nodes.append(Node(Scale(0, Factor(2**30, 1), WIDE), (len(sizes) - 1,), len(sizes)))
            weights.append({})
            sizes.append((*size[:3], 32))
        results.append(len(sizes) - 1)
        expected.append(found)
    if bits == 8:
        table = rng.integers(0, 256, 256).astype(np.uint8)
        nodes.append(Node(Table(), (0,), len(sizes)))
        weights.append({"table": table})
        expected.append(table[x])
        results.append(len(sizes))
        sizes.append((7, 6, 21, 8))
    assert_same(Network(tuple(sizes), 2, tuple(results), tuple(nodes)), weights, expected, *given)


def test_floats_become_the_nearest_codes_halves_to_even():
    scale = np.float32(0.1)
    x = np.concatenate([np.arange(-300, 301) / 20, [1e30, -1e30, 0.0]]).astype(np.float32)
    expected = np.clip(np.rint(x / scale) + 100, 2, 255).reshape(1, 1, 1, -1)
    x, expected = np.append(x, np.float32(np.nan)), np.append(expected, 2)[None, None, None]
    node = Node(Round(float(scale), Range(100, 2, 255)), (0,), 1)
    network = Network(((1, 1, x.size, FLOAT), (1, 1, x.size, 8)), 1, (1,), (node,))
    assert_same(network, [{"scale": np.asarray(scale)}], [expected], x.reshape(expected.shape))


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20),
    st.integers(2**30, 2**31 - 1),
    st.integers(-31, 31),
)
@settings(max_examples=60, deadline=None)
def test_a_factor_in_32_bits_is_that_of_64(values, mantissa, shift):
    values = np.array([*values, -(2**31), 2**31 - 1, 0, 1, -1][:20] + [0] * (15 - len(values)))
    values = np.resize(values, 20)
    whole = (np.full(20, number, np.int32) for number in (mantissa, shift))
    found = integers_lax.scaled(jnp.asarray(values, jnp.int32), *whole)
    assert found.tolist() == SCALED(values, mantissa, shift).tolist()


@needs_compiled
def test_a_program_that_does_not_fit_is_refused():
    node = Node(Scale(0, Factor(2**30, 1), WIDE), (0,), 1)
    network = Network(((1, 1, 4, 8), (1, 1, 5, 32)), 1, (1,), (node,))
    with pytest.raises(jax.errors.JaxRuntimeError, match="a node of other sizes than its values"):
        ran(network, [{}], 1, np.zeros((1, 1, 1, 4), np.uint8))
    network = network._replace(values=((1, 1, 4, 8), (1, 1, 4, 32)), results=(0,))
    with pytest.raises(jax.errors.JaxRuntimeError, match="a result that is given"):
        ran(network, [{}], 1, np.zeros((1, 1, 1, 4), np.uint8))
    values = ((1, 1, 4, 32),) * 3
    early = Network(values, 1, (2,), (node._replace(inputs=(1,), result=2),))
    with pytest.raises(jax.errors.JaxRuntimeError, match="a node that comes before its inputs"):
        ran(early, [{}], 1, np.zeros((1, 1, 1, 4), np.int32))
    for form in (7, -1, 2 if integers.fastest() == 1 else 9):
        with pytest.raises(ValueError, match=f"products of form {form}"):
            integers.prepared(network, [{}], form)


def test_arrays_of_another_machine_are_refused():
    node = Node(Scale(0, Factor(2**30, 1), WIDE), (0,), 1)
    network = Network(((1, 1, 4, 8), (1, 1, 4, 32)), 1, (1,), (node,))
    prepared, _ = integers.prepared(network, [{}], 0)
    with pytest.raises(ValueError, match="another machine"):
        integers.run(prepared, {"packed": jnp.zeros(0, jnp.uint8)}, [jnp.zeros((1, 1, 1, 4))])


THREADS = """
import hashlib, sys
import numpy as np
from groundwork.architectures.cpu import integers
from groundwork.architectures.cpu.integers_nodes import *
rng = np.random.default_rng(0)
work = Product((3, 3, 16, 80), 1, (1, 1), ((1, 1), (1, 1)), (1, 1), 3, False, Range(5, 0, 255))
network = Network(((9, 9, 16, 8), (9, 9, 80, 8)), 1, (1,), (Node(work, (0,), 1),))
weights = {"kernel": rng.integers(-127, 128, (3, 3, 16, 80)).astype(np.int8),
           "bias": np.zeros(80, np.int32), "mantissa": np.full(80, 2**30 + 7, np.int32),
           "shift": np.full(80, -9, np.int32)}
prepared, arrays = integers.prepared(network, [weights])
assert prepared.form
for batch in (1, 2, 7, 64):
    x = rng.integers(0, 256, (batch, 9, 9, 16)).astype(np.uint8)
    for _ in range(3):
        found = np.asarray(integers.run(prepared, arrays, [x])[0])
        print(batch, hashlib.sha256(found.tobytes()).hexdigest())
"""


@needs_compiled
def test_threads_change_no_bit():
    found = set()
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", THREADS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.update(done.stdout.split("\n")[:-1])
    assert len(found) == 4  # one answer a batch


@needs_compiled
def test_changing_shapes_leak_nothing():
    rss = Path("/proc/self/statm")
    call = ctypes.CDLL(str(library.path())).architectures_integers_planned
    call.restype = ctypes.c_int64

    def once(width):
        node = Node(Scale(0, Factor(2**30, 1), WIDE), (0,), 1)
        network = Network(((1, 4, width, 8), (1, 4, width, 32)), 1, (1,), (node,))
        fields = integers_packed.packed(network, [{}], 1)[0]
        pointer = fields.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))
        assert call(pointer, ctypes.c_int64(fields.size)) > 0

    for width in range(1, 500):
        once(width)
    before = int(rss.read_text().split()[1])
    for width in range(500, 10_500):
        once(width)
    assert (int(rss.read_text().split()[1]) - before) * 4 < 10_000  # KiB; each takes 5
