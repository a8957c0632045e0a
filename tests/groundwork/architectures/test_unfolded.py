"""im2col and MEC beside `jax.lax`'s convolution in float64, and the bytes of their matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from groundwork.architectures import unfolded
from groundwork.architectures.cpu import convolution
from groundwork.architectures.cpu.convolution import LAYOUT
from tests.groundwork.architectures.small import quickly

FORMS = {"im2col": unfolded.im2col, "mec": unfolded.mec}


def normal(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def theirs(images, kernel, strides=(1, 1), padding="SAME", dilation=(1, 1), groups=1):
    return lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


@st.composite
def cases(draw):
    """Images, a kernel, and how the one moves over the other."""
    few, two = st.integers(1, 3), lambda of: st.tuples(of, of)
    groups = draw(few)
    inside, outside = draw(st.sampled_from([(1, 1), (1, 2), (2, 3), (4, 1)]))
    images = (draw(st.integers(0, 3)), *draw(two(st.integers(1, 9))), groups * inside)
    kernel = (*draw(two(st.integers(1, 4))), inside, groups * outside)
    side = st.tuples(st.integers(-1, 3), st.integers(-1, 3))
    padding = draw(st.sampled_from(["SAME", "VALID", "SAME_LOWER"]) | st.tuples(side, side))
    return images, kernel, draw(two(st.integers(1, 5))), padding, draw(two(few)), groups


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from(sorted(FORMS)), st.sampled_from([None, 0, 1]))
def test_outputs_are_those_of_lax(case, form, zero):
    sizes, window, *options = case
    images, kernel = normal(1, *sizes), normal(2, *window)
    if zero is not None:
        images[:, zero::2] = 0.0
    with jax.enable_x64(True):
        expected = theirs(images, kernel, *options)
        found = quickly(lambda x, w: FORMS[form](x, w, *options))(images, kernel)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_maps_and_half_precision(form):
    images, kernel = normal(1, 2, 6, 5, 4, dtype="f4"), normal(2, 3, 2, 2, 6, dtype="f4")
    options = ((2, 1), "SAME", (1, 2), 2)

    def energy(conv):
        return lambda x, w: jnp.sum(jnp.sin(conv(x, w, *options)))

    found = quickly(jax.grad(energy(FORMS[form]), (0, 1)))(images, kernel)
    expected = jax.grad(energy(theirs), (0, 1))(images, kernel)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    several = jax.vmap(lambda x: FORMS[form](x, kernel, *options))(images[:, None])
    np.testing.assert_allclose(several[:, 0], theirs(images, kernel, *options), atol=1e-5)
    half = [jnp.asarray(x, jnp.bfloat16) for x in (images, kernel)]
    made, expected = FORMS[form](*half, *options), theirs(images, kernel, *options)
    assert made.dtype == jnp.bfloat16
    np.testing.assert_allclose(made.astype("f4"), expected, atol=0.03 * np.abs(expected).max())


def test_what_lax_refuses_is_refused():
    with pytest.raises(ValueError, match="feature_group_count"):
        unfolded.mec(normal(1, 1, 4, 4, 3), normal(2, 3, 3, 3, 4), groups=2)


BYTES = {  # by hand: OH · OW · KH · KW · C and OW · rows · KW · C floats
    "3×3": ((2, 8, 6, 5), (3, 3, 5, 7), (1, 1), "SAME", 1, 8 * 6 * 45, 6 * 10 * 15),
    "strides 2": ((1, 8, 6, 5), (3, 3, 5, 7), (2, 2), "VALID", 1, 3 * 2 * 45, 2 * 7 * 15),
    "strides above KH": ((1, 8, 8, 4), (2, 2, 4, 4), (3, 3), "VALID", 1, 3 * 3 * 16, 3 * 8 * 8),
    "groups": ((1, 5, 5, 6), (3, 3, 3, 4), (1, 1), "VALID", 2, 3 * 3 * 27, 3 * 5 * 9),
    "depthwise": ((1, 5, 5, 6), (3, 3, 1, 6), (1, 1), "VALID", 6, 3 * 3 * 54, 3 * 5 * 18),
    "1×1": ((1, 5, 5, 6), (1, 1, 6, 4), (1, 1), "SAME", 1, 0, 0),
    "1×1, strides 2": ((1, 5, 5, 6), (1, 1, 6, 4), (2, 2), "SAME", 1, 3 * 3 * 6, 3 * 5 * 6),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_of_the_matrices(name):
    images, kernel, strides, padding, groups, im2col, mec = BYTES[name]
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (images, kernel)]
    geometry = convolution.geometry(*shapes, strides, padding, groups=groups)
    assert unfolded.im2col_bytes(geometry) == 4 * im2col
    assert unfolded.mec_bytes(geometry) == 4 * mec
    assert unfolded.mec_bytes(geometry, 2) == 2 * mec


def test_xlas_program_holds_one_matrix_of_mec():
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 28, 28, 16), (3, 3, 16, 16))]
    geometry = convolution.geometry(*shapes, (1, 1), "SAME")
    program = jax.jit(lambda x, w: unfolded.by_mec(geometry, x, w)).lower(*shapes).compile()
    padded, window = 30 * 30 * 16 * 4, 28 * 9 * 16 * 4
    more = padded + window + 3 * 28 * 28 * 16 * 4  # an image, its outputs, and a row's windows
    assert program.memory_analysis().temp_size_in_bytes <= unfolded.mec_bytes(geometry) + more
