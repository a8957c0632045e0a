"""Sparse layers beside sums in float64, over sizes, patterns and densities that nobody chose."""

import concurrent.futures
import itertools
import os
import resource
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundwork.architectures.cpu import chain as chain_lib
from groundwork.architectures.cpu import sparse
from groundwork.architectures.cpu.chain import FREE, Chain, Node
from groundwork.architectures.cpu.geometry import Geometry
from tests.conftest import ROOT
from tests.groundwork.architectures.cpu.onednn import needs_onednn

pytestmark = needs_onednn
BOUNDS = st.sampled_from([FREE, (0.0, np.inf), (0.0, 6.0), (-1.0, 0.5), (-np.inf, 2.0)])
PATTERNS = ("any", "blocks", "pairs", "columns", "dense", "empty")
EPSILON = 2.0**-23


def reference(geometry, x, kernel, bias):
    """The layer, and the sums of absolute products that bound its error, in float64."""
    (n, *_), (kh, kw, inside, o) = geometry.input, geometry.kernel
    _, oh, ow, _ = geometry.output
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    padded = np.pad(x, [(0, 0), *geometry.padding, (0, 0)])
    made, sizes = np.zeros((2, n, oh, ow, o))
    each = o // geometry.groups
    for i in range(kh):
        for j in range(kw):
            top, left = i * geometry.dilation[0], j * geometry.dilation[1]
            down, right = geometry.strides
            seen = padded[:, top : top + (oh - 1) * down + 1 : down]
            seen = seen[:, :, left : left + (ow - 1) * right + 1 : right]
            for g in range(geometry.groups):
                own = seen[..., g * inside : (g + 1) * inside]
                weights = kernel[i, j, :, g * each : (g + 1) * each]
                made[..., g * each : (g + 1) * each] += own @ weights
                sizes[..., g * each : (g + 1) * each] += np.abs(own) @ np.abs(weights)
    return made + bias, sizes + np.abs(bias)


