"""`lowrank.layers`: factorised layers against `jax.lax`, patches and factors against numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundwork.architectures.cpu.convolution import conv_general_dilated
from groundwork.traced.products import Layer
from lowrank.factorization import layers
from lowrank.factorization.layers import METHODS

KEY = jax.random.key(0)
MEMBERS = [(kind, name) for kind, methods in METHODS.items() for name in methods]
CONVS = [name for kind, name in MEMBERS if kind == "Conv"]
KERNELS = {"Dense": [(7, 4), (3, 5)], "Conv": [(3, 3, 2, 5), (2, 3, 4, 3), (1, 1, 3, 4)]}
FULL = {  # of those kernels, by hand
    ("Dense", "svd"): [4, 3],
    ("Dense", "svd_outputs"): [4, 3],
    ("Conv", "svd"): [5, 3, 3],
    ("Conv", "svd_outputs"): [5, 3, 3],
    ("Conv", "spatial"): [6, 8, 3],
    ("Conv", "tucker"): [(2, 5), (4, 3), (3, 4)],
    ("Conv", "cp"): [18, 18, 3],
}
LAYOUT = ("NHWC", "HWIO", "NHWC")


def _shapes(kind, name, kernel, rank):
    """Of the kernels of all stages, in order."""
    if kind == "Dense":
        return {"left": (kernel[0], rank), "right": (rank, kernel[1])}
    height, width, inputs, outputs = kernel
    if name == "spatial":
        return {
            "vertical": (height, 1, inputs, rank),
            "horizontal": (1, width, rank, outputs),
        }
    if name == "tucker":
        return {
            "first": (1, 1, inputs, rank[0]),
            "core": (height, width, *rank),
            "last": (1, 1, rank[1], outputs),
        }
    if name == "cp":
        return {
            "first": (1, 1, inputs, rank),
            "vertical": (height, 1, 1, rank),
            "horizontal": (1, width, 1, rank),
            "last": (1, 1, rank, outputs),
        }
    return {"first": (height, width, inputs, rank), "last": (1, 1, rank, outputs)}


def _product(kind, name, kernels):
    """The kernel that they make up, in numpy."""
    kernels = [np.asarray(kernel, np.float64) for kernel in kernels]
    if kind == "Dense":
        return kernels[0] @ kernels[1]
    formula = {
        "spatial": "hxik,xwko->hwio",
        "tucker": "xyia,hwab,xybo->hwio",
        "cp": "xyik,hxyk,xwyk,xyko->hwio",
    }.get(name, "hwik,xyko->hwio")
    return np.einsum(formula, *kernels)


def _random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def _params(shapes):
    return {name: {"kernel": _random(shape, seed)} for seed, (name, shape) in enumerate(shapes)}


def _layer(kind="Conv", strides=(1, 1), padding="VALID", dilation=(1, 1), **options):
    defaults = {"convolve": conv_general_dilated}
    return Layer("a", kind, strides, padding, dilation, **{**defaults, **options})


def _convolved(layer, inputs, kernel):
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        layer.strides,
        layer.padding,
        rhs_dilation=layer.dilation,
        dimension_numbers=LAYOUT,
    )


PADDINGS = ("SAME", "SAME_LOWER", "VALID", ((2, 0), (1, 3)))


@pytest.mark.parametrize("name", CONVS)
@given(
    kernel=st.sampled_from([(3, 3, 3, 4), (2, 3, 3, 4), (1, 3, 3, 4), (1, 1, 3, 4)]),
    strides=st.sampled_from([(1, 1), (2, 1), (3, 2)]),
    padding=st.sampled_from(PADDINGS),
    dilation=st.sampled_from([(1, 1), (2, 1), (1, 2)]),
    share=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=8)
def test_convolutions_are_those_of_the_kernel_they_make_up(
    name, kernel, strides, padding, dilation, share
):
    method, layer = METHODS["Conv"][name], _layer("Conv", strides, padding, dilation)
    rank = jax.tree.map(lambda full: max(1, round(share * full)), method.full(kernel))
    params = _params(_shapes("Conv", name, kernel, rank).items())
    made = layers.reconstruct(method, params)
    kernels = [leaves["kernel"] for leaves in params.values()]
    np.testing.assert_allclose(made, _product("Conv", name, kernels), rtol=1e-4, atol=1e-4)
    inputs = _random((2, 9, 8, 3), 9)
    want = _convolved(layer, inputs, made)
    outputs = layers.compute(method, layer, params, inputs)
    assert outputs.shape == want.shape
    scale = np.abs(want).max()
    np.testing.assert_allclose(outputs / scale, want / scale, atol=3e-6)


@pytest.mark.parametrize("name", METHODS["Dense"])
@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_matrices_are_those_of_the_kernel_they_make_up(name, lead):
    method, inputs = METHODS["Dense"][name], _random((*lead, 7), 9)
    params = _params(_shapes("Dense", name, (7, 4), 2).items())
    outputs = layers.compute(method, _layer("Dense"), params, inputs)
    kernel = _product("Dense", name, [params["left"]["kernel"], params["right"]["kernel"]])
    np.testing.assert_allclose(outputs, inputs @ kernel, atol=1e-5)
    np.testing.assert_allclose(layers.reconstruct(method, params), kernel, atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
class TestFactors:
    def test_the_largest_rank(self, kind, name):
        ranks = [METHODS[kind][name].full(shape) for shape in KERNELS[kind]]
        assert ranks == FULL[kind, name]

    def test_shapes_and_errors(self, kind, name):
        method = METHODS[kind][name]
        for shape, full in zip(KERNELS[kind][:2], FULL[kind, name], strict=False):
            kernel = jnp.asarray(_random(shape))
            inputs = _random((40, math.prod(shape[:-1])), 1) if method.needs_inputs else None
            for rank in (jax.tree.map(lambda _: 1, full), full):
                changed, worth = layers.factors(method, kernel, rank, KEY, inputs)
                wanted = _shapes(kind, name, shape, rank)
                assert {k: leaves["kernel"].shape for k, leaves in changed.items()} == wanted
                made = _product(kind, name, [changed[key]["kernel"] for key in wanted])
                target = np.asarray(kernel, np.float64)
                if method.needs_inputs:
                    made, target = (inputs @ k.reshape(-1, shape[-1]) for k in (made, target))
                error = np.linalg.norm(made - target) / np.linalg.norm(target)
                np.testing.assert_allclose(worth.error, error, atol=2e-6)
                assert error < 1e-5 if rank == full else 0.1 < error < 1

    def test_the_dtype_stays(self, kind, name):
        method, shape = METHODS[kind][name], KERNELS[kind][0]
        rank = jax.tree.map(lambda full: full, method.full(shape))
        inputs = _random((40, math.prod(shape[:-1])), 1) if method.needs_inputs else None
        kernel = jnp.asarray(_random(shape), jnp.bfloat16)
        changed, _ = layers.factors(method, kernel, rank, KEY, inputs)
        assert {leaves["kernel"].dtype for leaves in changed.values()} == {jnp.dtype("bfloat16")}
        layer = _layer(kind)
        x = jnp.asarray(
            _random((2, 5, 5, shape[2]) if kind == "Conv" else (2, shape[0])), "bfloat16"
        )
        outputs = layers.compute(method, layer, changed, x)
        assert outputs.dtype == jnp.bfloat16
        x, whole = x.astype("f4"), kernel.astype("f4")
        want = _convolved(layer, x, whole) if kind == "Conv" else x @ whole
        np.testing.assert_allclose(outputs.astype("f4"), want, atol=0.05 * np.abs(want).max())


@pytest.mark.parametrize(("kind", "name"), [m for m in MEMBERS if m[1] != "cp"])
def test_replicates_by_vmap(kind, name):
    method, shape = METHODS[kind][name], KERNELS[kind][0]
    rank = jax.tree.map(lambda _: 2, method.full(shape))
    kernels = jnp.stack([_random(shape, seed) for seed in range(2)])
    inputs = _random((40, math.prod(shape[:-1])), 1) if method.needs_inputs else None

    def error(kernel):
        return layers.factors(method, kernel, rank, KEY, inputs)[1].error

    mapped = jax.vmap(error)(kernels)
    np.testing.assert_allclose(mapped, [error(kernel) for kernel in kernels], atol=1e-4)


def test_iterations_have_a_key_and_may_not_have_converged():
    method, kernel = METHODS["Conv"]["cp"], jnp.asarray(_random((3, 3, 4, 5)))
    (first, worth), (again, _), (other, _) = (
        layers.factors(method, kernel, 8, jax.random.key(k)) for k in (0, 0, 1)
    )
    assert not worth.converged  # noise: far from its end
    np.testing.assert_array_equal(first["first"]["kernel"], again["first"]["kernel"])
    assert not np.array_equal(first["first"]["kernel"], other["first"]["kernel"])
    assert layers.factors(method, kernel, 36, KEY)[1].converged
    assert layers.factors(METHODS["Conv"]["svd"], kernel, 3, KEY)[1].converged is True


def test_every_stage_is_computed_as_the_layer_says():
    used = []

    def convolve(x, kernel, strides, padding, **options):
        call = options["precision"], options["feature_group_count"], tuple(strides), padding
        used.append((*call, options["rhs_dilation"]))
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)

    layer = _layer("Conv", (2, 3), ((1, 0), (0, 2)), (1, 2), precision="highest", convolve=convolve)
    params = _params(_shapes("Conv", "cp", (2, 3, 3, 4), 5).items())
    layers.compute(METHODS["Conv"]["cp"], layer, params, _random((2, 9, 8, 3)))
    none = ((0, 0), (0, 0))
    assert used == [
        ("highest", 1, (1, 1), none, (1, 1)),
        ("highest", 5, (2, 1), ((1, 0), (0, 0)), (1, 1)),
        ("highest", 5, (1, 3), ((0, 0), (0, 2)), (1, 2)),
        ("highest", 1, (1, 1), none, (1, 1)),
    ]
    dense = _layer("Dense", precision="highest")
    params = _params(_shapes("Dense", "svd", (7, 4), 2).items())
    traced = jax.make_jaxpr(lambda x: layers.compute(METHODS["Dense"]["svd"], dense, params, x))
    text = str(traced(_random((2, 7))))
    assert text.count("Precision.HIGHEST") == 4  # two products, two operands each


def _patches(layer, size, inputs):
    """[rows, KH·KW·C], by loops."""
    heights, widths = layer.padding
    x = np.pad(inputs, [(0, 0), heights, widths, (0, 0)])
    spans = [(k - 1) * d + 1 for k, d in zip(size, layer.dilation, strict=True)]
    patches = []
    for image in x:
        for top in range(0, image.shape[0] - spans[0] + 1, layer.strides[0]):
            for left in range(0, image.shape[1] - spans[1] + 1, layer.strides[1]):
                window = [
                    image[top + row * layer.dilation[0], left + column * layer.dilation[1]]
                    for row in range(size[0])
                    for column in range(size[1])
                ]
                patches.append(np.concatenate(window))
    return np.array(patches)


@pytest.mark.parametrize("size", [(2, 3), (1, 1)])
@pytest.mark.parametrize(("strides", "dilation"), [((1, 1), (1, 1)), ((2, 1), (1, 2))])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((2, 0), (1, 3))])
def test_rows_are_the_patches(size, strides, dilation, padding):
    layer, inputs = _layer("Conv", strides, padding, dilation), _random((2, 5, 6, 3))
    rows = layers.rows(layer, (*size, 3, 4), jnp.asarray(inputs))
    np.testing.assert_allclose(rows, _patches(layer, size, inputs), atol=1e-6)
    kernel = _random((*size, 3, 4), 1)
    want = _convolved(layer, inputs, kernel).reshape(-1, 4)
    np.testing.assert_allclose(rows @ kernel.reshape(-1, 4), want, atol=1e-5)


def test_rows_of_other_numbers_of_leading_axes():
    inputs, layer = jnp.asarray(_random((2, 2, 4, 4, 3))), _layer("Conv", padding="SAME")
    whole = layers.rows(layer, (3, 3, 3, 1), inputs.reshape(4, 4, 4, 3))
    np.testing.assert_array_equal(layers.rows(layer, (3, 3, 3, 1), inputs), whole)
    alone = layers.rows(layer, (3, 3, 3, 1), inputs[0, 0])
    np.testing.assert_array_equal(alone, whole[: len(alone)])
    matrix = layers.rows(_layer("Dense"), (3, 1), inputs)
    np.testing.assert_array_equal(matrix, inputs.reshape(-1, 3))


def test_of_many_rows_all_columns_are_met(monkeypatch):
    monkeypatch.setattr(layers, "ROWS", 64)
    image = np.broadcast_to(np.arange(8, dtype="f4")[None, None, :, None], (8, 8, 8, 1))
    rows = np.asarray(layers.rows(_layer(), (1, 1, 1, 1), jnp.asarray(image)))  # of 512
    assert rows.shape == (64, 1)
    assert np.bincount(rows[:, 0].astype(int), minlength=8).min() >= 3
    np.testing.assert_array_equal(
        rows, layers.rows(_layer(), (1, 1, 1, 1), jnp.asarray(image))
    )  # always the same
    matrix = np.arange(512, dtype="f4")[:, None]
    chosen = np.asarray(layers.rows(_layer("Dense"), (1, 1), jnp.asarray(matrix)))[:, 0]
    assert len(set(chosen.tolist())) == 64  # none twice
    few = jnp.asarray(matrix[:64])
    np.testing.assert_array_equal(layers.rows(_layer("Dense"), (1, 1), few), few)


def test_selected_patches_are_rows_of_all_patches(monkeypatch):
    layer, inputs = _layer("Conv", padding="SAME"), jnp.asarray(_random((7, 5, 5, 2)))
    whole = np.asarray(layers.rows(layer, (3, 2, 2, 1), inputs))
    monkeypatch.setattr(layers, "ROWS", 60)  # of 175: two images at once, then one
    chosen = np.sort(np.random.default_rng(0).choice(175, 60, replace=False))
    np.testing.assert_array_equal(layers.rows(layer, (3, 2, 2, 1), inputs), whole[chosen])


def test_patches_are_copied_exactly_on_every_backend():
    traced = jax.make_jaxpr(lambda x: layers.rows(_layer(), (2, 2, 3, 4), x))(_random((2, 5, 5, 3)))
    assert "Precision.HIGHEST" in str(traced)


def test_by_outputs_the_error_is_that_of_outputs_and_never_larger():
    layer = _layer("Conv", (2, 1), ((1, 0), (2, 1)), (1, 2))
    kernel, images = _random((3, 2, 3, 6)), _random((4, 8, 7, 3), 1)
    images = images * np.float32([5, 1, 0.1])  # channels that differ: weights alone do not tell
    given_rows = layers.rows(layer, kernel.shape, jnp.asarray(images))
    patches = _patches(layer, (3, 2), images).astype(np.float64)
    want = patches @ kernel.reshape(-1, 6)
    errors = {}
    for name in ("svd", "svd_outputs"):
        method = METHODS["Conv"][name]
        for rank in (1, 3, 5):
            changed, worth = layers.factors(method, kernel, rank, KEY, given_rows)
            outputs = layers.compute(method, layer, changed, images).reshape(-1, 6)
            errors[name, rank] = np.linalg.norm(outputs - want) / np.linalg.norm(want)
            if name == "svd_outputs":
                np.testing.assert_allclose(worth.error, errors[name, rank], rtol=1e-4)
    sigma = np.linalg.svd(want, compute_uv=False)
    for rank in (1, 3, 5):
        best = np.linalg.norm(sigma[rank:]) / np.linalg.norm(sigma)  # no rank does better
        np.testing.assert_allclose(errors["svd_outputs", rank], best, rtol=1e-3)
        assert errors["svd_outputs", rank] < 0.98 * errors["svd", rank]
