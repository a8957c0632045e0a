"""Products of matrices on the CPU: which ones oneDNN computes, and what comes out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export, lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from groundwork.architectures.cpu import library, products
from groundwork.architectures.cpu.convolution import computed_by
from tests.groundwork.architectures.cpu.onednn import decide_again, needs_onednn, text


@pytest.fixture
def with_bfloat16(monkeypatch):
    """As on a CPU that multiplies bfloat16, and with every product large enough."""
    monkeypatch.setattr(products, "has_bfloat16", lambda: library.load() is not None)
    monkeypatch.setattr(products, "LEAST", 1)


def half(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.bfloat16)


def calls(function, *arguments, platform="cpu"):
    return text(function, *arguments, platform=platform).count(f"@{products.TARGET}(")


def assert_near(ours, *operands, by):
    wide = [np.asarray(x, np.float64) for x in operands]
    exact = np.einsum(by, *wide)
    # a rounding of the result, and one of each sum in float32 of products that are exact in it
    most = 2.0**-8 * np.abs(exact) + 1e-5 * np.einsum(by, *map(np.abs, wide))
    assert ours.shape == exact.shape
    assert (np.abs(np.asarray(ours, np.float64) - exact) <= most).all()


@needs_onednn
@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3),
    *[st.integers(1, 40)] * 3,
    st.booleans(),
    st.booleans(),
    st.sampled_from(["bfloat16", "float32"]),
)
def test_products_beside_float64(pairs, rows, inner, columns, left, right, dtype):
    one = products.Product(
        (16, 8 * jnp.dtype(dtype).itemsize), pairs, (rows, inner, columns), (left, right)
    )
    x = half(1, pairs, *((inner, rows) if left else (rows, inner)))
    y = half(2, pairs, *((columns, inner) if right else (inner, columns)))
    if not library.product(tuple(one.descriptor().tolist())):
        return
    shape = jax.ShapeDtypeStruct((pairs, rows, columns), dtype)
    ours = jax.ffi.ffi_call(products.TARGET, shape)(x, y, descriptor=one.descriptor())
    by = f"g{'km' if left else 'mk'},g{'nk' if right else 'kn'}->gmn"
    assert_near(ours, x, y, by=by)


SHAPES = {  # a product's subscripts, its shapes, and what it is, by hand
    "dense": ("mk,kn->mn", (5, 3), (3, 7), (1, (5, 3, 7), (False, False))),
    "weights' gradient": ("km,kn->mn", (5, 3), (5, 7), (1, (3, 5, 7), (True, False))),
    "inputs' gradient": ("mk,nk->mn", (5, 7), (3, 7), (1, (5, 7, 3), (False, True))),
    "of sequences": ("lmk,kn->lmn", (2, 5, 3), (3, 7), (1, (10, 3, 7), (False, False))),
    "their gradient": ("lkm,lkn->mn", (2, 5, 3), (2, 5, 7), (1, (3, 10, 7), (True, False))),
    "mapped": ("gmk,gkn->gmn", (4, 5, 3), (4, 3, 7), (4, (5, 3, 7), (False, False))),
    "attention": (
        *("ghmk,ghnk->ghmn", (2, 4, 5, 3), (2, 4, 7, 3)),
        (8, (5, 3, 7), (False, True)),
    ),
    "a vector": ("k,kn->n", (3,), (3, 7), (1, (1, 3, 7), (True, False))),
    "batches that lie inside": ("mgk,gkn->gmn", (5, 4, 3), (4, 3, 7), None),
    "contracted in the middle": ("mkl,kn->mln", (5, 3, 4), (3, 7), None),
    "contracted in another order": ("mkl,lkn->mn", (5, 3, 4), (4, 3, 7), None),
    "nothing": ("mk,kn->mn", (0, 3), (3, 7), None),
}


def numbers_of(by):
    """The dimension numbers of a product whose result has all batches first."""
    left, right, result = by.replace("->", ",").split(",")
    both = [letter for letter in left if letter in right]
    inner = [letter for letter in both if letter not in result]
    batch = [letter for letter in both if letter in result]
    return tuple(
        tuple(tuple(map(side.index, letters)) for side in (left, right))
        for letters in (inner, batch)
    )


@needs_onednn
@pytest.mark.parametrize("name", SHAPES)
def test_what_is_a_product_of_matrices(with_bfloat16, name):
    by, left, right, expected = SHAPES[name]
    x, y, numbers = half(1, *left), half(2, *right), numbers_of(by)

    def run(x, y):
        return lax.dot_general(x, y, numbers)

    result = jax.eval_shape(run, x, y)
    found = products.product(x, y, result, numbers)
    assert found == (expected and products.Product((16, 16), *expected))
    assert calls(run, x, y) == bool(expected)
    assert_near(jax.jit(run)(x, y), x, y, by=by)


@needs_onednn
def test_a_training_step_of_replicates_in_a_loop(with_bfloat16):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(16, dtype=jnp.bfloat16)(x))
            return nn.Dense(3, dtype=jnp.bfloat16)(x).astype(jnp.float32)

    x = np.random.default_rng(0).normal(size=(2, 8, 12)).astype(np.float32)
    variables = jax.vmap(Net().init)(jax.random.split(jax.random.key(0), 2), x)

    def loss(variables, x):
        return (Net().apply(variables, x) ** 2).mean()

    def train(variables, x):
        def step(variables, _):
            slope = jax.vmap(jax.grad(loss))(variables, x)
            return jax.tree.map(lambda w, g: w - 0.1 * g, variables, slope), None

        return lax.scan(step, variables, length=3)[0]

    assert calls(train, variables, x) == 5  # two forward, two of weights, one of inputs
    ours = jax.jit(train)(variables, x)
    again = jax.jit(train)(variables, x)
    products.has_bfloat16 = lambda: False  # the fixture puts it back
    jax.clear_caches()
    theirs = jax.jit(train)(variables, x)
    for one, same, other in zip(*map(jax.tree.leaves, (ours, again, theirs)), strict=True):
        assert np.array_equal(one, same)
        np.testing.assert_allclose(one, other, rtol=0, atol=0.01 * np.abs(other).max())


@needs_onednn
def test_what_stays_xlas(with_bfloat16, monkeypatch):
    x, y = half(1, 8, 8), half(2, 8, 8)

    def run(x, y):
        return x @ y

    assert calls(run, x, y) == 1
    assert calls(run, x.astype("float32"), y.astype("float32")) == 0
    assert calls(run, x.astype("float16"), y.astype("float16")) == 0
    for platform in ("cuda", "tpu"):
        assert calls(run, x, y, platform=platform) == 0
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2], axis_types=(kind,))
        split = jax.device_put(x, NamedSharding(mesh, P("data")))
        assert calls(run, split, y) == 0
        np.testing.assert_array_equal(jax.jit(run)(split, y), np.asarray(x @ y))
    monkeypatch.setattr(products, "LEAST", 8**3 + 1)
    assert calls(lambda x, y: x @ y, x, y) == 0


@needs_onednn
def test_what_is_exported_calls_nothing_of_ours(with_bfloat16):
    x = half(1, 8, 8)
    exported = export.export(jax.jit(lambda x: x @ x))(x)
    assert products.TARGET not in exported.mlir_module()
    again = export.deserialize(exported.serialize())
    np.testing.assert_array_equal(again.call(x), jax.jit(lambda x: x @ x)(x))


@needs_onednn
def test_what_is_no_number_stays_none(with_bfloat16):
    x, y = half(1, 4, 40), half(2, 40, 20)
    x = x.at[1, 3].set(jnp.nan).at[2, 5].set(jnp.inf)
    found = np.asarray(jax.jit(jnp.matmul)(x, y), np.float32)
    assert np.isnan(found[1]).all()
    assert np.array_equal(found[2], np.sign(np.asarray(y[5], np.float32)) * np.inf)
    assert np.isfinite(found[[0, 3]]).all()


@needs_onednn
def test_runs_say_what_computed_them(monkeypatch):
    class Net(nn.Module):
        dtype: str

        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(3, dtype=self.dtype)(x)

    monkeypatch.setattr(products, "has_bfloat16", lambda: True)
    assert computed_by(Net("bfloat16"), (4,)) == library.about()
    assert computed_by(Net("float32"), (4,)) is None
    monkeypatch.setattr(products, "has_bfloat16", lambda: False)
    assert computed_by(Net("bfloat16"), (4,)) is None


def test_without_onednn_products_are_xlas(monkeypatch):
    monkeypatch.setenv(library.SWITCH, "xla")
    decide_again()
    try:
        x, y = half(1, 200, 200), half(2, 200, 200)
        assert not products.has_bfloat16()
        assert calls(jnp.matmul, x, y) == 0
    finally:
        monkeypatch.undo()
        decide_again()
