import functools
import operator

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import pallas

from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.convolution import conv_general_dilated
from groundwork.architectures.cpu.primitive import convolution_p
from groundwork.traced.macs import multiply_adds

LAYOUT = ("NHWC", "HWIO", "NHWC")
CONVOLUTIONS = {"lax": lax.conv_general_dilated, "ours": conv_general_dilated}
either = pytest.mark.parametrize("conv", CONVOLUTIONS.values(), ids=CONVOLUTIONS)


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def same(conv):
    return lambda x, w: conv(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT)


@pytest.fixture(params=["onednn", "xla"])
def switched(request, monkeypatch):
    monkeypatch.setenv(library.SWITCH, request.param)
    library.load.cache_clear()
    yield
    monkeypatch.undo()
    library.load.cache_clear()


def test_dense_layers_cost_inputs_times_outputs_an_example():
    assert multiply_adds(operator.matmul, array(5, 7), array(7, 3)) == 5 * 7 * 3
    dense = nn.Dense(3)
    variables = jax.eval_shape(dense.init, jax.random.key(0), array(5, 7))
    assert multiply_adds(dense.apply, variables, array(5, 7)) == 5 * 7 * 3


@pytest.mark.parametrize(
    ("expression", "shapes", "count"),
    [
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        ("i,i->", [(6,), (6,)], 6),
        ("i,j->ij", [(6,), (7,)], 42),
        ("aibj,jbak->aik", [(2, 3, 4, 5), (5, 4, 2, 6)], 2 * 3 * 4 * 5 * 6),
        ("ij,jk->ik", [(3, 0), (0, 4)], 0),
    ],
)
def test_products_cost_each_letter_once(expression, shapes, count):
    einsum = functools.partial(jnp.einsum, expression)
    assert multiply_adds(einsum, *(array(*shape) for shape in shapes)) == count


CASES = {  # images, kernel, options, multiply-adds: outputs × window × channels a group
    "3×3": ((2, 8, 9, 4), (3, 3, 4, 6), {}, (2 * 8 * 9 * 6) * 36),
    "1×1": ((2, 8, 9, 4), (1, 1, 4, 6), {}, (2 * 8 * 9 * 6) * 4),
    "strides": ((2, 8, 9, 4), (3, 3, 4, 6), {"window_strides": (2, 3)}, (2 * 4 * 3 * 6) * 36),
    "valid": ((2, 8, 9, 4), (3, 2, 4, 6), {"padding": "VALID"}, (2 * 6 * 8 * 6) * 24),
    "padded": ((1, 5, 5, 1), (3, 3, 1, 1), {"padding": ((1, 2), (0, 0))}, (6 * 3) * 9),
    "groups": ((2, 8, 9, 4), (3, 3, 2, 6), {"feature_group_count": 2}, (2 * 8 * 9 * 6) * 18),
    "depthwise": ((2, 8, 9, 4), (3, 3, 1, 4), {"feature_group_count": 4}, (2 * 8 * 9 * 4) * 9),
    "dilated": (
        (2, 8, 9, 4),
        (3, 3, 4, 6),
        {"padding": "VALID", "rhs_dilation": (2, 3)},
        (2 * 4 * 3 * 6) * 36,
    ),
    "channels first": (
        (2, 4, 8, 9),
        (6, 4, 3, 3),
        {"dimension_numbers": ("NCHW", "OIHW", "NCHW")},
        (2 * 8 * 9 * 6) * 36,
    ),
    "one dimension": (
        (2, 8, 4),
        (3, 4, 6),
        {"window_strides": (1,), "dimension_numbers": ("NHC", "HIO", "NHC")},
        (2 * 8 * 6) * 12,
    ),
}


