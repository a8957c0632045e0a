"""Against `jax.lax`: values, shapes, types, errors."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.convolution import conv_general_dilated
from groundwork.architectures.cpu.primitive import convolution_p
from tests.groundwork.architectures.cpu.onednn import (
    LAYOUT,
    assert_near,
    needs_onednn,
    normal,
    ours,
    plain,
    text,
    theirs,
)
from tests.groundwork.architectures.small import quickly


def output_and_gradients(conv):
    """(images, kernel, cotangent) → output, gradients with respect to images and kernel."""

    def compute(x, w, cotangent):
        output, pullback = jax.vjp(conv, x, w)
        return output, pullback(cotangent)

    return quickly(compute)


def assert_same(x, w, **options):
    """Ours against jax.lax's: output and both gradients."""
    reference = plain(lax.conv_general_dilated, **options)
    cotangent = normal(*jax.eval_shape(reference, x, w).shape, dtype=x.dtype)
    found = output_and_gradients(plain(conv_general_dilated, **options))(x, w, cotangent)
    expected = output_and_gradients(reference)(x, w, cotangent)
    assert_near(found, expected, x.dtype.name)


def trace_names(function, *arguments):
    """The primitives that a jitted function traces to."""
    (call,) = jax.make_jaxpr(function)(*arguments).eqns
    return {equation.primitive.name for equation in call.params["jaxpr"].eqns}


