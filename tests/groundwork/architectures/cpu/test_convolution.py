import concurrent.futures
import functools
import json
import os
import platform
import re
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export, lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from groundwork import architectures
from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.convolution import available, conv_general_dilated
from groundwork.architectures.cpu.geometry import Geometry
from groundwork.architectures.cpu.primitive import convolution_p
from groundwork.errors import UserError
from groundwork.train import replicates as mapping

BUILT = available()
needs_onednn = pytest.mark.skipif(not BUILT, reason="oneDNN is not built (make cpu), or is off")
LAYOUT = ("NHWC", "HWIO", "NHWC")
TOLERANCE = {"float32": 1e-4, "bfloat16": 2**-7}  # of the largest entry
RNG = np.random.default_rng(0)


def decide_again():
    """As in a new process."""
    library.load.cache_clear()
    library.implementation.cache_clear()


@pytest.fixture(params=[pytest.param("onednn", marks=needs_onednn), "xla"])
def by(request, monkeypatch):
    """Every test that takes it runs with oneDNN and without."""
    monkeypatch.setenv(library.SWITCH, request.param)
    decide_again()
    yield request.param
    monkeypatch.undo()
    decide_again()


def normal(*shape, dtype="float32"):
    return jnp.asarray(RNG.normal(size=shape), dtype)


def plain(conv, strides=(1, 1), padding="SAME", **options):
    return lambda x, w: conv(x, w, strides, padding, dimension_numbers=LAYOUT, **options)


ours, theirs = plain(conv_general_dilated), plain(lax.conv_general_dilated)


def assert_near(found, expected, dtype="float32"):
    layout = jax.tree.map(lambda a: (a.shape, a.dtype), found)
    assert layout == jax.tree.map(lambda a: (a.shape, a.dtype), expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * np.abs(b).max(initial=0))


def output_and_gradients(conv):
    """(images, kernel, cotangent) → output, gradients with respect to images and kernel."""

    def compute(x, w, cotangent):
        output, pullback = jax.vjp(conv, x, w)
        return output, pullback(cotangent)

    return jax.jit(compute)


def assert_same(x, w, **options):
    """Ours against jax.lax's: output and both gradients."""
    reference = plain(lax.conv_general_dilated, **options)
    cotangent = normal(*jax.eval_shape(reference, x, w).shape, dtype=x.dtype)
    found = output_and_gradients(plain(conv_general_dilated, **options))(x, w, cotangent)
    expected = output_and_gradients(reference)(x, w, cotangent)
    assert_near(found, expected, x.dtype.name)


def text(function, *arguments, platform="cpu"):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def trace_names(function, *arguments):
    """The primitives that a jitted function traces to."""
    (call,) = jax.make_jaxpr(function)(*arguments).eqns
    return {equation.primitive.name for equation in call.params["jaxpr"].eqns}


