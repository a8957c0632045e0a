"""A chain's nodes beside float64 arithmetic, over sizes that nobody chose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundwork.architectures.cpu import chain as chain_lib
from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.chain import FORMS, FREE, Chain, Node
from groundwork.architectures.cpu.geometry import Geometry
from tests.groundwork.architectures.cpu.onednn import needs_onednn

pytestmark = needs_onednn
BOUNDS = st.sampled_from([FREE, (0.0, np.inf), (0.0, 6.0), (-1.0, 0.5), (-np.inf, 2.0)])


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def both(chain, weights, arrays):
    """The results by oneDNN, and by JAX in float64."""
    ours = jax.jit(lambda w, a: chain_lib.run(chain, chain_lib.pack(chain, w), a))(weights, arrays)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (weights, arrays))
        theirs = chain_lib.by_lax(chain, *wide)
    return ours, theirs


def assert_near(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        scale = np.nan_to_num(np.abs(other), posinf=0).max(initial=1e-6)
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6 * scale * 10)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), form=st.sampled_from(FORMS))
def test_a_convolution_with_what_follows_it(data, form):
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    depthwise = draw(st.booleans())
    inside = 1 if depthwise else draw(st.integers(1, 9))
    channels = groups * inside
    outputs = groups * draw(st.integers(1, 3 if depthwise else 17))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    strides = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    pads = draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2))
    window = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    image = [draw(st.integers(max(1, w - sum(p)), 11)) for w, p in zip(window, pads, strict=True)]
    batch = draw(st.integers(1, 3))
    out = [
        (i + sum(p) - w) // s + 1 for i, p, w, s in zip(image, pads, window, strides, strict=True)
    ]
    geometry = Geometry(
        input=(batch, *image, channels),
        kernel=(*kernel, inside, outputs),
        output=(batch, *out, outputs),
        strides=strides,
        padding=pads,
        dilation=dilation,
        groups=groups,
        precision=None,
    )
    fields = geometry.descriptor("output", 32)
    if form == "direct" and not library.computes([fields]):
        return
    residual = draw(st.booleans())
    inputs, sizes = (
        ((0, 1), (geometry.input, geometry.output)) if residual else ((0,), (geometry.input,))
    )
    fields = (*fields.tolist(), FORMS.index(form))
    node = Node("convolve", inputs, len(sizes), fields, draw(BOUNDS))
    chain = Chain((*sizes, geometry.output), len(sizes), (len(sizes),), (node,))
    if any(name.startswith("ref") for name in chain_lib.implementations(chain)):
        return
    weights = [normal(1, *geometry.kernel), normal(2, outputs)]
    arrays = [normal(3, *geometry.input), normal(4, *geometry.output)][: len(sizes)]
    arrays[0][:, :: draw(st.integers(1, 3))] *= draw(st.sampled_from([0, 1]))  # rows of zeros
    assert_near(*both(chain, weights, arrays))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 40), st.integers(1, 35), st.booleans(), BOUNDS
)  # fmt: skip
def test_a_product_with_what_follows_it(batch, inputs, outputs, residual, bounds):
    sizes = [(batch, 1, 1, inputs)] + [(batch, 1, 1, outputs)] * (1 + residual)
    last = len(sizes) - 1
    node = Node("dense", tuple(range(last)), last, (batch, inputs, outputs), bounds)
    chain = Chain(tuple(sizes), last, (last,), (node,))
    if residual:
        node = node._replace(inputs=(0,))
        add = Node("add", (2, 1), 3)
        chain = Chain((*sizes, sizes[-1]), 2, (3,), (node, add))
    weights = [normal(1, inputs, outputs), normal(2, outputs)]
    arrays = [normal(3 + i, *size) for i, size in enumerate(sizes[:last])]
    assert_near(*both(chain, weights, arrays))


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.integers(0, 4)),
    BOUNDS,
)
def test_what_is_bound_by_memory(sizes, cut, bounds):
    n, h, w, c = sizes
    down, across, before, after = cut
    short = (n, -(-h // down), -(-w // across), before + c + after)
    wide = (n, h, w, 3 * c)
    nodes = (
        Node("affine", (0,), 2, bounds=bounds),
        Node("add", (2, 1), 3, bounds=bounds),
        Node("concat", (3, 0, 2), 4),
        Node("shortcut", (3,), 5, (down, across, before)),
        Node("total", (4,), 6),
    )
    chain = Chain((sizes, sizes, sizes, sizes, wide, short, (n, 1, 1, 3 * c)), 2, (4, 5, 6), nodes)
    weights = [normal(1, c), normal(2, c)]
    assert_near(*both(chain, weights, [normal(3, *sizes), normal(4, *sizes)]))


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.integers(1, 19)),
    *[st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(-2, 3))] * 2,
    st.sampled_from(["max_pool", "sum_pool"]),
    BOUNDS,
)
def test_a_pooling(sizes, rows, columns, kind, bounds):
    n, h, w, c = sizes
    out = [
        max(0, before + image - size + stride) // stride
        for (size, stride, before), image in zip((rows, columns), (h, w), strict=True)
    ]
    fields = tuple(number for pair in zip(rows, columns, strict=True) for number in pair)
    node = Node(kind, (0,), 1, fields, bounds)
    chain = Chain((sizes, (n, *out, c)), 1, (1,), (node,))
    x = normal(1, *sizes)
    x[0, 0, 0, 0] = np.nan
    assert_near(*both(chain, [], [x]))


def test_a_chain_that_is_cut_off_is_refused():
    node = Node("affine", (0,), 1)
    chain = Chain(((1, 1, 1, 1),) * 2, 1, (1,), (node,))
    with pytest.raises(ValueError, match="a node that is cut off"):
        chain_lib.implementations(Broken(*chain))
    with pytest.raises(ValueError, match="values that it lacks"):
        chain_lib.implementations(chain._replace(results=(7,)))


ONE, FOUR = (1, 1, 1, 1), (1, 1, 1, 4)
IMPOSSIBLE = {  # a chain → what is said of it
    "before its inputs": Chain((ONE,) * 3, 1, (2,), (Node("add", (0, 1), 2),)),
    "made twice": Chain((ONE,) * 2, 1, (1,), (Node("affine", (0,), 1),) * 2),
    "a result that no node makes": Chain((ONE,) * 2, 1, (0, 1), (Node("affine", (0,), 1),)),
    "is one twice": Chain((ONE,) * 2, 1, (1, 1), (Node("affine", (0,), 1),)),
    "values that it lacks": Chain((ONE,) * 2, 3, (1,), (Node("affine", (0,), 1),)),
    "cut off": Chain((ONE,) * 2, 1, (1,), (Node("dense", (0,), 1),)),
    "of other sizes": Chain((ONE, FOUR), 1, (1,), (Node("affine", (0,), 1),)),
}


@pytest.mark.parametrize("said", IMPOSSIBLE)
def test_what_would_read_or_write_elsewhere_is_refused(said):
    with pytest.raises(ValueError, match=said):
        chain_lib.implementations(IMPOSSIBLE[said])


def test_integers_that_are_given_are_taken_as_floats():
    chain = Chain((ONE,) * 2, 1, (1,), (Node("add", (0, 0), 1),))
    (found,) = chain_lib.run(chain, chain_lib.pack(chain, []), [jnp.full(ONE, 3)])
    assert found.item() == 6


class Broken(Chain):
    """A chain without its last numbers."""

    def program(self):
        return super().program()[:-2]


def test_changing_sizes_leak_nothing(tmp_path):
    import resource

    def once(width):
        sizes = ((1, 4, 4, width),) * 2
        chain = Chain(sizes, 1, (1,), (Node("affine", (0,), 1),))
        chain_lib._planned.__wrapped__(chain)

    for width in range(1, 200):
        once(width)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for width in range(200, 3000):
        once(width)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20_000  # KiB; a chain that stayed would take 10 each