@st.composite
def cases(draw, dtype):
    size = functools.partial(st.integers, 1)
    groups = draw(size(3))
    images = (draw(size(3)), draw(size(9)), draw(size(9)), groups * draw(size(5)))
    kernel = (draw(size(5)), draw(size(4)), images[3] // groups, groups * draw(size(5)))
    side = st.tuples(st.integers(-2, 3), st.integers(-2, 3))
    options = {
        "strides": draw(st.tuples(size(3), size(3))),
        "padding": draw(st.sampled_from(["SAME", "VALID", "SAME_LOWER"]) | st.tuples(side, side)),
        "rhs_dilation": draw(st.tuples(size(2), size(2))),
        "feature_group_count": groups,
    }
    return normal(*images, dtype=dtype), normal(*kernel, dtype=dtype), options


@needs_onednn
@settings(max_examples=40)
@given(cases("float32"))
def test_output_and_gradients_are_those_of_lax(case):
    x, w, options = case
    assert_same(x, w, **options)


@needs_onednn
@settings(max_examples=10)
@given(cases("bfloat16"))
def test_bfloat16_is_that_of_lax(case):
    x, w, options = case
    assert_same(x, w, **options)


USUAL = {
    "3×3": ((2, 8, 8, 16), (3, 3, 16, 32), {}),
    "first layer": ((2, 8, 8, 3), (3, 3, 3, 16), {}),
    "stride 2": ((2, 8, 8, 16), (3, 3, 16, 32), {"strides": (2, 2)}),
    "1×1": ((2, 8, 8, 16), (1, 1, 16, 32), {"strides": (2, 2)}),
    "dilated": ((2, 9, 9, 16), (3, 3, 16, 16), {"rhs_dilation": (2, 2)}),
    "depthwise": ((2, 8, 8, 16), (3, 3, 1, 16), {"feature_group_count": 16}),
    "groups": ((2, 8, 8, 16), (3, 3, 4, 32), {"feature_group_count": 4}),
    "uneven": ((2, 8, 9, 5), (5, 2, 5, 7), {"padding": ((0, 2), (3, 1))}),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", USUAL)
def test_usual_convolutions_are_onednns_where_it_is_used(name, dtype, by):
    images, kernel, options = USUAL[name]
    x, w = normal(*images, dtype=dtype), normal(*kernel, dtype=dtype)
    assert_same(x, w, **options)
    step = jax.grad(lambda x, w: plain(conv_general_dilated, **options)(x, w).sum(), (0, 1))
    lowered = text(jax.checkpoint(step), x, w)
    calls, left = lowered.count(f"@{library.TARGET}("), lowered.count("stablehlo.convolution")
    assert (calls > 0, left > 0) == (by == "onednn", by == "xla")


@pytest.mark.parametrize(
    ("images", "kernel", "padding"),
    [
        ((0, 8, 8, 4), (3, 3, 4, 4), "SAME"),
        ((2, 8, 8, 4), (3, 3, 4, 0), "SAME"),
        ((2, 3, 3, 4), (5, 5, 4, 4), "VALID"),
        ((2, 3, 3, 4), (5, 5, 4, 4), "SAME"),
        ((1, 1, 1, 1), (1, 1, 1, 1), "VALID"),
        ((2, 6, 6, 4), (3, 3, 4, 4), ((-1, 2), (0, -2))),
    ],
)
def test_extreme_sizes(images, kernel, padding, by):
    assert_same(normal(*images), normal(*kernel), padding=padding)


@pytest.mark.parametrize(
    "change",
    [
        {"rhs": (3, 3, 5, 6)},
        {"rhs": (3, 3, 4)},
        {"window_strides": (1,)},
        {"window_strides": (1, 1, 1)},
        {"window_strides": (-1, 1)},
        {"feature_group_count": 3},
        {"padding": "SIDEWAYS"},
        {"padding": ((1, 1),)},
        {"rhs_dilation": (1, 1, 1)},
        {"lhs_dilation": (1,)},
        {"lhs_dilation": (1, 1, 1)},
        {"rhs_dilation": ()},
        {"precision": "nonsense"},
        {"precision": ["default"]},
        {"padding": None},
    ],
    ids=str,
)
def test_errors_are_those_of_lax(change):
    call = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": LAYOUT, **change}
    x, w = normal(2, 8, 8, 4), normal(*call.pop("rhs", (3, 3, 4, 6)))
    said = []
    for conv in (conv_general_dilated, lax.conv_general_dilated):
        with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
            conv(x, w, **call)
        said.append((type(caught.value), re.sub(r"loc\(.*", "", str(caught.value))))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "change",
    [
        {"padding": lambda: ((1, size) for size in (0, 2))},
        {"padding": lambda: np.array([[1, 1], [0, 2]])},
        {"window_strides": lambda: np.array([2, 1])},
        {"precision": lambda: ["default", "highest"]},
        {"lhs_dilation": lambda: np.array([1, 1]), "padding": lambda: [(1, 1), (0, 2)]},
        {"rhs_dilation": lambda: np.array([1, 2])},
        {"rhs_dilation": lambda: [2, 1]},
        {"lhs_dilation": lambda: np.array([1, 2]), "padding": lambda: [(1, 1), (0, 2)]},
    ],
    ids=lambda change: "-".join(change),
)
def test_arguments_may_have_any_type_that_lax_takes(change):
    x, w = normal(2, 8, 8, 4), normal(3, 3, 4, 6)
    call = {"window_strides": lambda: (1, 1), "padding": lambda: "SAME", **change}
    found, expected = (
        quickly(
            lambda x, w, conv=conv: conv(
                x, w, dimension_numbers=LAYOUT, **{name: made() for name, made in call.items()}
            )
        )(x, w)
        for conv in (conv_general_dilated, lax.conv_general_dilated)
    )
    assert_near(found, expected)


@pytest.mark.parametrize("weak", [(True, True), (True, False), (False, True)])
def test_results_are_weakly_typed_where_laxs_are(weak):
    def array(is_weak, *shape):
        return jnp.broadcast_to(jnp.asarray(2.0) if is_weak else jnp.float32(2), shape)

    x, w = array(weak[0], 2, 2, 6, 6, 4), array(weak[1], 2, 3, 3, 4, 5)
    assert (x.weak_type, w.weak_type) == weak

    def types(conv):
        def each(x, w):
            return conv(x, w), jax.vjp(conv, x, w)[1](conv(x, w)), jax.jvp(conv, (x, w), (x, w))

        def mapped(x, w):
            shared = jax.vmap(each, (0, None))(x, w[0]), jax.vmap(each, (None, 0))(x[0], w)
            return each(x[0], w[0]), jax.vmap(each)(x, w), shared

        return jax.tree.map(lambda y: y.weak_type, jax.eval_shape(mapped, x, w))

    assert types(ours) == types(theirs)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (((2, 8, 8, 4), (3, 3, 4, 6)), {"lhs_dilation": (2, 1), "padding": ((1, 1), (1, 1))}),
        (((4, 8, 8, 4), (3, 3, 4, 6)), {"batch_group_count": 2}),
        (
            ((2, 8, 8, 4), (3, 3, 4, 6)),
            {"dtype": jnp.bfloat16, "preferred_element_type": jnp.float32},
        ),
        (((2, 8, 8, 4), (3, 3, 4, 6)), {"dtype": jnp.float16}),
        (((2, 4, 8, 8), (6, 4, 3, 3)), {"dimension_numbers": None}),
        (((2, 8, 4), (3, 4, 6)), {"dimension_numbers": ("NWC", "WIO", "NWC")}),
    ],
)
def test_everything_else_is_laxs_own(shapes, options):
    x, w = (normal(*shape) for shape in shapes)
    strides = (1,) * (len(shapes[0]) - 2)
    call = {"window_strides": strides, "padding": "SAME", "dimension_numbers": LAYOUT, **options}
    dtype = call.pop("dtype", jnp.float32)
    x, w = x.astype(dtype), w.astype(dtype)
    traces = [
        str(jax.make_jaxpr(functools.partial(conv, **call))(x, w))
        for conv in (conv_general_dilated, lax.conv_general_dilated)
    ]
    assert traces[0] == traces[1]
    assert "conv_general_dilated" in traces[0]


@pytest.mark.parametrize("spread", [P("data"), P()])
def test_explicit_sharding_is_laxs_own(spread, by):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))
    x, w = normal(8, 6, 6, 4), normal(3, 3, 4, 6)
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, spread), jax.device_put(w, P())
        for options in ({}, {"out_sharding": P("data")}):
            conv = jax.jit(plain(conv_general_dilated, **options))
            expected = jax.jit(plain(lax.conv_general_dilated, **options))(*placed)
            assert_near(conv(*placed), expected)
            assert jax.typeof(conv(*placed)) == jax.typeof(expected)
            is_ours = convolution_p.name in trace_names(conv, *placed)
            assert is_ours == (spread == P() and not options)