# against jax.lax


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
    if dtype == "bfloat16" and "avx512_bf16" not in library.CPUINFO.read_text().split():
        pytest.skip("oneDNN leaves bfloat16 to XLA on this CPU")
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
        jax.jit(
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

    def compute(conv):
        def each(x, w):
            return conv(x, w), jax.vjp(conv, x, w)[1](conv(x, w)), jax.jvp(conv, (x, w), (x, w))

        mapped = [jax.vmap(each, axes)(x, w) for axes in [(0, 0)]]
        shared = jax.vmap(each, (0, None))(x, w[0]), jax.vmap(each, (None, 0))(x[0], w)
        return jax.tree.map(lambda y: y.weak_type, (each(x[0], w[0]), mapped, shared))

    assert compute(ours) == compute(theirs)


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


# transformations


def energy(conv):
    return lambda x, w: jnp.sum(jnp.sin(conv(x, w)))


def test_inside_scan_and_remat_and_with_strided_inputs(by):
    x, w = normal(5, 2, 7, 6, 4), normal(3, 3, 4, 4) / 6  # steps that do not amplify last bits

    def train(conv):
        def step(w, x):
            turned = jnp.swapaxes(x, 1, 2)[:, ::-1]
            loss = jax.checkpoint(lambda w: energy(conv)(conv(turned, w), w))
            return w - 0.01 * jax.grad(loss)(w), loss(w)

        return jax.jit(lambda: lax.scan(step, w, x))()

    assert_near(train(ours), train(theirs))


def test_numpy_views_that_are_not_contiguous(by):
    x = np.asarray(normal(8, 2, 12, 4)).transpose(1, 0, 2, 3)[:, :, ::2]
    w = np.asarray(normal(6, 4, 3, 3)).transpose(2, 3, 1, 0)
    assert not x.flags.c_contiguous
    assert_near(jax.jit(ours)(x, w), theirs(x, w))


def test_second_derivatives_and_forward_mode(by):
    x, w = normal(2, 6, 6, 3), normal(3, 3, 3, 4)

    def second(conv):
        def squares(x, w):
            return sum(jnp.sum(g**2) for g in jax.grad(energy(conv), (0, 1))(x, w))

        return jax.jit(jax.grad(squares, (0, 1)))(x, w)

    assert_near(second(ours), second(theirs))
    tangents = normal(*x.shape), normal(*w.shape)
    forward = [jax.jit(lambda c=c: jax.jvp(c, (x, w), tangents))() for c in (ours, theirs)]
    assert_near(*forward)


AXES = [(0, None), (None, 0), (0, 0)]


def without(axes, x, w, at):
    """The first of an axis that is not mapped."""
    return x if axes[0] == 0 else x.take(0, at), w if axes[1] == 0 else w.take(0, at)


@pytest.mark.parametrize("axes", AXES)
def test_vmap_of_gradients_and_gradients_of_vmap(axes, by):
    x, w = without(axes, normal(3, 2, 6, 6, 4), normal(3, 3, 3, 4, 4), 0)

    def compute(conv):
        mapped = jax.vmap(jax.grad(energy(conv), (0, 1)), in_axes=axes)

        def total(x, w):
            return jnp.sum(jnp.sin(jax.vmap(conv, in_axes=axes)(x, w)))

        return jax.jit(lambda x, w: (mapped(x, w), jax.grad(total, (0, 1))(x, w)))(x, w)

    assert_near(compute(ours), compute(theirs))


@pytest.mark.parametrize("outer", AXES)
@pytest.mark.parametrize("inner", AXES)
def test_vmap_of_vmap(inner, outer, by):
    x, w = without(inner, normal(2, 3, 1, 4, 4, 2), normal(2, 3, 3, 3, 2, 2), 1)
    x, w = without(outer, x, w, 0)

    def compute(conv):
        def each(x, w):
            gradient = jax.vmap(jax.grad(energy(conv), 1), in_axes=inner)
            return jax.vmap(gradient, in_axes=outer)(x, w)

        return jax.jit(lambda x, w: jax.vjp(each, x, w)[1](each(x, w)))(x, w)

    assert_near(compute(ours), compute(theirs))


def test_vmap_over_nothing(by):
    found = jax.jit(jax.vmap(ours))(normal(0, 2, 6, 6, 4), normal(0, 3, 3, 4, 5))
    assert found.shape == (0, 2, 6, 6, 5)


def test_vmap_over_a_symbolic_size_is_laxs(by):
    x, w = normal(3, 2, 6, 6, 4), normal(3, 3, 4, 4)
    (size,) = export.symbolic_shape("size")
    symbolic = jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)

    def compute(conv):
        return jax.vmap(lambda x: (conv(x, w), jax.grad(energy(conv))(x, w)))

    assert_near(export.export(jax.jit(compute(ours)))(symbolic).call(x), compute(theirs)(x))


def test_no_vmap_makes_a_grouped_convolution_on_the_cpu(by):
    x, w = normal(3, 2, 6, 6, 4), normal(3, 3, 3, 4, 6)
    lowered = text(jax.vmap(jax.grad(energy(ours), (0, 1))), x, w)
    groups = set(re.findall(r"(?:feature|batch)_group_count = (\d+)", lowered))
    assert groups == (set() if by == "onednn" else {"1"})


