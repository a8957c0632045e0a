"""`lowrank.decompositions.svd` against numpy's SVD, closed forms, and `jax.lax`'s convolutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowrank.decompositions import svd
from tests.lowrank import convolutions

SHAPES = ((1, 6), (6, 4), (4, 5))  # few: each compiles
DECOMPOSE = {
    "exact": svd.decompose,
    "randomized": functools.partial(svd.decompose_randomized, jax.random.key(0)),
    "outputs": lambda matrix, rank: svd.decompose_outputs(matrix, np.eye(len(matrix)), rank),
}


def _matrix(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def _optimum(matrix, rank):
    """Eckart & Young: error² is the sum of dropped σ²."""
    sigma = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)
    return np.sqrt(np.sum(sigma[rank:] ** 2) / np.sum(sigma**2))


@pytest.mark.parametrize("name", DECOMPOSE)
class TestContract:
    @given(shape=st.sampled_from(SHAPES), rank=st.integers(1, 3), seed=st.integers(0, 99))
    def test_the_error_is_the_optimum_and_that_of_the_product(self, name, shape, rank, seed):
        matrix, rank = _matrix(shape, seed), min(rank, *shape)
        left, right, error = DECOMPOSE[name](matrix, rank)
        assert (left.shape, right.shape) == ((shape[0], rank), (rank, shape[1]))
        residual = np.linalg.norm(matrix - np.asarray(left) @ np.asarray(right))
        np.testing.assert_allclose(error, residual / np.linalg.norm(matrix), atol=1e-6)
        np.testing.assert_allclose(error, _optimum(matrix, rank), atol=2e-6)

    def test_both_sides_carry_the_root_of_the_singular_values(self, name):
        matrix = _matrix((6, 4))
        left, right, _ = DECOMPOSE[name](matrix, 3)
        sigma = np.linalg.svd(matrix, compute_uv=False)[:3]
        np.testing.assert_allclose(np.linalg.norm(left, axis=0) ** 2, sigma, rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(right, axis=1) ** 2, sigma, rtol=1e-5)

    def test_zero_has_error_zero_and_finite_factors(self, name):
        left, right, error = DECOMPOSE[name](np.zeros((6, 4)), 3)
        assert float(error) == 0
        assert np.isfinite([*np.ravel(left), *np.ravel(right)]).all()

    def test_under_vmap_as_alone(self, name):
        matrices = np.stack([_matrix((6, 4), seed) for seed in range(3)])
        mapped = jax.vmap(lambda m: DECOMPOSE[name](m, 3))(matrices)
        for r, matrix in enumerate(matrices):
            left, right, error = DECOMPOSE[name](matrix, 3)
            np.testing.assert_allclose(mapped.left[r] @ mapped.right[r], left @ right, atol=1e-5)
            np.testing.assert_allclose(mapped.error[r], error, atol=1e-6)

    def test_dtypes(self, name):
        matrix = _matrix((6, 4))
        short = DECOMPOSE[name](jnp.asarray(matrix, jnp.bfloat16), 3)
        assert {leaf.dtype for leaf in short} == {np.dtype("f4")}
        with jax.enable_x64(True):
            long = DECOMPOSE[name](matrix.astype("f8"), 4)
            assert {leaf.dtype for leaf in long} == {np.dtype("f8")}
            assert float(long.error) < 1e-14

    def test_bad_input_is_refused_in_one_line(self, name):
        for matrix, rank, message in (
            (_matrix((6, 4)), 0, "rank 0 is outside 1…4"),
            (_matrix((6, 4)), 5, "rank 5 is outside 1…4"),
            (_matrix((6, 4)), 2.5, "integer"),
            (np.where(np.eye(6, 4), 1, np.nan), 2, "20 of 24 entries of the matrix are not finite"),
            (np.zeros((3, 4)) * 1j, 2, "real"),
        ):
            with pytest.raises(ValueError, match=message) as refused:
                DECOMPOSE[name](matrix, rank)
            assert "\n" not in str(refused.value)
        with pytest.raises(ValueError, match="2 axes"):
            svd.decompose(_matrix((6,)), 1)
        with pytest.raises(ValueError, match="empty"):
            svd.decompose(_matrix((0, 4)), 1)


def test_tiny_and_huge_entries_neither_vanish_nor_overflow():
    for scale in (1e-30, 1e30):
        matrix = _matrix((6, 4))
        np.testing.assert_allclose(
            svd.decompose(matrix * np.float32(scale), 2).error, _optimum(matrix, 2), rtol=1e-4
        )


def test_the_gradient_is_that_of_finite_differences():
    matrix, toward = _matrix((6, 4)), _matrix((6, 4), 1)

    def kept(m):
        left, right, error = svd.decompose(m, 2)
        return jnp.sum(toward * (left @ right)) + error

    with jax.enable_x64(True):
        m, d = matrix.astype("f8"), _matrix((6, 4), 2).astype("f8")
        slope = (kept(m + 1e-6 * d) - kept(m - 1e-6 * d)) / 2e-6
        np.testing.assert_allclose(np.sum(jax.grad(kept)(m) * d), slope, rtol=1e-6)


def test_iterations_bring_the_sketch_to_the_optimum():
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.normal(size=(n, 60)))[0] for n in (120, 90))
    matrix = (u * np.arange(1, 61) ** -0.7) @ v.T  # slow decay: the hard case
    errors = [
        float(svd.decompose_randomized(jax.random.key(1), matrix, 10, 5, q).error)
        for q in (0, 1, 4)
    ]
    best = _optimum(matrix, 10)
    assert best - 1e-6 <= errors[2] < 1.002 * best
    assert errors[2] < errors[1] < errors[0] < 1.3 * best


def test_the_sketch_depends_on_its_key_alone():
    matrix = _matrix((30, 20))
    first, again, other = (
        svd.decompose_randomized(jax.random.key(k), matrix, 3, 2, 0).left for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_negative_number_of_iterations_is_refused():
    with pytest.raises(ValueError, match="iterations=-1"):
        svd.decompose_randomized(jax.random.key(0), _matrix((6, 4)), 2, iterations=-1)


class TestOutputs:
    def _outputs_optimum(self, matrix, inputs, rank):
        """‖X W − best rank K‖: no factorisation does better, and X W's row space attains it."""
        return _optimum(np.asarray(inputs, np.float64) @ matrix, rank)

    @pytest.mark.parametrize("examples", [40, 3])  # 3: a covariance of rank 3 in 6 dimensions
    def test_no_factorisation_has_nearer_outputs(self, examples):
        matrix = _matrix((6, 5))
        inputs = _matrix((examples, 6), 1) * np.float32([10, 3, 1, 1, 0.1, 0])
        for rank in (1, 2, 4):
            left, right, error = svd.decompose_outputs(matrix, inputs, rank)
            best = self._outputs_optimum(matrix, inputs, rank)
            np.testing.assert_allclose(error, best, atol=1e-5)
            residual = np.linalg.norm(inputs @ (matrix - left @ right))
            np.testing.assert_allclose(error, residual / np.linalg.norm(inputs @ matrix), atol=1e-6)
            plain = svd.decompose(matrix, rank)
            theirs = np.linalg.norm(inputs @ (matrix - plain.left @ plain.right))
            assert residual <= theirs + 1e-5

    def test_where_inputs_say_nothing_the_matrix_decides(self):
        matrix = _matrix((6, 5))
        inputs = np.zeros((4, 6), "f4")
        inputs[:, 0] = 1  # one direction
        left, right, error = svd.decompose_outputs(matrix, inputs, 3)
        assert float(error) < 1e-5
        rest = matrix - left @ right
        # the first row is held by one direction; the two others are the best for what remains
        row = matrix[:1] / np.linalg.norm(matrix[0])
        remains = matrix - matrix @ row.T @ row
        sigma = np.linalg.svd(remains, compute_uv=False)
        np.testing.assert_allclose(np.linalg.norm(rest), np.linalg.norm(sigma[2:]), rtol=1e-3)

    def test_inputs_of_zeros_fall_back_on_the_matrix(self):
        matrix = _matrix((6, 5))
        left, right, error = svd.decompose_outputs(matrix, np.zeros((4, 6)), 2)
        assert float(error) == 0
        error = np.linalg.norm(matrix - left @ right) / np.linalg.norm(matrix)
        np.testing.assert_allclose(error, _optimum(matrix, 2), atol=1e-5)

    def test_inputs_that_do_not_fit_are_refused(self):
        with pytest.raises(ValueError, match="do not fit"):
            svd.decompose_outputs(_matrix((6, 5)), _matrix((4, 5)), 2)
        with pytest.raises(ValueError, match="inputs are not finite"):
            svd.decompose_outputs(_matrix((6, 5)), np.full((4, 6), np.nan), 2)