def kept(random, pattern, density, shape):
    """A pattern of a kernel [KH, KW, C, O] bool."""
    kh, kw, c, o = shape
    match pattern:
        case "blocks" if o % 4 == 0:
            return np.repeat(random.random((kh, kw, c, o // 4)) < density, 4, axis=3)
        case "pairs" if c % 4 == 0:
            ranks = random.random((kh, kw, c // 4, 4, o)).argsort(3).argsort(3)
            return (ranks < 2).reshape(shape)
        case "columns":
            mask = random.random(shape) < density
            return mask & (random.random((kh, kw, c, 1)) < 0.5) & (random.random(o) < 0.8)
        case "dense":
            return np.ones(shape, bool)
        case "empty":
            return np.zeros(shape, bool)
    return random.random(shape) < density


def layer(geometry, form, bounds=FREE, residual=False):
    """A chain of one sparse layer."""
    sizes = (geometry.input, *[geometry.output] * (1 + residual))
    last = len(sizes) - 1
    node = Node("sparse", tuple(range(last)), last, form.fields(geometry), bounds)
    return Chain(sizes, last, (last,), (node,))


def check(geometry, pattern, density, bounds, residual, seed):
    random = np.random.default_rng(seed)
    kernel = random.normal(size=geometry.kernel).astype("f4")
    mask = kept(random, pattern, density, geometry.kernel)
    kernel = np.where(mask, kernel, 0)  # not −0, which is stored
    bias = random.normal(size=geometry.output[-1]).astype("f4")
    arrays = [random.normal(size=geometry.input).astype("f4")]
    if residual:
        arrays.append(random.normal(size=geometry.output).astype("f4"))
    form = sparse.form(mask, geometry)
    chain = layer(geometry, form, bounds, residual)
    packed = chain_lib.pack(chain, [kernel, bias])
    (ours,) = chain_lib.run(chain, packed, arrays)
    made, sizes = reference(geometry, arrays[0], kernel, bias)
    for more in arrays[1:]:
        made, sizes = made + more, sizes + np.abs(more)
    terms = 4 + kernel.size // kernel.shape[-1]
    error = np.abs(np.asarray(ours) - np.clip(made, *bounds))
    assert ours.shape == geometry.output
    assert (error <= terms * EPSILON * sizes).all()
    (again,) = chain_lib.run(chain, packed, arrays)
    assert np.array_equal(ours, again)
    return form


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_convolution(data):
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inside, each = draw(st.integers(1, 37)), draw(st.integers(1, 21))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    strides = draw(st.tuples(st.integers(1, 2), st.integers(1, 3)))
    pads = draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2))
    window = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    image = [draw(st.integers(max(1, w - sum(p)), 13)) for w, p in zip(window, pads, strict=True)]
    batch = draw(st.integers(1, 5))
    sides = zip(image, pads, window, strides, strict=True)
    out = [(i + sum(p) - w) // s + 1 for i, p, w, s in sides]
    geometry = Geometry(
        input=(batch, *image, groups * inside),
        kernel=(*kernel, inside, groups * each),
        output=(batch, *out, groups * each),
        strides=strides,
        padding=pads,
        dilation=dilation,
        groups=groups,
        precision=None,
    )
    pattern, density = draw(st.sampled_from(PATTERNS)), draw(st.sampled_from([0.02, 0.1, 0.3]))
    check(geometry, pattern, density, draw(BOUNDS), draw(st.booleans()), draw(st.integers(0, 9)))


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([1, 1, 2, 3, 4, 7, 16, 17, 63, 130]),
    st.integers(1, 90),
    st.integers(1, 70),
    st.sampled_from(PATTERNS),
    st.sampled_from([0.02, 0.1, 0.3]),
    BOUNDS,
    st.booleans(),
    st.integers(0, 9),
)
def test_a_product(batch, inputs, outputs, pattern, density, bounds, residual, seed):
    geometry = sparse.product(batch, inputs, outputs)
    form = check(geometry, pattern, density, bounds, residual, seed)
    assert (form.name == "rows") == (batch > sparse.FEW or inputs < sparse.WINDOW)


@pytest.mark.parametrize(
    ("batch", "pattern", "name", "block"),
    [
        (1, "any", "lanes", 1),
        (1, "blocks", "lanes", 1),
        (1, "pairs", "pairs", 1),
        (3, "pairs", "pairs", 1),
        (200, "any", "rows", 1),
        (200, "blocks", "rows", 4),
    ],
)
def test_layers_of_many_threads(batch, pattern, name, block):
    form = check(sparse.product(batch, 2100, 400), pattern, 0.2, FREE, True, 0)
    assert (form.name, form.block) == (name, block)


@pytest.mark.parametrize("side", [2, 4, 8, 32])
def test_an_image_of_many_threads(side):
    geometry = square(1, side, 240, 160)
    check(geometry, "any", 0.15, (0.0, np.inf), True, 0)
    check(geometry, "blocks", 0.15, (0.0, np.inf), True, 1)


def square(batch, side, inputs, outputs):
    """A 3×3 convolution with SAME padding."""
    return Geometry(
        input=(batch, side, side, inputs),
        kernel=(3, 3, inputs, outputs),
        output=(batch, side, side, outputs),
        strides=(1, 1),
        padding=((1, 1), (1, 1)),
        dilation=(1, 1),
        groups=1,
        precision=None,
    )


def test_columns_without_entries_are_never_met():
    geometry, random = square(1, 6, 20, 8), np.random.default_rng(0)
    mask = np.zeros(geometry.kernel, bool)
    mask[0, 1, 3] = mask[2, 2, 17] = True  # of SSL's filter shapes, all filters have the same
    form = sparse.form(mask, geometry)
    assert form.columns == 2
    x = np.full(geometry.input, np.nan, "f4")  # would spread from any column that is read
    x[..., [3, 17]] = random.normal(size=(1, 6, 6, 2))
    kernel = np.where(mask, random.normal(size=geometry.kernel), 0).astype("f4")
    chain = layer(geometry, form)
    packed = chain_lib.pack(chain, [kernel, np.zeros(8, "f4")])
    (ours,) = chain_lib.run(chain, packed, [x])
    made, _ = reference(geometry, np.nan_to_num(x), kernel, 0)
    np.testing.assert_allclose(ours, made, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 20])
def test_what_is_no_number_stays_none(batch):
    geometry, random = sparse.product(batch, 64, 48), np.random.default_rng(0)
    mask = random.random(geometry.kernel) < 0.2
    x = random.normal(size=geometry.input).astype("f4")
    x[0, 0, 0, 5] = np.nan
    chain = layer(geometry, sparse.form(mask, geometry), (0.0, 6.0))
    packed = chain_lib.pack(chain, [mask.astype("f4"), np.zeros(48, "f4")])
    (ours,) = chain_lib.run(chain, packed, [x])
    assert np.isnan(ours)[0, 0, 0, mask[0, 0, 5]].all()
    assert not np.isnan(ours[1:]).any()


@pytest.mark.parametrize(("batch", "pattern"), [(1, "any"), (1, "pairs"), (8, "any")])
def test_more_entries_than_it_was_made_for_are_refused(batch, pattern):
    geometry = sparse.product(batch, 32, 32)
    mask = kept(np.random.default_rng(0), pattern, 0.1, geometry.kernel)
    chain = layer(geometry, sparse.form(mask, geometry))
    fewer = mask & (np.arange(32) > 7)
    chain_lib.pack(chain, [fewer.astype("f4"), np.zeros(32, "f4")])
    with pytest.raises(Exception, match="more entries that are not 0"):
        chain_lib.pack(chain, [np.ones(geometry.kernel, "f4"), np.zeros(32, "f4")])


def test_a_form_that_does_not_fit_its_layer_is_refused():
    geometry = sparse.product(2, 10, 8)
    for wrong in (
        sparse.Form("pairs", 1, 0, 10),  # ten inputs are not fours
        sparse.Form("rows", 3, 5, 5),
        sparse.Form("rows", 1, -1, 5),
        sparse.Form("rows", 1, 5, 11),
        sparse.Form("lanes", 1, 5, 10),  # a window is wider
    ):
        with pytest.raises(ValueError, match="no known form"):
            chain_lib.implementations(layer(geometry, wrong))
    with pytest.raises(ValueError, match="no known form"):
        chain_lib.implementations(layer(square(1, 4, 4, 4), sparse.Form("lanes", 1, 5, 5)))


def lenet(batch):
    """A chain of three products, their packed weights and inputs."""
    random, widths = np.random.default_rng(0), (784, 300, 100, 10)
    sizes, nodes, weights = [(batch, 1, 1, 784)], [], []
    for place, (inside, outside) in enumerate(itertools.pairwise(widths)):
        geometry = sparse.product(batch, inside, outside)
        mask = random.random(geometry.kernel) < 0.05
        fields = sparse.form(mask, geometry).fields(geometry)
        nodes.append(Node("sparse", (place,), place + 1, fields, (0.0, np.inf)))
        sizes.append(geometry.output)
        weights += [
            np.where(mask, random.normal(size=mask.shape), 0).astype("f4"),
            np.ones(outside, "f4"),
        ]
    chain = Chain(tuple(sizes), 1, (3,), tuple(nodes))
    x = random.normal(size=(16, *sizes[0])).astype("f4")
    return chain, chain_lib.pack(chain, weights), x


@pytest.mark.parametrize("batch", [1, 64])
def test_calls_from_several_threads_have_the_bits_of_one(batch):
    chain, packed, xs = lenet(batch)
    run = jax.jit(lambda p, x: chain_lib.run(chain, p, [x])[0])
    alone = [np.asarray(run(packed, x)) for x in xs]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: np.asarray(run(packed, xs[i % 16])), range(400)))
    for i, one in enumerate(together):
        assert np.array_equal(one, alone[i % 16])