@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_over_a_mesh(check_vma, by):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    x, w = normal(8, 6, 6, 4), normal(3, 3, 4, 6)

    def spread(conv):
        def loss(w, x):
            return lax.pmean(energy(conv)(x, w), "data")

        specs = {"in_specs": (P(), P("data")), "out_specs": P()}
        step = jax.shard_map(jax.value_and_grad(loss), mesh=mesh, check_vma=check_vma, **specs)
        return jax.jit(step)(w, x)

    found = spread(ours)
    assert_near(found, spread(theirs))
    if check_vma:  # unchecked, the gradient is each device's own
        whole = jax.value_and_grad(lambda w: energy(theirs)(x, w) / 4)(w)
        assert_near(found, whole)


@needs_onednn
def test_many_threads_at_once_and_the_same_bits_every_time():
    step = jax.jit(jax.grad(energy(ours), (0, 1)))
    arguments = [(normal(batch, 8, 8, 8), normal(3, 3, 8, 16)) for batch in range(1, 5)]
    alone = [step(*pair) for pair in arguments]

    def again(index):
        return jax.tree.map(np.array_equal, step(*arguments[index % 4]), alone[index % 4])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(all(same) for same in pool.map(again, range(80)))


@needs_onednn
def test_a_thousand_steps_of_changing_batches_leak_no_memory():
    step = jax.jit(jax.grad(energy(ours), (0, 1)))
    arguments = [(normal(batch, 16, 16, 16), normal(3, 3, 16, 16)) for batch in range(1, 9)]

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def advance(steps):
        for i in range(steps):
            jax.block_until_ready(step(*arguments[i % 8]))
        return resident()

    early = advance(200)
    assert advance(800) < 1.02 * early


# one trace for all


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)
        x = conv(8, (3, 3), 2)(x)
        x = conv(16, (3, 3), feature_group_count=8, kernel_dilation=2)(x)
        return nn.Dense(3)(x.mean((1, 2)))


def convolutions(function, *arguments):
    jaxpr = jax.make_jaxpr(function)(*arguments)
    return [e for e in jaxpr.eqns if e.primitive is convolution_p], str(jaxpr)


def test_a_trace_and_its_multiply_adds_are_the_same_with_and_without(monkeypatch):
    x = jnp.zeros((2, 8, 8, 4))
    variables = jax.eval_shape(Network().init, jax.random.key(0), x)
    traces = set()
    for switch in ("onednn", "xla"):
        monkeypatch.setenv(library.SWITCH, switch)
        decide_again()
        found, printed = convolutions(Network().apply, variables, x)
        traces.add(printed)
        # N × OH × OW × O × KH × KW × C / groups, by hand
        assert [e.params["geometry"].multiply_adds for e in found] == [
            2 * 4 * 4 * 8 * 3 * 3 * 4,
            2 * 4 * 4 * 16 * 3 * 3 * 1,
        ]
    decide_again()
    assert len(traces) == 1


@pytest.mark.parametrize("where", ["cuda", "tpu"])
@pytest.mark.parametrize("mapped", [False, True])
def test_gpu_and_tpu_get_the_convolutions_of_lax(where, mapped):
    x, w = normal(3, 2, 6, 6, 4), normal(3, 3, 3, 2, 6)
    options = {"feature_group_count": 2, "strides": (2, 1), "precision": "highest"}
    lines = []
    for conv in (conv_general_dilated, lax.conv_general_dilated):
        step = jax.value_and_grad(energy(plain(conv, **options)), (0, 1))
        step = jax.vmap(step) if mapped else step
        arguments = (x, w) if mapped else (x[0], w[0])
        lowered = text(step, *arguments, platform=where)
        assert library.TARGET not in lowered
        found = re.findall(r"stablehlo\.convolution\(.*?\) (dim_numbers.*)", lowered)
        lines.append(sorted(found))
    assert len(lines[0]) == 3
    assert lines[0] == lines[1]


