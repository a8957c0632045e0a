"""Single operations: each primitive beside numpy, pooling in all its forms, folded affine maps."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import deploy
from deploy.graphs import evaluate, picture, table
from deploy.graphs.graph import OPERATIONS
from groundwork.architectures import layers
from groundwork.architectures.blocks import shuffle
from groundwork.architectures.compact.squeezenet import overlapping_max_pool
from tests.deploy import in_numpy

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
POSITIVE = np.abs(X) + 0.1
IMAGES = np.random.default_rng(1).normal(size=(2, 5, 6, 4)).astype(np.float32)
TOKENS = np.array([[0, 3, -1], [2, -4, 1]], np.int32)
KERNEL = np.random.default_rng(2).normal(size=(3, 2, 2, 6)).astype(np.float32)


def conv(x, **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, KERNEL, (2, 1), dimension_numbers=numbers, **options)


def sequence(x):
    return lax.conv_general_dilated(
        x, KERNEL[:, 0, :1, :4], (1,), [(2, 0)], rhs_dilation=(2,), feature_group_count=4,
        dimension_numbers=("NWC", "WIO", "NWC"),
    )  # fmt: skip


def looked_up(x, **options):
    return jnp.take(jnp.asarray(KERNEL[:, 0, 0]), x, axis=0, **options)


# what is traced, its input, and the operations that it becomes
CASES = {
    "unary": (
        lambda x: jnp.tanh(jnp.exp(-jnp.abs(x)) * jnp.sign(x)),
        X,
        "abs neg exp sign mul tanh",
    ),
    "roots": (
        lambda x: jnp.sqrt(x) + lax.rsqrt(x) + jnp.log(x),
        POSITIVE,
        "sqrt rsqrt add log add",
    ),
    "powers": (lambda x: x**3 + x**-2 + jnp.square(x), POSITIVE, None),
    "power": (lambda x: x**1.5 + 2.0**x, POSITIVE, "pow pow add"),
    "log1p": (lambda x: jnp.log1p(x) + jnp.expm1(x) + jnp.exp2(x), POSITIVE, None),
    "error function": (lambda x: lax.erf(x) + lax.erfc(x), X, None),
    "gelu": (lambda x: jax.nn.gelu(x, approximate=False), X, None),
    "silu": (jax.nn.silu, X, "sigmoid mul"),
    "elu": (jax.nn.elu, X, "clip clip exp sub add"),
    "selu": (jax.nn.selu, X, None),
    "conditions": (
        lambda x: jnp.where(((x >= 0) & ~(x != 1) | (x < 0.5)).reshape(2, 12), x.reshape(2, 12), 2),
        X,
        None,
    ),
    "halves": (
        lambda x: jnp.where(x > 0, x, 0) + 2 * jnp.where(x >= 0, 0, x),
        X,
        "clip clip mul add",
    ),
    "leaky relu": (jax.nn.leaky_relu, X, "mul max"),
    "steep": (lambda x: jnp.where(x > 0, x, x * 2), X, "greater mul where"),
    "counts": (lambda x: ((x != 0) & (x <= 1)).astype(np.float32), X, None),
    "softplus": (jax.nn.softplus, X, "clip abs neg exp add log add"),
    "relu6": (jax.nn.relu6, X, "clip"),
    "clip": (lambda x: jnp.clip(jnp.clip(x, -1, 1), 0.5, 2), X, "clip"),
    "clamp": (lambda x: lax.clamp(-0.5, x, 0.5), X, "clip"),
    "hard swish": (jax.nn.hard_swish, X, None),
    "glu": (jax.nn.glu, X, "slice slice sigmoid mul"),
    "comparisons": (lambda x: jnp.where((x > 0) & ~(x <= 0.5) | (x == X[0, 0, 0]), x, 0), X, None),
    "other comparisons": (lambda x: jnp.where((x >= 0) & (x != 1), x, jnp.exp(x)), X, None),
    "apart": (lambda x: jnp.maximum(x[:, :3], x[:, 2:]), IMAGES, "slice slice max"),
    "largest": (lambda x: jnp.maximum(x, x[:, ::2][:, :1]), X, "slice max"),
    "softmax": (lambda x: jax.nn.softmax(x, 1), X, "softmax"),
    "log softmax": (jax.nn.log_softmax, X, "reduce_max sub exp sum log sub"),
    "log of sums": (lambda x: jax.nn.logsumexp(x, 1), X, None),
    "mean": (lambda x: x.mean((1, 2)), X, "mean"),
    "sums": (
        lambda x: x.sum(1) + x.max(1) * x.min(1),
        X,
        "sum reduce_max neg reduce_max neg mul add",
    ),
    "variance": (lambda x: jnp.var(x, 1, keepdims=True), X, None),
    "casts": (lambda x: (x > 0).astype(int).astype(float) * x, X, None),
    "movements": (
        lambda x: jnp.swapaxes(x, 1, 2).reshape(2, 3, 4)[:, 1:, ::2],
        X,
        "transpose reshape slice",
    ),
    "negative padding": (
        lambda x: lax.pad(x, 0.0, ((0, 0, 0), (-1, 2, 0), (1, -1, 0))),
        X,
        "slice pad",
    ),
    "parts": (
        lambda x: jnp.concatenate(jnp.split(x, 3, 1)[::-1], 1),
        X,
        "slice slice slice concat",
    ),
    "stack": (lambda x: jnp.stack([x, x + 1], 1).sum(1), X, None),
    "tile": (
        lambda x: jnp.tile(x, (1, 2, 1)) + jnp.ones((2, 6, 4)),
        X,
        "reshape broadcast reshape add",
    ),
    "broadcast": (lambda x: jnp.broadcast_to(x[:, :1], (2, 3, 4)) * x, X, "slice mul"),
    "one place": (lambda x: lax.dynamic_slice(x, (0, 5, 1), (2, 2, 2)), X, "slice"),
    "einsum": (lambda x: jnp.einsum("bij,kj->bki", x, X[0]), X, None),
    "general dense": (
        lambda x: jnp.einsum("bij,ijo->bo", x, KERNEL[:, :, 0].repeat(2, 1)),
        X,
        "reshape dense",
    ),
    "attention": (lambda x: jnp.einsum("bij,bkj->bik", x, x + 1), X, "add transpose matmul"),
    "look-up": (looked_up, TOKENS[:, :2] % 3 - 1, "gather"),
    "clipped look-up": (lambda x: looked_up(x, mode="clip"), TOKENS, "max min gather"),
    "bytes": (lambda x: x.astype(np.float32) / 255, np.uint8([[3, 200]]), "cast mul"),
    "convolution": (
        lambda x: conv(x, padding=((1, 2), (-1, 1)), feature_group_count=2),
        IMAGES,
        "slice conv",
    ),
    "dilation": (
        lambda x: conv(x, padding="SAME", rhs_dilation=(2, 2), feature_group_count=2),
        IMAGES,
        "conv",
    ),
    "sequence": (sequence, X, "reshape conv reshape"),
    "scan": (
        lambda x: lax.scan(lambda c, y: (c + y, c * y), x[:, 0], x.swapaxes(0, 1))[1].swapaxes(
            0, 1
        ),
        X,
        None,
    ),
    "reversed": (lambda x: x[:, ::-1], X, "slice slice slice concat"),
    "known places": (lambda x: x[:, np.array([[0, 2], [4, 1]])], IMAGES, None),
    "nearest": (
        lambda x: jax.image.resize(x, (2, 10, 18, 4), "nearest"),
        IMAGES,
        "reshape broadcast reshape broadcast reshape",
    ),
    "nearest, by halves": (lambda x: jax.image.resize(x, (2, 8, 4, 4), "nearest"), IMAGES, None),
    "bilinear": (
        lambda x: jax.image.resize(x, (2, 10, 12, 4), "bilinear"),
        IMAGES,
        "transpose dense transpose dense transpose",
    ),
    "margins of an image": (
        lambda x: jnp.pad(x, ((0, 0), (1, 2), (2, 1), (0, 0)), mode="reflect"),
        IMAGES,
        None,
    ),
    "apart from each other": (
        lambda x: lax.pad(x, 0.0, ((0, 0, 0), (1, -1, 2), (0, 0, 1))),
        X,
        None,
    ),
    "transposed": (
        lambda x: conv(x, padding=((2, 1), (-1, 2)), lhs_dilation=(2, 3), feature_group_count=2),
        IMAGES,
        None,
    ),
    "rematerialised": (lambda x: jax.checkpoint(lambda y: y * 2)(x), X, "mul"),
    "shuffle": (lambda x: shuffle(x, 2), IMAGES, "channel_shuffle"),
    "padded convolution": (
        lambda x: conv(
            jnp.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0))), padding="VALID", feature_group_count=2
        ),
        IMAGES,
        "conv",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_primitives(case):
    function, inputs, kinds = CASES[case]
    graph = deploy.graph(lambda variables, x: function(x), {}, inputs)
    (ours,), theirs = in_numpy.run(graph, inputs), function(jnp.asarray(inputs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    json.dumps([dict(node.attributes) for node in graph.nodes])  # has no numbers of numpy
    found = [node.operation for node in graph.nodes]
    assert set(found) <= OPERATIONS.keys()
    assert kinds is None or sorted(found) == sorted(kinds.split())


def test_jax_evaluates_every_operation_as_numpy_does():
    """One compilation for all cases; between them they have every operation."""
    graphs = [deploy.graph(lambda _, x, f=f: f(x), {}, x) for f, x, _ in CASES.values()]
    graphs += [deploy.graph(lambda _, x: layers.average_pool(layers.max_pool(x)), {}, IMAGES)]
    inputs = [x for _, x, _ in CASES.values()] + [IMAGES]
    assert {node.operation for graph in graphs for node in graph.nodes} == OPERATIONS.keys()
    ours = jax.jit(lambda xs: [evaluate.outputs(g, x) for g, x in zip(graphs, xs, strict=True)])(
        inputs
    )
    for graph, one, x in zip(graphs, ours, inputs, strict=True):
        np.testing.assert_allclose(one, in_numpy.run(graph, x)[0], rtol=1e-4, atol=1e-5)


def brute(x, size, strides, padding, fill, reduce):
    """Windows one by one."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=fill)
    high, wide = ((n - size) // strides + 1 for n in x.shape[1:3])
    rows = [
        [
            reduce(x[:, i * strides :][:, :size, j * strides :][:, :, :size], (1, 2))
            for j in range(wide)
        ]
        for i in range(high)
    ]
    return np.moveaxis(np.array(rows), 2, 0)


@settings(max_examples=30)
@given(
    size=st.integers(2, 5),
    strides=st.integers(1, 3),
    padding=st.integers(0, 1),
    sides=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    channels=st.integers(1, 2),
    largest=st.booleans(),
)
def test_our_pooling_is_one_operation(size, strides, padding, sides, channels, largest):
    x = np.random.default_rng(size).normal(size=(1, *sides, channels)).astype(np.float32)
    pool = layers.max_pool if largest else layers.average_pool
    graph = deploy.graph(lambda _, x: pool(x, size, strides, padding), {}, x)
    fill, reduce = (-np.inf, np.max) if largest else (0, np.mean)
    expected = brute(x, size, strides, padding, fill, reduce)
    np.testing.assert_allclose(in_numpy.run(graph, x)[0], expected, rtol=1e-5, atol=1e-6)
    assert [n.operation for n in graph.nodes] == ["max_pool" if largest else "average_pool"]
    assert graph.nodes[0].attributes == {
        "window": (size, size),
        "strides": (strides, strides),
        "padding": ((padding, padding),) * 2,
    }


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("padding", ["SAME", ((1, 0), (0, 1))])
def test_pooling_of_flax_is_one_operation(largest, padding):
    pool = nn.max_pool if largest else nn.avg_pool
    graph = deploy.graph(lambda _, x: pool(x, (3, 2), (2, 1), padding), {}, IMAGES)
    assert [n.operation for n in graph.nodes] == ["max_pool" if largest else "average_pool"]
    theirs = pool(jnp.asarray(IMAGES), (3, 2), (2, 1), padding)
    np.testing.assert_allclose(in_numpy.run(graph, IMAGES)[0], theirs, rtol=1e-5, atol=1e-6)


def test_means_of_windows_without_their_margins():
    def pool(x):
        return nn.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False)

    graph = deploy.graph(lambda _, x: pool(x), {}, IMAGES)
    assert [n.operation for n in graph.nodes] == ["average_pool", "mul"]
    theirs = pool(jnp.asarray(IMAGES))
    np.testing.assert_allclose(in_numpy.run(graph, IMAGES)[0], theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sides", [(6, 6), (5, 6), (7, 7), (8, 3)])
def test_a_last_row_that_is_repeated_is_a_margin(sides):
    x = np.random.default_rng(0).normal(size=(1, *sides, 2)).astype(np.float32)
    graph = deploy.graph(lambda _, x: overlapping_max_pool(x), {}, x)
    assert [n.operation for n in graph.nodes] == ["max_pool"]
    np.testing.assert_array_equal(
        np.float32(in_numpy.run(graph, x)[0]), overlapping_max_pool(jnp.asarray(x))
    )


AFFINE = {
    "add": lambda x, c: x + c,
    "sub": lambda x, c: x - c,
    "from": lambda x, c: c - x,
    "mul": lambda x, c: x * c,
    "div": lambda x, c: x / c,
    "neg": lambda x, c: -x,
}
number = st.sampled_from([-2.0, -0.5, 0.25, 1.0, 3.0])
step = st.tuples(
    st.sampled_from(sorted(AFFINE)), st.one_of(number, st.tuples(number, number, number))
)


def chained(x, steps):
    for name, constant in steps:
        value = np.asarray(constant, np.float32)
        x = AFFINE[name](x, value[None] if value.ndim else value)
    return x


@settings(max_examples=30)
@given(steps=st.lists(step, max_size=6), after=st.booleans())
def test_affine_maps_become_part_of_the_layer_before_them(steps, after):
    x, kernel = X[0], KERNEL[0, :, 0, :3].repeat(2, 0)

    def network(variables, x):
        x = x @ variables["fc"]["kernel"]
        return chained(jnp.maximum(x, 0) if after else x, steps)

    graph = deploy.graph(network, {"fc": {"kernel": kernel}}, x)
    product = x.astype(float) @ kernel
    expected = chained(np.maximum(product, 0) if after else product, steps)
    np.testing.assert_allclose(in_numpy.run(graph, x)[0], expected, rtol=1e-5, atol=1e-4)
    kinds = [node.operation for node in graph.nodes]
    assert kinds == ["dense"] if not after else len(kinds) <= 3


def test_a_value_that_others_read_is_not_folded():
    def network(variables, x):
        x = x @ variables["kernel"] * 2
        return x + 1, jax.nn.relu(x)

    graph = deploy.graph(network, {"kernel": KERNEL[0, :, 0, :3].repeat(2, 0)}, X[0])
    assert [node.operation for node in graph.nodes] == ["dense", "add", "clip"]
    assert graph.outputs == ("logits_0", "logits_1")


def small():
    def network(variables, x):
        first = nn.relu(conv(x, padding="SAME", feature_group_count=2))
        return layers.global_average(first + first * 2) @ variables["head"]["kernel"]

    return deploy.graph(network, {"head": {"kernel": np.ones((6, 3), np.float32)}}, IMAGES)


def test_the_table_counts_by_hand():
    lines = table.table(small()).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["conv"][-3:] == ["2×3×6×6", f"{2 * 3 * 6 * 6 * 3 * 2 * 2:,}", str(KERNEL.size + 6)]
    assert rows["dense"] == ["logits", "2×3", str(2 * 3 * 6), "21"]
    assert rows["total"][-2:] == [f"{2 * 3 * 6 * 6 * 12 + 36:,}", str(KERNEL.size + 6 + 1 + 21)]
    assert max(map(len, lines)) <= 80


def test_long_names_take_several_lines_of_the_table():
    kernel = {
        "encoder_with_a_long_name": {
            "another_long_name": {"and_the_last": {"kernel": KERNEL[0, :, 0]}}
        }
    }
    path = "encoder_with_a_long_name/another_long_name/and_the_last"

    def network(variables, x):
        for name in path.split("/"):
            variables = variables[name]
        return jnp.tanh(x @ variables["kernel"])

    lines = table.table(deploy.graph(network, kernel, X[0, :, :2])).splitlines()
    assert max(map(len, lines)) <= 80
    start, end = lines[0].index("name"), lines[0].index("output")
    assert path in "".join(line[start:end].strip() for line in lines[2:])


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_picture_names_every_operation(tmp_path, suffix):
    graph = small()
    file = picture.picture(graph, tmp_path / "there" / f"a{suffix}")
    assert file.stat().st_size > 1000
    if suffix == ".svg":
        text = file.read_text()
        assert all(f"<!-- {name} -->" in text for name in ("input", "mean", "logits"))