@pytest.mark.parametrize("size", [3, 1])
@pytest.mark.parametrize(("strides", "padding"), convolutions.CASES)
def test_kernels_convolve_as_the_kernel_they_make_up(size, strides, padding):
    kernel = _matrix((size, size, 3, 5))
    inputs = convolutions.images(3)
    for rank in (2, min(5, size * size * 3)):
        first, last, error = svd.kernels(kernel, rank)
        made = np.einsum("hwik,ko->hwio", first, last[0, 0])
        outputs = convolutions.conv(inputs, first, strides, padding)
        outputs = convolutions.conv(outputs, last, (1, 1), "VALID")
        want = convolutions.conv(inputs, made, strides, padding)
        np.testing.assert_allclose(outputs, want, atol=1e-4)
        np.testing.assert_allclose(
            error, np.linalg.norm(kernel - made) / np.linalg.norm(kernel), atol=1e-6
        )
    np.testing.assert_allclose(
        outputs, convolutions.conv(inputs, kernel, strides, padding), atol=1e-4
    )  # at full rank


@pytest.mark.parametrize(("shape", "examples"), [((6, 4), 30), ((4, 9), 30), ((6, 4), 3)])
def test_errors_of_outputs_at_all_ranks_are_those_of_each(shape, examples):
    matrix, inputs = _matrix(shape), _matrix((examples, shape[0]), 1)
    errors = svd.output_errors(matrix, inputs)
    assert errors.shape == (min(shape),)
    for rank in (1, 2, min(shape)):
        want = svd.decompose_outputs(matrix, inputs, rank).error
        np.testing.assert_allclose(errors[rank - 1], want, atol=1e-5)
    np.testing.assert_array_equal(svd.output_errors(0 * matrix, inputs), 0)
    with pytest.raises(ValueError, match="do not fit"):
        svd.output_errors(matrix, inputs[:, 1:])