def test_the_default_precision_reaches_gpus():
    x, w = normal(2, 6, 6, 4), normal(3, 3, 4, 6)
    for conv in (ours, theirs):
        with jax.default_matmul_precision("highest"):
            traced = jax.jit(jax.grad(energy(conv), (0, 1))).trace(x, w)
        lowered = traced.lower(lowering_platforms=("cuda",)).as_text()
        assert len(re.findall("precision.{0,3}HIGHEST", lowered)) == 6


@needs_onednn
@pytest.mark.parametrize("refused", range(3))
def test_a_convolution_is_onednns_in_all_roles_or_in_none(refused, monkeypatch):
    monkeypatch.setattr(library, "implementation", lambda fields: (fields[0] != refused, ""))
    lowered = text(jax.grad(energy(ours), (0, 1)), normal(2, 6, 6, 4), normal(3, 3, 4, 6))
    assert library.TARGET not in lowered


# what oneDNN is called with

SMALL = Geometry(
    input=(2, 6, 6, 4),
    kernel=(3, 3, 4, 6),
    output=(2, 4, 4, 6),
    strides=(1, 1),
    padding=((0, 0), (0, 0)),
    dilation=(1, 1),
    groups=1,
    precision=None,
)


def call_onednn(geometry=SMALL, mapped=(0, 0), replicates=1, dtype="float32", change=None):
    descriptor = geometry.descriptor("output", 32)
    descriptor = change(descriptor) if change else descriptor
    call = jax.ffi.ffi_call(
        library.TARGET, jax.ShapeDtypeStruct((replicates * 2, 4, 4, 6), jnp.float32)
    )
    attributes = {"replicates": np.int64(replicates), "mapped": np.array(mapped, np.int64)}
    return call(
        jnp.ones((2, 6, 6, 4), dtype),
        jnp.ones((3, 3, 4, 6), dtype),
        descriptor=descriptor,
        **attributes,
    )


def put(field, value):
    def change(descriptor):
        descriptor[field] = value
        return descriptor

    return {"change": change}


@needs_onednn
@pytest.mark.parametrize(
    "wrong",
    [
        {"geometry": SMALL.of_batch(3)},
        {"geometry": SMALL._replace(kernel=(3, 3, 4, 5))},
        {"mapped": (1, 0), "replicates": 2},
        {"mapped": ()},
        {"dtype": "bfloat16"},
        put(0, 3),
        put(0, -1),
        put(1, 8),
        put(2, -2),
        put(-1, 0),
        put(11, 0),
        {"change": lambda descriptor: descriptor[:-1]},
    ],
)
def test_what_does_not_fit_its_descriptor_is_an_error(wrong):
    assert available()
    assert call_onednn().shape == (2, 4, 4, 6)
    with pytest.raises((RuntimeError, ValueError), match="descriptor"):
        jax.block_until_ready(call_onednn(**wrong))


@needs_onednn
def test_plain_loops_of_onednns_are_not_counted_as_fast():
    geometry = Geometry(
        input=(2, 2, 3, 4),
        kernel=(5, 8, 4, 1),
        output=(2, 7, 4, 1),
        strides=(1, 2),
        padding=((5, 4), (6, 5)),
        dilation=(1, 1),
        groups=1,
        precision=None,
    )
    fast, name = library.implementation(tuple(geometry.descriptor("input", 16).tolist()))
    if not name.startswith("ref"):
        pytest.skip("this CPU has fast code for it, or none at all")
    assert not fast


def test_a_models_form_follows_what_computes_its_convolutions(by):
    for model, example in (
        (Network(), jnp.zeros((1, 8, 8, 4))),
        (architectures.build({"name": "lenet_5"}, 10), jnp.zeros((1, 28, 28, 1))),
    ):
        assert mapping.default_form(model, example) == ("looped" if by == "onednn" else "single")