TRANSPOSED = {  # inputs × window × channels: each input is multiplied by the whole window
    "stride 2": ({"strides": (2, 2)}, (5 * 6) * 9),
    "stride 3": ({"strides": (3, 3)}, (5 * 6) * 9),
    "stride 1": ({}, (5 * 6) * 9),
    "two strides": ({"strides": (2, 3)}, (5 * 6) * 9),
    "valid": ({"strides": (2, 2), "padding": "VALID"}, (5 * 6) * 9),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolutions_do_not_cost_the_zeros_between_inputs(case):
    options, count = TRANSPOSED[case]
    layer, images = nn.ConvTranspose(3, (3, 3), **options), array(4, 5, 6, 2)
    variables = jax.eval_shape(layer.init, jax.random.key(0), images)
    assert multiply_adds(layer.apply, variables, images) == 4 * 2 * 3 * count


def test_taps_that_meet_an_input_are_counted_one_by_one():
    """A loop over outputs and taps, for strides and dilations of both kinds."""
    options = {"window_strides": (3, 2), "lhs_dilation": (2, 4), "rhs_dilation": (3, 1)}
    conv = functools.partial(
        lax.conv_general_dilated, padding=((1, 2), (3, 0)), dimension_numbers=LAYOUT, **options
    )
    count = 1
    sizes = ((7, 2, 3, 2, 3, (1, 2)), (5, 3, 2, 4, 1, (3, 0)))
    for size, taps, stride, spread, dilation, (low, high) in sizes:
        length = (size - 1) * spread + 1 + low + high
        outputs = (length - (taps - 1) * dilation - 1) // stride + 1
        count *= sum(
            (o * stride + t * dilation - low) % spread == 0
            for o in range(outputs)
            for t in range(taps)
        )
    assert multiply_adds(conv, array(1, 7, 5, 2), array(2, 3, 2, 4)) == count * 2 * 4


RAGGED = {  # rows, columns, groups, dimension numbers: each row is multiplied by one matrix
    "rows": ((8, 4), (3, 4, 5), ((((1,), (1,)), ((), ())), (0,), (0,)), 8 * 4 * 5),
    "sums": ((8, 4), (8, 5), ((((0,), (0,)), ((), ())), (0,), ()), 8 * 4 * 5),
}


@pytest.mark.parametrize("case", RAGGED)
def test_ragged_products_cost_each_row_once(case):
    left, right, numbers, count = RAGGED[case]
    numbers = lax.RaggedDotDimensionNumbers(*numbers)
    product = functools.partial(lax.ragged_dot_general, ragged_dot_dimension_numbers=numbers)
    groups = jax.ShapeDtypeStruct((3,), jnp.int32)
    assert multiply_adds(product, array(*left), array(*right), groups) == count


@either
@pytest.mark.parametrize("case", CASES)
def test_convolutions_cost_window_times_channels_an_output(case, conv):
    images, kernel, options, count = CASES[case]
    usual = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": LAYOUT}
    function = functools.partial(conv, **{**usual, **options})
    assert multiply_adds(function, array(*images), array(*kernel)) == count


@pytest.mark.usefixtures("switched")
def test_layers_by_our_primitive_cost_the_same_whatever_computes_them():
    layer = nn.Conv(
        6,
        (3, 3),
        strides=2,
        feature_group_count=2,
        conv_general_dilated=conv_general_dilated,
    )
    images = array(2, 8, 9, 4)
    variables = jax.eval_shape(layer.init, jax.random.key(0), images)
    assert f" {convolution_p.name}[" in str(jax.make_jaxpr(layer.apply)(variables, images))
    assert multiply_adds(layer.apply, variables, images) == (2 * 4 * 5 * 6) * 18


@either
@pytest.mark.parametrize(
    ("axes", "copies"),
    [((0, None), 5), ((None, 0), 5), ((0, 0), 5), ((3, 1), 5)],
)
def test_mapped_convolutions_cost_as_many_as_there_are(conv, axes, copies):
    shapes = [(2, 8, 9, 4), (3, 3, 4, 6)]
    mapped = [s if a is None else (*s[:a], 5, *s[a:]) for s, a in zip(shapes, axes, strict=True)]
    count = multiply_adds(jax.vmap(same(conv), axes), *(array(*shape) for shape in mapped))
    assert count == copies * (2 * 8 * 9 * 6) * 36


@either
def test_twice_mapped_convolutions_cost_both_times(conv):
    function = jax.vmap(jax.vmap(same(conv), (0, None)), (0, 0))
    count = multiply_adds(function, array(5, 7, 2, 8, 9, 4), array(5, 3, 3, 4, 6))
    assert count == 5 * 7 * (2 * 8 * 9 * 6) * 36


@either
@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 1)])
def test_gradients_cost_as_much_again_each(conv, wanted):
    def loss(x, w):
        return jnp.sum(same(conv)(x, w) ** 2)

    count = multiply_adds(jax.grad(loss, wanted), array(2, 8, 9, 4), array(3, 3, 4, 6))
    assert count == (1 + len(wanted)) * (2 * 8 * 9 * 6) * 36


def test_gradients_of_our_strided_convolutions_cost_what_the_convolution_does():
    def loss(x, w):
        return jnp.sum(conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=LAYOUT) ** 2)

    count = multiply_adds(jax.grad(loss, (0, 1)), array(2, 8, 9, 4), array(3, 3, 4, 6))
    assert count == 3 * (2 * 4 * 5 * 6) * 36


