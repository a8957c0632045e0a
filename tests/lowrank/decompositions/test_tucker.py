"""`lowrank.decompositions.tucker` against TensorLy, numpy's SVD, and `jax.lax`'s convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorly.decomposition import partial_tucker
from tensorly.tenalg import multi_mode_dot

from lowrank.decompositions import tucker
from tests.lowrank import convolutions, tensors

TWENTY = tensors.twenty()
RANKS = {3: (3, 4, 3), 4: (2, 2, 4, 5)}


def _tensor(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def _relative(tensor, made):
    return np.linalg.norm(tensor - np.asarray(made)) / np.linalg.norm(tensor)


def _made(core, factors):
    """The mode products one by one, in numpy."""
    core = np.asarray(core)
    for mode, factor in enumerate(factors):
        if factor is not None:
            core = np.moveaxis(np.moveaxis(core, mode, -1) @ np.asarray(factor).T, -1, mode)
    return core


@pytest.mark.parametrize(("name", "tensor"), [case[:2] for case in TWENTY])
def test_no_worse_than_tensorly_from_the_hosvd_in_as_many_sweeps(name, tensor):
    ranks = RANKS[tensor.ndim]
    ours = tucker.decompose(tensor, ranks, 20)
    start = tucker.decompose(tensor, ranks, 0)
    (core, factors), _ = partial_tucker(tensor.astype("f8"), ranks, n_iter_max=20, tol=0)
    theirs = _relative(tensor, multi_mode_dot(core, factors))
    assert float(ours.error) <= theirs + 2e-3
    assert float(ours.error) <= float(start.error) + 1e-6  # HOOI improves on the HOSVD
    np.testing.assert_allclose(ours.error, _relative(tensor, _made(*ours[:2])), atol=1e-6)


@given(
    shape=st.sampled_from([(5, 4), (3, 6, 4), (2, 3, 3, 4)]),
    ranks=st.sampled_from([(2, 3, 2, 2), (1, 1, 1, 1), (2, None, 3, None), (None,) * 4]),
    seed=st.integers(0, 99),
)
def test_shapes_orthonormal_factors_and_the_bound_of_the_hosvd(shape, ranks, seed):
    ranks = ranks[: len(shape)]
    tensor = _tensor(shape, seed)
    core, factors, error = tucker.decompose(tensor, ranks)
    assert core.shape == tuple(r or n for r, n in zip(ranks, shape, strict=True))
    lost = 0.0  # De Lathauwer et al.: error² is at most the sum of all unfoldings' dropped σ²
    for mode, (rank, factor) in enumerate(zip(ranks, factors, strict=True)):
        assert (factor is None) == (rank is None)
        if rank is not None:
            np.testing.assert_allclose(factor.T @ factor, np.eye(rank), atol=1e-5)
            unfolded = np.moveaxis(tensor, mode, 0).reshape(shape[mode], -1)
            lost += np.sum(np.linalg.svd(unfolded, compute_uv=False)[rank:] ** 2)
    assert float(error) <= np.sqrt(lost) / np.linalg.norm(tensor) + 1e-6
    np.testing.assert_allclose(error, _relative(tensor, _made(core, factors)), atol=1e-6)
    np.testing.assert_allclose(tucker.reconstruct(core, factors), _made(core, factors), atol=1e-5)


def test_order_two_is_the_svd():
    matrix = _tensor((6, 5))
    sigma = np.linalg.svd(matrix, compute_uv=False)
    error = tucker.decompose(matrix, (2, 2)).error
    np.testing.assert_allclose(error, np.linalg.norm(sigma[2:]) / np.linalg.norm(sigma), rtol=1e-5)


def test_exact_at_the_tensors_own_ranks_and_at_full_ones():
    core = _tensor((2, 3, 2))
    tensor = _made(core, [_tensor((n, r), n) for n, r in zip((6, 7, 8), core.shape, strict=True)])
    assert float(tucker.decompose(tensor, core.shape).error) < 2e-6
    assert float(tucker.decompose(_tensor((6, 4, 3)), (6, 4, 3)).error) < 2e-6


def test_more_rank_than_the_other_modes_can_fill_still_gives_an_orthonormal_factor():
    core, factors, error = tucker.decompose(_tensor((6, 2, 2)), (6, 2, 2))
    assert core.shape == (6, 2, 2)
    np.testing.assert_allclose(factors[0].T @ factors[0], np.eye(6), atol=1e-5)
    assert float(error) < 2e-6


def test_zero_has_error_zero():
    core, factors, error = tucker.decompose(np.zeros((3, 4, 5)), (2, 2, 2))
    assert float(error) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((core, factors)))


def test_under_vmap_as_alone():
    tensor = np.stack([_tensor((3, 6, 4), seed) for seed in range(3)])
    mapped = jax.vmap(lambda t: tucker.decompose(t, (2, 3, 2)))(tensor)
    for r in range(3):
        alone = tucker.decompose(tensor[r], (2, 3, 2))
        np.testing.assert_allclose(mapped.error[r], alone.error, atol=1e-5)
        factors = [factor[r] for factor in mapped.factors]
        np.testing.assert_allclose(
            _made(mapped.core[r], factors), _made(alone.core, alone.factors), atol=1e-4
        )


def test_dtypes():
    tensor = _tensor((3, 6, 4))
    short = tucker.decompose(jnp.asarray(tensor, jnp.bfloat16), (2, 3, 2))
    assert {leaf.dtype for leaf in jax.tree.leaves(short)} == {np.dtype("f4")}
    with jax.enable_x64(True):
        long = tucker.decompose(tensor.astype("f8"), (3, 6, 4))
        assert {leaf.dtype for leaf in jax.tree.leaves(long)} == {np.dtype("f8")}
        assert float(long.error) < 1e-14


@pytest.mark.parametrize(("strides", "padding"), convolutions.CASES)
def test_the_three_convolve_as_the_kernel_they_make_up(strides, padding):
    kernel, inputs = _tensor((3, 3, 4, 5)), convolutions.images(4)
    for ranks in ((2, 3), (4, 5)):
        first, core, last, error = tucker.kernels(kernel, *ranks)
        made = np.einsum("ia,hwab,bo->hwio", first[0, 0], core, last[0, 0])
        outputs = convolutions.conv(inputs, first, (1, 1), "VALID")
        outputs = convolutions.conv(outputs, core, strides, padding)
        outputs = convolutions.conv(outputs, last, (1, 1), "VALID")
        want = convolutions.conv(inputs, made, strides, padding)
        np.testing.assert_allclose(outputs, want, atol=1e-4)
        np.testing.assert_allclose(error, _relative(kernel, made), atol=1e-6)
    np.testing.assert_allclose(
        outputs, convolutions.conv(inputs, kernel, strides, padding), atol=1e-4
    )  # at full rank


def test_bad_input_is_refused_in_one_line():
    for tensor, ranks, message in (
        (_tensor(6), (2,), "order 2 or more"),
        (_tensor((3, 4)), (2, 2, 2), "3 ranks for a tensor of shape"),
        (_tensor((3, 4)), (0, 2), "rank 0 is outside 1…3"),
        (_tensor((3, 4)), (2, 5), r"rank 5 is outside 1…4, the ranks of mode 1 \(4\)"),
        (np.full((3, 4), np.nan), (2, 2), "not finite"),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            tucker.decompose(tensor, ranks)
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="iterations=-1"):
        tucker.decompose(_tensor((3, 4)), (2, 2), -1)