# where oneDNN cannot be used


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A built library in a folder of the test's own; nothing is decided yet."""
    monkeypatch.delenv(library.SWITCH, raising=False)
    file = tmp_path / "convolution-ffi-0.0.so"
    file.write_bytes(b"\x7fELF and then nothing")
    record = {"source": library.source_digest(), "library": library.digest(file)}
    record["onednn"] = {"path": str(file), "digest": library.digest(file)}
    file.with_suffix(".json").write_text(json.dumps(record))
    monkeypatch.setattr(library, "path", lambda: file)
    monkeypatch.setattr(library.sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(library, "CPUINFO", tmp_path / "cpuinfo")
    library.CPUINFO.write_text("flags\t\t: sse4_2 avx avx2 fma\n")
    decide_again()
    yield file
    monkeypatch.undo()
    decide_again()


def assert_works_by_xla(times=1):
    x, w = normal(2, 6, 6, 4), normal(3, 3, 4, 6)
    for _ in range(times):
        assert_near(jax.jit(lambda x, w: ours(x, w))(x, w), theirs(x, w))
        assert not available()


def remove(file):
    file.unlink()


def change(file):
    file.write_bytes(file.read_bytes() + b"!")


def forget(file):
    file.with_suffix(".json").write_text("{")


def empty(file):
    file.with_suffix(".json").write_text("[]")


def edit(file):
    record = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps({**record, "source": "another"}))


def age(file):
    library.CPUINFO.write_text("flags\t\t: sse4_2 avx\n")


def keep(file):
    pass


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove, "No such file"),
        (change, "has changed since oneDNN was built.*make cpu"),
        (forget, "is damaged.*make cpu"),
        (empty, "is damaged.*make cpu"),
        (edit, r"convolution\.cc or what it includes has changed.*make cpu"),
        (age, "no AVX2"),
        (keep, "by XLA, which is slow: .*(ELF|file too short|invalid)"),
    ],
)
def test_what_cannot_be_loaded_is_one_warning_and_xla(damage, said, built):
    damage(built)
    with pytest.warns(UserWarning, match=said) as warned:
        assert_works_by_xla(times=2)
    assert len(warned) == 1


@needs_onednn
def test_a_library_without_its_openmp_is_one_warning_and_xla(built, monkeypatch):
    def refuse(name):
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(library.ctypes, "CDLL", refuse)
    with pytest.warns(UserWarning, match=r"libgomp\.so\.1: cannot open"):
        assert_works_by_xla()


@pytest.mark.parametrize("library_is_there", [True, False])
def test_what_is_not_built_is_one_line_that_says_how(library_is_there, built, capsys):
    built.with_suffix(".json").unlink()
    if not library_is_there:
        shutil.move(built, built.with_name("other.so"))
    assert_works_by_xla()
    assert_works_by_xla()
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "make cpu" in line] == said
    assert len(said) == 1
    assert "not built" in said[0]


def test_a_build_for_another_jaxlib_says_so(built, capsys, monkeypatch):
    monkeypatch.setattr(library, "path", lambda: built.with_name("convolution-ffi-9.9.so"))
    assert_works_by_xla()
    assert "built for another jaxlib: make cpu" in capsys.readouterr().err


@pytest.mark.parametrize("switched", [True, False])
def test_where_it_cannot_be_had_or_is_switched_off_nothing_is_said(
    switched, built, capsys, monkeypatch
):
    if switched:
        monkeypatch.setenv(library.SWITCH, "xla")
    else:
        monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert_works_by_xla()
    assert not capsys.readouterr().err


def test_an_empty_switch_is_as_none(built, monkeypatch):
    monkeypatch.setenv(library.SWITCH, "")
    with pytest.warns(UserWarning, match="by XLA, which is slow"):
        assert_works_by_xla()


def test_a_misspelt_switch_is_refused(built, monkeypatch):
    monkeypatch.setenv(library.SWITCH, "onedn")
    with pytest.raises(UserError, match="did you mean 'onednn'"):
        available()