def product(x):
    """[3, 3] → [3, 3] for 27."""
    return x @ x


@jax.custom_jvp
def ruled(x):
    return product(x)


ruled.defjvp(lambda primals, tangents: (ruled(*primals), tangents[0]))


@jax.custom_vjp
def backwards(x):
    return product(x)


backwards.defvjp(lambda x: (backwards(x), None), lambda _, cotangent: (product(cotangent),))

AROUND = {
    "jit": jax.jit(product),
    "jit in jit": jax.jit(lambda x: jax.jit(product)(x)),
    "after relu": lambda x: product(nn.relu(x)),
    "custom_jvp": ruled,
    "custom_vjp": backwards,
    "remat": jax.checkpoint(product),
    "remat in jit": jax.jit(jax.checkpoint(lambda x: nn.relu(product(x)))),
    "named": jax.named_call(product),
}


@pytest.mark.parametrize("around", AROUND)
def test_products_are_found_inside(around):
    assert multiply_adds(AROUND[around], array(3, 3)) == 27


def test_a_function_jitted_once_counts_wherever_it_is_called():
    inner = jax.jit(product)
    assert multiply_adds(lambda x: inner(inner(x)) + inner(x), array(3, 3)) == 3 * 27


def test_a_gradient_through_remat_pays_for_computing_twice():
    def twice(x):
        return product(product(x))

    plain, remat = (
        multiply_adds(jax.grad(lambda x, f=f: f(x).sum()), array(3, 3))
        for f in (twice, jax.checkpoint(twice))
    )
    assert plain == 6 * 27
    assert remat > plain


def test_scans_cost_their_length():
    def body(carry, x):
        return product(carry), x @ x

    count = multiply_adds(lambda c, xs: lax.scan(body, c, xs), array(3, 3), array(7, 2, 2))
    assert count == 7 * (27 + 8)
    nested = multiply_adds(
        lambda xss: lax.map(lambda xs: lax.map(product, xs), xss), array(4, 5, 3, 3)
    )
    assert nested == 4 * 5 * 27
    assert multiply_adds(lambda xs: lax.map(product, xs), array(0, 3, 3)) == 0


def repeated(x, step):
    return lax.while_loop(lambda x: x.sum() > 0, step, x)


def branched(x, step):
    return lax.cond(x.sum() > 0, step, lambda x: x, x)


def conditioned(x, step):
    return lax.while_loop(lambda x: step(x).sum() > 0, lambda x: x - 1, x)


@pytest.mark.parametrize(
    ("uncertain", "name"), [(repeated, "while"), (conditioned, "while"), (branched, "cond")]
)
def test_products_that_depend_on_values_are_refused_and_others_are_free(uncertain, name):
    with pytest.raises(ValueError, match=f"multiply-adds inside {name} depend on values"):
        multiply_adds(lambda x: uncertain(x, product), array(3, 3))
    with pytest.raises(ValueError, match=f"multiply-adds inside {name}"):  # further out too
        multiply_adds(
            jax.jit(lambda xs: lax.map(lambda x: uncertain(x, product), xs)), array(2, 3, 3)
        )
    assert multiply_adds(lambda x: product(uncertain(x, jnp.sin)), array(3, 3)) == 27


def test_what_has_no_products_costs_nothing():
    def function(x):
        x = nn.max_pool(nn.softmax(nn.relu(x) * 3), (2, 2), (2, 2))
        return jnp.cumsum(jnp.sort(x), 0).mean()

    assert multiply_adds(function, array(1, 8, 8, 4)) == 0
    assert multiply_adds(lambda: None) == 0


def test_counts_are_exact_integers_of_any_size_and_nothing_is_computed():
    side = 2**22 - 1
    count = multiply_adds(operator.matmul, array(side, side), array(side, side))
    assert (type(count), count) == (int, side**3)  # beyond 64 bits, and 70 terabytes an array


def test_arguments_may_be_arrays_and_keywords():
    count = multiply_adds(lambda x, times: x @ x * times, jnp.ones((3, 3)), times=2)
    assert count == 27


def test_products_of_a_pallas_kernel_are_refused():
    def kernel(x, out):
        out[...] = x[...] @ x[...]

    product = pallas.pallas_call(kernel, out_shape=array(8, 8), grid=(4,))
    with pytest.raises(ValueError, match="multiply-adds inside pallas_call"):
        multiply_adds(product, array(8, 8))