SCRIPT = """
import numpy as np
from groundwork.architectures.cpu import chain
from tests.groundwork.architectures.cpu import test_sparse
for batch in (1, 64):
    made, packed, xs = test_sparse.lenet(batch)
    (logits,) = chain.run(made, packed, [xs[0]])
    print(chain.implementations(made)[0], np.asarray(logits).tobytes().hex())
for batch, pattern in ((1, "any"), (1, "blocks"), (1, "pairs"), (40, "any"), (40, "blocks")):
    product = test_sparse.sparse.product(batch, 80, 52)
    test_sparse.check(product, pattern, 0.2, (0.0, 1.0), True, 0)
test_sparse.check(test_sparse.square(3, 5, 24, 20), "any", 0.2, (0.0, 1.0), True, 0)
"""


def printed(**environment):
    command = [sys.executable, "-c", SCRIPT]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    ended = subprocess.run(
        command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_the_number_of_threads_changes_no_bits():
    assert printed(OMP_NUM_THREADS="1") == printed()


@pytest.mark.parametrize(
    ("instructions", "name"), [("AVX2", "sparse:avx2"), ("SSE41", "sparse:portable")]
)
def test_every_form_without_avx512(instructions, name):
    lines = printed(ONEDNN_MAX_CPU_ISA=instructions)
    assert [line.split()[0] for line in lines] == [name] * 2


def test_changing_shapes_leak_nothing():
    def once(width):
        geometry = sparse.product(1 + width % 20, 64, width)
        chain = layer(geometry, sparse.Form("rows", 1, 64, 64))
        chain_lib._planned.__wrapped__(chain)

    for width in range(1, 500):
        once(width)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for width in range(500, 10_500):
        once(width)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20_000  # KiB; chains that stayed would take several each
