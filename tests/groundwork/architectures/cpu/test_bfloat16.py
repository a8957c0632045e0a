"""Convolutions of bfloat16 on the CPU: which instructions compute them, and how they round."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.geometry import ROLES, Geometry, others
from groundwork.architectures.cpu.primitive import bind
from tests.groundwork.architectures.cpu.onednn import (
    energy,
    needs_onednn,
    normal,
    ours,
    text,
)
from tests.groundwork.architectures.small import quickly

pytestmark = needs_onednn
HALF_A_PLACE = 2.0**-8  # of a number's size: the most by which rounding to bfloat16 changes it
LONG_SUMS = 2.0**-20  # of the sum of sizes: the most by which sums of float32 are off here


@pytest.fixture(params=[True, False], ids=["has bfloat16", "has none"])
def has_bfloat16(request, monkeypatch):
    """As on a CPU with instructions that multiply bfloat16, and as on one without."""
    monkeypatch.setattr(library, "multiplies_bfloat16", lambda: request.param)
    return request.param


def windows(x, geometry):
    """Yields, for each tap of the window, its place and what it sees of padded images."""
    (_, oh, ow, _), dilation = geometry.output, geometry.dilation
    spans = [(o - 1) * s + 1 for o, s in zip((oh, ow), geometry.strides, strict=True)]
    for tap in np.ndindex(geometry.kernel[:2]):
        first = [place * step for place, step in zip(tap, dilation, strict=True)]
        rows, columns = (
            slice(begin, begin + span, stride)
            for begin, span, stride in zip(first, spans, geometry.strides, strict=True)
        )
        yield tap, x[:, rows, columns]


def in_float64(role, first, second, geometry):
    """Returns the array in the role, of float64, by one product for each tap of the window."""
    edges = [(0, 0), *geometry.padding, (0, 0)]
    if role == "output":
        padded = np.pad(first, edges)
        return sum(seen @ second[tap] for tap, seen in windows(padded, geometry))
    if role == "kernel":
        result = np.zeros(geometry.kernel)
        for tap, seen in windows(np.pad(first, edges), geometry):
            result[tap] = np.einsum("nhwc,nhwo->co", seen, second)
        return result
    result = np.pad(np.zeros(geometry.input), edges)
    for tap, seen in windows(result, geometry):  # views, to which each tap adds
        seen += second @ first[tap].T
    (top, _), (left, _) = geometry.padding
    h, w = geometry.input[1:3]
    return result[:, top : top + h, left : left + w]


@st.composite
def geometries(draw):
    few, some = st.integers(1, 2), st.integers(0, 2)
    channels = st.sampled_from([1, 3, 16, 48])
    n, h, w, c = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9)), 0
    c, o = draw(channels), draw(channels)
    window, strides, dilation = [(draw(few) + draw(few) - 1, draw(few)) for _ in range(3)]
    strides, dilation = tuple(map(min, strides, (2, 2))), tuple(map(min, dilation, (2, 2)))
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    padding = tuple((max(0, r - size), draw(some)) for r, size in zip(reach, (h, w), strict=True))
    oh, ow = (
        (size + sum(pads) - r) // s + 1
        for size, pads, r, s in zip((h, w), padding, reach, strides, strict=True)
    )
    return Geometry(
        (n, h, w, c), (*window, c, o), (n, oh, ow, o), strides, padding, dilation, 1, None
    )


@settings(max_examples=8)
@given(geometry=geometries(), role=st.sampled_from(ROLES), wide=st.booleans())
def test_sums_are_long_and_rounded_once(geometry, role, wide):
    given_ = [normal(*geometry.shape(of), dtype="bfloat16") for of in others(role)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "multiplies_bfloat16", lambda: not wide)
        found = quickly(lambda x, y: bind(x, y, role=role, geometry=geometry))(*given_)
    assert found.dtype == jnp.bfloat16
    arrays = [np.asarray(x, np.float64) for x in given_]
    expected = in_float64(role, *arrays, geometry)
    sizes = in_float64(role, *map(np.abs, arrays), geometry)
    allowed = HALF_A_PLACE * np.abs(expected) + LONG_SUMS * sizes
    assert (np.abs(np.asarray(found, np.float64) - expected) <= allowed).all()


@pytest.mark.parametrize("channels", [32, 48])
def test_types_follow_the_instructions_and_the_channels(has_bfloat16, channels):
    lowered = text(
        jax.grad(energy(ours), (0, 1)),
        normal(2, 6, 6, channels, dtype="bfloat16"),
        normal(3, 3, channels, 32, dtype="bfloat16"),
    )
    is_half = has_bfloat16 and channels > 32
    calls = re.findall(rf"@{library.TARGET}\(.*?\).*: \((.*)\) -> (.*)", lowered)
    assert len(calls) == 3
    for call in calls:
        assert ("bf16" in "".join(call), "f32" in "".join(call)) == (is_half, not is_half)
    assert "stablehlo.convolution" not in lowered


def test_float32_is_as_it_was(has_bfloat16):
    lowered = text(jax.grad(energy(ours), (0, 1)), normal(2, 6, 6, 16), normal(3, 3, 16, 32))
    assert lowered.count(f"@{library.TARGET}(") == 3
    assert not {"bf16", "stablehlo.convert", "reduce_precision"} & set(re.split(r"\W", lowered))


def test_replicates_are_those_of_one_by_one(has_bfloat16):
    x, w = normal(3, 2, 6, 6, 48, dtype="bfloat16"), normal(3, 3, 3, 48, 48, dtype="bfloat16")

    def step(x, w):  # without other operations, which XLA fuses and rounds in its own ways
        return jax.vjp(ours, x, w)[1](x)

    together = quickly(jax.vmap(step))(x, w)
    alone = [quickly(step)(x[r], w[r]) for r in range(3)]
    for found, *single in zip(together, *alone, strict=True):
        np.testing.assert_array_equal(found, np.stack(single))


def test_what_is_no_number_stays(has_bfloat16):
    x, w = jnp.ones((1, 1, 5, 16), jnp.bfloat16), jnp.ones((1, 1, 16, 16), jnp.bfloat16)
    x = x.at[0, 0, 1, 3].set(jnp.nan).at[0, 0, 2, 5].set(jnp.inf).at[0, 0, 3, 6].set(-jnp.inf)
    x = x.at[0, 0, 0].set(1e37)  # sixteen of them are within the range; four of 3e38 are not
    x = x.at[0, 0, 4, :4].set(3e38)
    # a function of its own, since `jax.jit` remembers what it compiled for the other instructions
    found = np.asarray(quickly(lambda x, w: ours(x, w))(x, w), np.float32)[0, 0]
    np.testing.assert_array_equal(found[:, 0], [found[0, 0], np.nan, np.inf, -np.inf, np.inf])
    np.testing.assert_array_equal(found, np.repeat(found[:, :1], 16, axis=1))
    np.testing.assert_allclose(found[0, 0], 1.6e38, rtol=HALF_A_PLACE)


def test_bits_are_the_same_each_time(has_bfloat16):
    x, w = normal(4, 9, 9, 48, dtype="bfloat16"), normal(3, 3, 48, 16, dtype="bfloat16")
    step = quickly(jax.grad(energy(ours), (0, 1)))
    first = step(x, w)
    for _ in range(3):
        jax.tree.map(np.testing.assert_array_equal, step(x, w), first)
